"""The whole configuration with its defaults (entities §6, checks_alerts §12, compensation §10, surfaces §1).

What belongs here: ``Settings`` and the blocks of storing and reading. What does not: checks and alerts
(``schema_alerts``), repair and serving (``schema_services``), sources and mappings (``source_schema``), reading YAML
(``loader``), presets and merging (``mapping``).
"""

# pydantic copies default lists and dicts per object.
# ruff: noqa: RUF012

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator

from monitoring_pipelines.config.base import (
    Block,
    EnvName,
    PositiveCount,
    PositiveSeconds,
    Seconds,
    Text,
    Zone,
)
from monitoring_pipelines.config.schema_alerts import (
    AlertSettings,
    ChannelSettings,
    CheckSettings,
    DeadmanSettings,
    HealthSettings,
    ProcessLimits,
    RecoverySettings,
    RuleSettings,
    Thresholds,
    TrendLimits,
    trend_limits,
)
from monitoring_pipelines.config.schema_services import (
    ApiSettings,
    MetricsSettings,
    ProbeSettings,
    RepairSettings,
    ScrapeSettings,
)
from monitoring_pipelines.config.secrets import read_secret
from monitoring_pipelines.config.source_schema import ColumnMapping, SourceSettings, TableMapping, Timeouts
from monitoring_pipelines.errors import ConfigError

__all__ = ["ColumnMapping", "Settings", "SourceSettings", "TableMapping", "Timeouts"]


class PathSettings(Block):
    """Folders; relative ones are taken from the configuration file's folder."""

    data: Text = "./data"
    logs: Text = "./logs"


class StateSettings(Block):
    """Where life-cycle state is kept; neither given: an SQLite file beside the warehouse. The URL holds a password."""

    url_env: EnvName | None = None
    url_file: Text | None = None


class RetentionSettings(Block):
    """Days that data is kept (E-901, E-902)."""

    raw_days: PositiveCount = 30
    minute_days: PositiveCount = 30
    hour_days: PositiveCount = 400
    day_days: PositiveCount = 3650
    check_days: PositiveCount = 400
    alert_days: PositiveCount = 400
    notification_days: PositiveCount = 400


class SourceLoad(Block):
    """Extraction pauses while a figure of the source server is above its limit; null = not looked at."""

    threads_running: PositiveCount | None = None
    replica_lag_s: PositiveSeconds | None = None


class ExtractSettings(Block):
    """Reading the sources (E-601…E-613)."""

    interval_s: PositiveSeconds = 30
    overlap_s: Seconds = 600
    batch_rows: Annotated[PositiveCount, Field(ge=100, le=1_000_000)] = 50_000
    connect_timeout_s: PositiveSeconds = 10
    query_timeout_s: PositiveSeconds = 30
    reconcile_hours: PositiveCount = 24
    future_tolerance_s: Seconds = 5
    max_source_load: SourceLoad = SourceLoad()


class StatsSettings(Block):
    """Statistics (M-8xx)."""

    settle_s: Seconds = 60
    snapshot_interval_s: PositiveSeconds = 60
    snapshot_tolerance_s: PositiveSeconds = 180
    clock_skew_max_s: Seconds = 300
    max_duration_h: PositiveSeconds = 168
    backfill_days: PositiveCount = 30
    #: First UTC day of the history partitions; None = decided when history is first read.
    start: dt.date | None = None

    @field_validator("start", mode="before")
    @classmethod
    def _a_day(cls, value: Any) -> Any:
        if isinstance(value, str):
            return dt.date.fromisoformat(value)
        if isinstance(value, dt.datetime):
            raise ValueError("a date like 2026-01-31 is needed")
        return value


class Settings(Block):
    """The resolved configuration. Create it with ``load_settings``; all models are frozen."""

    version: Literal[1] = 1
    timezone: Zone = "Asia/Shanghai"
    language: Literal["zh-CN", "en"] = "zh-CN"
    paths: PathSettings = PathSettings()
    state: StateSettings = StateSettings()
    retention: RetentionSettings = RetentionSettings()
    extract: ExtractSettings = ExtractSettings()
    stats: StatsSettings = StatsSettings()
    checks: CheckSettings = CheckSettings()
    thresholds: Thresholds = Thresholds()
    rules: list[RuleSettings] = []
    health: HealthSettings = HealthSettings()
    #: Metric (rss, fds, conns, threads, objects, or default) → limits of its trend (C-450).
    trends: dict[str, TrendLimits] = {}
    #: Process id → its own limits (C-406).
    resource_limits: dict[str, ProcessLimits] = {}
    alerts: AlertSettings = AlertSettings()
    channels: list[ChannelSettings] = []
    recovery: RecoverySettings = RecoverySettings()
    deadman: DeadmanSettings = DeadmanSettings()
    repair: RepairSettings = RepairSettings()
    api: ApiSettings = ApiSettings()
    metrics: MetricsSettings = MetricsSettings()
    probes: list[ProbeSettings] = []
    scrapes: list[ScrapeSettings] = []
    sources: list[SourceSettings] = []

    #: Folder of the configuration file; relative paths start here.
    _base: Path = PrivateAttr(default_factory=Path.cwd)
    _file: Path | None = PrivateAttr(default=None)

    @field_validator("trends")
    @classmethod
    def _with_default(cls, value: dict[str, TrendLimits]) -> dict[str, TrendLimits]:
        return trend_limits(value)

    @field_validator("rules", "channels", "probes", "scrapes", "sources", mode="before")
    @classmethod
    def _empty_list(cls, value: Any) -> Any:
        return [] if value is None else value

    @property
    def file(self) -> Path | None:
        """The configuration file, None when built in memory."""
        return self._file

    @property
    def data_path(self) -> Path:
        """Absolute folder of warehouse, lake and state."""
        return (self._base / self.paths.data).resolve()

    @property
    def logs_path(self) -> Path:
        """Absolute folder of log and report files."""
        return (self._base / self.paths.logs).resolve()

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file."""
        return self.data_path / "warehouse.duckdb"

    @property
    def lake_path(self) -> Path:
        """Folder of the published Parquet files."""
        return self.data_path / "lake"

    def state_url(self) -> str:
        """SQLAlchemy URL of the state store; ConfigError when the named secret is missing."""
        given = self.secret(self.state.url_env, self.state.url_file, "state")
        return given or f"sqlite:///{self.data_path / 'state.sqlite3'}"

    def source(self, source_id: str) -> SourceSettings:
        """The source called ``source_id``; ConfigError if there is none."""
        for source in self.sources:
            if source.id == source_id:
                return source
        from monitoring_pipelines.config.suggest import did_you_mean

        names = [source.id for source in self.sources]
        file = str(self._file) if self._file else None
        raise ConfigError(
            file, None, "sources", f"no source {source_id!r}{did_you_mean(source_id, names)}",
            hint=f"configured: {', '.join(names) or 'none'}",
        )  # fmt: skip

    @property
    def enabled_sources(self) -> list[SourceSettings]:
        """Sources that take part in extraction and statistics."""
        return [source for source in self.sources if source.enabled]

    def secret(self, env: str | None, file: str | None, path: str) -> str | None:
        """The secret named by ``env`` or ``file`` (E-006), None when neither is given; ConfigError when it is empty."""
        return read_secret(env, file, self._base, path, str(self._file) if self._file else None)

    def attach(self, file: Path | None, base: Path) -> Self:
        """Remember where the configuration came from; called once by the loader."""
        self._file, self._base = file, base
        for index, source in enumerate(self.sources):
            source.attach(file, base, index, self.repair.keep_query)
        return self
