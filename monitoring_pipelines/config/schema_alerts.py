"""Blocks about checks, alerts and who hears of them (checks_alerts §12).

What belongs here: checks, thresholds, rules, health, alerts, channels, recovery, deadman. What does not: their effect.
"""

# pydantic copies default lists and dicts per object.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from monitoring_pipelines.config.base import (
    Block,
    ClockTime,
    Count,
    Cron,
    Duration,
    EnvName,
    Flag,
    Identifier,
    Number,
    Percent,
    PositiveCount,
    PositiveSeconds,
    Seconds,
    Share,
    Text,
    Url,
)
from monitoring_pipelines.config.known import CHECK_IDS, RULE_IDS

Severity = Literal["info", "low", "medium", "high", "critical"]


class QuickCheck(Block):
    """The quarter-hour check (checks §2)."""

    cron: Cron = "*/15 * * * *"
    hours: PositiveCount = 1


class FullCheck(Block):
    """The hourly check."""

    cron: Cron = "0 * * * *"
    hours: PositiveCount = 24
    trend_days: PositiveCount = 7
    extended: Flag = True


class DeepCheck(Block):
    """The nightly check."""

    cron: Cron = "0 2 * * *"
    hours: PositiveCount = 72
    trend_days: PositiveCount = 14


class Bands(Block):
    """Lower bounds in percent, inclusive (C-002)."""

    healthy: Percent = 95
    degraded: Percent = 80
    critical: Percent = 50

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.healthy >= self.degraded >= self.critical:
            raise ValueError("bands must fall: healthy ≥ degraded ≥ critical")
        return self


def _known(what: str, value: str, known: tuple[str, ...]) -> str:
    from monitoring_pipelines.config.suggest import did_you_mean

    if value not in known:
        raise ValueError(f"unknown {what} {value!r}{did_you_mean(value, known)}")
    return value


class CustomCheck(Block):
    """A check of one's own (C-601); ``package.module:function`` alone is enough."""

    check: Annotated[Text, Field(pattern=r"^[\w.]+:\w+$")]
    #: Runs it belongs to; empty: what the function declares, else full.
    types: list[Literal["quick", "full", "deep"]] = []
    params: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"check": value} if isinstance(value, str) else value


class CheckSettings(Block):
    """Consistency checks (C-1xx)."""

    settle_s: Seconds = 300
    quick: QuickCheck = QuickCheck()
    full: FullCheck = FullCheck()
    deep: DeepCheck = DeepCheck()
    bands: Bands = Bands()
    delay_s: PositiveSeconds = 1800
    delay_window_h: PositiveCount = 24
    trend_drop_points: Percent = 20
    trend_min_days: Annotated[PositiveCount, Field(ge=2)] = 3
    ratio_max: Annotated[Number, Field(gt=0)] = 10
    flow_min_tasks: PositiveCount = 5
    change_point_min_points: Percent = 20
    sweep_s: PositiveSeconds = 60
    disabled: list[Text] = []
    custom: list[CustomCheck] = []

    @field_validator("disabled")
    @classmethod
    def _known_checks(cls, value: list[str]) -> list[str]:
        return [_known("check", word, CHECK_IDS) for word in value]


class Thresholds(Block):
    """Task thresholds (C-301); seconds and shares."""

    max_pending_tasks: Count = 50
    max_queue_wait_time: PositiveSeconds = 1800
    max_execution_time: PositiveSeconds = 3600
    max_failed_rate: Share = 0.3
    min_success_rate: Share = 0.7


class RuleSettings(Block):
    """A configured rule (C-602), or changes to a shipped one: then ``metric`` is left out."""

    id: Identifier
    enabled: Flag = True
    metric: Text | None = None
    #: Label or column → value or list of values.
    filter: dict[str, Text | list[Text]] = {}
    window: PositiveCount = 1
    op: Literal[">", ">=", "<", "<=", "=", "!="] | None = None
    threshold: Number | None = None
    for_s: Annotated[Duration | None, Field(alias="for")] = None
    severity: Severity | None = None
    absent: Literal["ignore", "fire"] = "ignore"
    runbook: Text | None = None
    alertname: Identifier | None = None

    @model_validator(mode="after")
    def _complete_or_override(self) -> Self:
        if self.metric is None:
            _known("rule", self.id, RULE_IDS)
            return self
        missing = [n for n in ("op", "threshold", "severity") if getattr(self, n) is None]
        if missing:
            raise ValueError(f"a rule with its own metric needs {', '.join(missing)}")
        return self


