"""Blocks about repair, the API, metrics and collecting over HTTP (compensation §10, surfaces §1, E-124).

What belongs here: repair, api, metrics, probes, scrapes. What does not: their effect.
"""

# pydantic copies default lists and dicts per object.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from monitoring_pipelines.config.base import (
    Block,
    Count,
    EnvName,
    Flag,
    Identifier,
    PositiveCount,
    PositiveSeconds,
    Seconds,
    Share,
    SourceId,
    Text,
    Url,
)


class RecovererSettings(Block):
    """One source of lost outputs (compensation §5)."""

    id: Identifier
    kind: Annotated[Text, Field(pattern=r"^\w+$")]
    preset: Literal["runninghub"] | None = None
    #: Where the API is: an environment variable that holds the URL, or the URL itself when it is no secret.
    base_url_env: EnvName | None = None
    base_url: Url | None = None
    api_key_env: EnvName | None = None
    api_key_file: Text | None = None
    allowed_hosts: list[Text] = []
    allow_http: Flag = False
    probe_links: Flag = False
    request: dict[str, Any] = {}
    codes: dict[str, Text] = {}
    table: Text | None = None
    column: Text | None = None
    #: task_event: columns that hold the task's key and the event's type.
    key_column: Text | None = None
    type_column: Text | None = None
    path: Text | None = None
    type: Text | None = None
    regex: Text | None = None
    fields: dict[str, Text] = {}
    placeholder: dict[str, Any] = {}


class AutoApprove(Block):
    """Plans with at most so many rows need no person; 0 = always a person."""

    max_rows: Count = 0


class RepairSettings(Block):
    """Repair of lost outputs (R-xxx)."""

    mode: Literal["only_if_empty", "add_missing"] = "only_if_empty"
    recoverers: list[RecovererSettings] = []
    batch_size: PositiveCount = 100
    batch_pause_s: Seconds = 1
    max_tasks: PositiveCount = 1000
    #: Calls to recoverers per second; null = as fast as they answer.
    rate_per_s: PositiveSeconds | None = 5
    connect_timeout_s: PositiveSeconds = 10
    read_timeout_s: PositiveSeconds = 30
    tries: PositiveCount = 3
    backoff_s: list[Seconds] = [1, 2, 4]
    max_consecutive_transient: PositiveCount = 5
    max_failed_share: Share = 0.20
    max_replica_lag_s: Seconds = 10
    lock_wait_s: PositiveSeconds = 5
    max_plan_age_h: PositiveSeconds = 24
    two_person: Flag = False
    auto_approve: AutoApprove = AutoApprove()
    allow_placeholder: Flag = False
    created_at: Literal["apply_time", "effective_end"] = "apply_time"
    self_revert: Literal["auto", "report"] = "auto"
    journal: Literal["mysql", "wal"] = "mysql"
    journal_schema: Annotated[Text, Field(pattern=r"^\w{1,64}$")] = "monitoring_pipelines"
    media_types: list[Text] | None = None
    keep_query: dict[str, list[Text]] = {}
    insert: dict[str, Any] = {}
    auto_plan: Flag = False


#: Environment variable with the address of the page that `mp up` serves beside Dagster.
PAGE_VARIABLE = "MP_PAGE_URL"


def address(host: str, port: int) -> str:
    """URL of a server of ours for people: one that listens everywhere is reached at localhost."""
    return f"http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - shown, not bound


class ApiToken(Block):
    """One access token (S-002)."""

    name: Text
    token_env: EnvName | None = None
    token_file: Text | None = None
    roles: Annotated[list[Literal["viewer", "operator", "admin"]], Field(min_length=1)] = ["viewer"]

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if bool(self.token_env) == bool(self.token_file):
            raise ValueError("a token needs either token_env or token_file")
        return self


class ApiCompat(Block):
    """Paths of existing dashboards (surfaces §4)."""

    task_source: SourceId | None = None


class ApiRefresh(Block):
    """Seconds between refreshes of the pages."""

    tasks: PositiveSeconds = 5
    default: PositiveSeconds = 30
    charts: PositiveSeconds = 60


_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


class ApiSettings(Block):
    """Server and access (S-001…S-005)."""

    host: Text = "127.0.0.1"
    port: Annotated[PositiveCount, Field(le=65535)] = 8787
    allowed_hosts: list[Text] = ["localhost", "127.0.0.1", "[::1]"]
    tokens: list[ApiToken] = []
    compat: ApiCompat = ApiCompat()
    page_size: Annotated[PositiveCount, Field(le=1000)] = 50
    sync_check_timeout_s: PositiveSeconds = 60
    refresh_s: ApiRefresh = ApiRefresh()

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if self.host not in _LOOPBACK and not self.tokens:
            raise ValueError(f"host {self.host} is reachable from outside: configure tokens first (S-001)")
        return self


class MetricsSettings(Block):
    """Prometheus exposition (surfaces §5)."""

    max_series_per_family: PositiveCount = 2000
    source_label: Literal["auto", "always", "never"] = "auto"
    label_max_chars: PositiveCount = 200


class ProbeSettings(Block):
    """A health page that is asked regularly (E-124)."""

    target: Text
    url: Url
    interval_s: PositiveSeconds = 30
    timeout_s: PositiveSeconds = 10
    service: Text | None = None
    source: SourceId = "collector"


class ScrapeSeries(Block):
    """Names of the counters that count published messages and errors."""

    ok: Text | None = None
    error: Text | None = None


class ScrapeSettings(Block):
    """A Prometheus text page that is read regularly (E-124)."""

    target: Text
    url: Url
    interval_s: PositiveSeconds = 15
    timeout_s: PositiveSeconds = 10
    process_id: Text | None = None
    series: ScrapeSeries = ScrapeSeries()
    #: Label that holds the series' name.
    series_label: Text = "data_type"
    service: Text | None = None
    source: SourceId = "collector"