#: C-483: seconds after which an ingest series is stale.
_FRESHNESS = {"trade": 60.0, "orderbook": 60.0, "liquidation": 3600.0} | dict.fromkeys(
    ("funding_rate", "open_interest", "volatility_index", "lsr_*"), 28800.0
)


class HealthSettings(Block):
    """The health state machine (C-480…C-485)."""

    fail_streak: PositiveCount = 3
    ok_streak: PositiveCount = 2
    grace_s: Seconds = 120
    heartbeat_ttl_s: PositiveSeconds = 30
    freshness_s: PositiveSeconds = 60
    #: Input or series → seconds; added to the defaults of C-483.
    freshness: dict[str, PositiveSeconds] = {}

    @field_validator("freshness")
    @classmethod
    def _over_defaults(cls, value: dict[str, float]) -> dict[str, float]:
        return _FRESHNESS | value


class TrendLimits(Block):
    """Growth per sample from which a metric grows slowly (inclusive) and rapidly (above) (C-450)."""

    slow: Annotated[Number, Field(gt=0)] = 0.2
    rapid: Annotated[Number, Field(gt=0)] = 1.0


_TREND_METRICS = ("default", "rss", "fds", "conns", "threads", "objects")


def trend_limits(value: dict[str, TrendLimits]) -> dict[str, TrendLimits]:
    """The configured limits with those of ``default``; ValueError for a metric that is not measured."""
    return {"default": TrendLimits()} | {_known("metric", name, _TREND_METRICS): one for name, one in value.items()}


class ProcessLimit(Block):
    """Soft and hard limit of one figure, both strict; null = none."""

    soft: Count | None = None
    hard: Count | None = None

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if self.soft is None and self.hard is None:
            raise ValueError("give soft, hard or both")
        return self


class ProcessLimits(Block):
    """Limits of one process (C-406)."""

    memory_bytes: ProcessLimit | None = None
    connections: ProcessLimit | None = None
    fds: ProcessLimit | None = None


class RouteSettings(Block):
    """Who hears of which severities, and how often (checks §9)."""

    severities: list[Severity]
    channels: list[Text] = []
    group_interval_s: Seconds
    repeat_s: PositiveSeconds


_ROUTES: dict[str, dict[str, Any]] = {
    "critical": {"severities": ["critical"], "channels": [], "group_interval_s": 30, "repeat_s": 600},
    "warning": {"severities": ["high", "medium"], "channels": [], "group_interval_s": 60, "repeat_s": 7200},
}


class InhibitRule(Block):
    """While an alert matching ``source`` fires, those matching ``target`` with equal labels are inhibited (A-307).

    Names are type, alertname, source, service, severity or a label; a value that begins with ``~`` is a pattern (RE2)
    of the whole value.
    """

    source: Annotated[dict[str, Text], Field(min_length=1)]
    target: Annotated[dict[str, Text], Field(min_length=1)]
    equal: list[Text] = []

    @field_validator("source", "target")
    @classmethod
    def _patterns(cls, value: dict[str, str]) -> dict[str, str]:
        from monitoring_pipelines import patterns

        for text in value.values():
            problem = patterns.problem_of(text[1:]) if text.startswith("~") else None
            if problem is not None:
                raise ValueError(f"{text!r} is no pattern: {problem}")
        return value


class FlapSettings(Block):
    """From the ``count``-th occurrence within ``window_s`` on, an alert speaks once per repeat interval."""

    count: Annotated[PositiveCount, Field(ge=2)] = 5
    window_s: PositiveSeconds = 1800


class AlertLinks(Block):
    """Where links in messages lead; null: the addresses ``mp up`` serves on this machine.

    ``runbooks`` is a folder of files ``<id>.md``; null: the page ``/runbooks/<id>`` of the dashboard.
    """

    dashboard: Url | None = None
    dagster: Url | None = None
    runbooks: Text | None = None


class AlertmanagerSettings(Block):
    """Firing alerts are also pushed to a real Alertmanager (API v2); page through one of the two only."""

    url_env: EnvName | None = None
    url_file: Text | None = None
    timeout_s: PositiveSeconds = 10


class AlertSettings(Block):
    """Alert life cycle and routing (A-2xx, A-3xx)."""

    tick_s: PositiveSeconds = 30
    group_wait_s: Seconds = 10
    group_by: list[Text] = ["alertname", "service"]
    routes: dict[str, RouteSettings] = {}
    inhibit: list[InhibitRule] = []
    inhibit_defaults: Flag = True
    retry_min: Annotated[list[PositiveSeconds], Field(min_length=1)] = [5, 15, 30, 60]
    flapping: FlapSettings = FlapSettings()
    links: AlertLinks = AlertLinks()
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()

    @field_validator("routes", mode="before")
    @classmethod
    def _over_defaults(cls, value: Any) -> Any:
        """A user's route changes only the keys it names."""
        if not isinstance(value, dict):
            return value
        merged: dict[str, Any] = {name: dict(route) for name, route in _ROUTES.items()}
        for name, route in value.items():
            merged[name] = merged.get(name, {}) | route if isinstance(route, dict) else route
        return merged

    @model_validator(mode="after")
    def _one_route_per_severity(self) -> Self:
        seen: dict[str, str] = {}
        for name, route in self.routes.items():
            for severity in route.severities:
                if severity in seen:
                    raise ValueError(f"severity {severity} is in the routes {seen[severity]} and {name}")
                seen[severity] = name
        return self


class QuietHours(Block):
    """[start, end) in local time; may cross midnight (A-502)."""

    start: ClockTime
    end: ClockTime


class ChannelSettings(Block):
    """A way to reach people (checks §10). Addresses and keys come from the environment or a file (E-006)."""

    id: Identifier
    type: Literal["dingtalk", "webhook", "email", "file", "log", "apprise"]
    enabled: Flag = True
    webhook_env: EnvName | None = None
    webhook_file: Text | None = None
    secret_env: EnvName | None = None
    secret_file: Text | None = None
    per_minute: PositiveCount = 20
    quiet_hours: QuietHours | None = None
    language: Literal["zh-CN", "en"] | None = None
    timeout_s: PositiveSeconds = 10
    #: webhook: body in the shape of an Alertmanager webhook.
    alertmanager: Flag = False
    smtp_host: Text | None = None
    smtp_port: Annotated[PositiveCount, Field(le=65535)] = 587
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    #: Certificates (PEM) of the authority that signed the server's; default: those of the system.
    smtp_ca_file: Text | None = None
    username_env: EnvName | None = None
    password_env: EnvName | None = None
    password_file: Text | None = None
    sender: Text | None = None
    recipients: list[Text] = []

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if self.type in ("dingtalk", "webhook", "apprise") and not (self.webhook_env or self.webhook_file):
            raise ValueError(f"a {self.type} channel needs webhook_env or webhook_file")
        if self.type == "email" and not (self.smtp_host and self.sender and self.recipients):
            raise ValueError("an email channel needs smtp_host, sender and recipients")
        if bool(self.username_env) != bool(self.password_env or self.password_file):
            raise ValueError("a login needs username_env and one of password_env and password_file")
        return self


class RecoveryHook(Block):
    """A request of the product: a POST, or a command with fixed arguments (A-701)."""

    kind: Literal["webhook", "command"] = "webhook"
    url_env: EnvName | None = None
    command: list[Text] = []

    @property
    def is_complete(self) -> bool:
        """Whether it says what is to be called."""
        return bool(self.url_env if self.kind == "webhook" else self.command)


class RecoveryTarget(RecoveryHook):
    """The hook that asks for a restart of a target, and the one that asks it to shed load."""

    enabled: Flag = False
    max_uptime_s: PositiveSeconds | None = None
    #: A hook of its own (A-704): one that restarts must not be called to shed load. None: levels are journaled only.
    load_shedding: RecoveryHook | None = None

    @model_validator(mode="after")
    def _needs(self) -> Self:
        for hook in (self, self.load_shedding):
            if self.enabled and hook is not None and not hook.is_complete:
                needed = "url_env" if hook.kind == "webhook" else "command"
                raise ValueError(f"an enabled {hook.kind} hook needs {needed}")
        return self


class RecoverySettings(Block):
    """Recovery hooks (A-7xx): ``observe`` writes down what would be asked for and does nothing."""

    mode: Literal["observe", "execute"] = "observe"
    cooldown_s: Seconds = 300
    max_per_24h: PositiveCount = 3
    targets: dict[str, RecoveryTarget] = {}


class DeadmanSettings(Block):
    """The dead man's switch (A-601)."""

    url_env: EnvName | None = None
    interval_s: PositiveSeconds = 60
