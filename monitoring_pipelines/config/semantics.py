"""What types alone cannot say about a configuration: rules across keys (E-404, E-501, E-508).

What belongs here: checks on the resolved models. What does not: merging (``mapping``), the live schema (``live``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.config import rules
from monitoring_pipelines.config.known import RULE_IDS
from monitoring_pipelines.config.mapping import Notes
from monitoring_pipelines.config.suggest import did_you_mean
from monitoring_pipelines.entities import Entity, entities

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.config.schema_alerts import RuleSettings
    from monitoring_pipelines.config.source_schema import ColumnMapping, SourceSettings, TableMapping
    from monitoring_pipelines.config.yaml_text import Path


def check_settings(settings: Settings, notes: Notes) -> None:
    """Add a problem to ``notes`` for every broken rule."""
    _unique([s.id for s in settings.sources], "sources", "source id", notes)
    _unique([c.id for c in settings.channels], "channels", "channel id", notes)
    channels = [c.id for c in settings.channels]
    for number, channel in enumerate(channels):
        if channel in ("null", "critical_file"):
            notes.problem(("channels", number, "id"), f"{channel} is a name of the product's own (A-308, S-503)")
    for name, route in settings.alerts.routes.items():
        for number, channel in enumerate(route.channels):
            if channel not in channels:
                place = ("alerts", "routes", name, "channels", number)
                notes.problem(place, f"unknown channel {channel!r}{did_you_mean(channel, channels)}")
    for number, rule in enumerate(settings.rules):
        if rule.metric is not None:
            _check_metric(rule, number, notes)
    wanted = settings.api.compat.task_source
    names = [s.id for s in settings.sources]
    if wanted is not None and wanted not in names:
        notes.problem(("api", "compat", "task_source"), f"unknown source {wanted!r}{did_you_mean(wanted, names)}")
    for index, source in enumerate(settings.sources):
        _check_source(source, ("sources", index), notes)


def _check_metric(rule: RuleSettings, number: int, notes: Notes) -> None:
    """A configured rule measures something that exists (C-602); the tables are read only if there is such a rule."""
    from monitoring_pipelines.alerts.rules.metrics import UnknownMetric, metric_of

    try:
        metric_of(rule)
    except UnknownMetric as problem:
        notes.problem(("rules", number, "metric"), str(problem))
    if rule.id in RULE_IDS:
        notes.problem(("rules", number, "id"), f"{rule.id} is a shipped rule: leave metric out, or use another id")


def _unique(values: list[str], block: str, what: str, notes: Notes) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            notes.problem((block, index, "id"), f"duplicate {what} {value!r}")


def _check_source(source: SourceSettings, place: Path, notes: Notes) -> None:
    if source.read_dsn_env and source.read_dsn_file:
        notes.problem((*place, "read_dsn_file"), "give either read_dsn_env or read_dsn_file")
    if source.tables and not (source.read_dsn_env or source.read_dsn_file):
        notes.problem(
            place, "read_dsn_env is missing", "name the environment variable that holds the DSN: read_dsn_env: SHOP_DSN"
        )
    if not source.tables:
        notes.problem(place, "no table is mapped", "add a preset or a tables block; `mp init` proposes one")
    if source.timeouts.mode == "derive" and source.timeouts.limit_s is None and not _has_own_limit(source):
        notes.problem(
            (*place, "timeouts"),
            "mode derive needs limit_s, or a mapped deadline_at or endpoint.task_timeout_s (E-508)",
        )
    events = bool(source.mapped("task_event"))
    for name, tables in source.tables.items():
        for number, table in enumerate(tables):
            _TableCheck(entities()[name], table, (*place, "tables", name, number), events, notes).run()


def _has_own_limit(source: SourceSettings) -> bool:
    return any("deadline_at" in t.columns for t in source.mapped("task")) or any(
        "task_timeout_s" in t.columns for t in source.mapped("endpoint")
    )


class _TableCheck:
    """Rules of one mapped table."""

    def __init__(self, entity: Entity, table: TableMapping, place: Path, events: bool, notes: Notes) -> None:
        self.entity, self.table, self.place, self.events, self.notes = entity, table, place, events, notes

    def run(self) -> None:
        self.required()
        if self.table.inline is not None and self.entity.name != "task_output":
            self.notes.problem(self.at("inline"), "only task_output can be inline (E-103)")
        if self.table.strategy == "updated" and self.table.updated_at is None:
            self.notes.problem(self.at("strategy"), "strategy updated needs updated_at")
        if self.table.strategy == "append" and self.table.row_id is None:
            self.notes.problem(self.at("strategy"), "strategy append needs row_id")
        for name, column in self.table.columns.items():
            self.column(name, column)
        self.never_read()

    def at(self, *parts: str) -> Path:
        return self.notes.origin((*self.place, *parts))

    def required(self) -> None:
        for name in rules.REQUIRED[self.entity.name]:
            if name in self.table.columns or (name == "status" and self.entity.name == "task" and self.events):
                continue
            hint = f"key: <column>, or columns.{name}" if name in self.entity.key else None
            self.notes.problem(self.at("columns"), f"required column {name} is not mapped", hint)

    def column(self, name: str, column: ColumnMapping) -> None:
        kind = self.entity.column(name).kind
        place = self.at("columns", name)
        if column.derive is not None and (self.entity.name, name) != ("task", "status"):
            self.notes.problem(place, "derive: outputs is for task.status only (E-503)")
        if column.time is not None and kind != "time":
            self.notes.problem((*place, "time"), f"{name} is not a time")
        if column.unit is not None and column.unit not in (units := rules.units_of(name)):
            known = f"use one of {', '.join(units)}" if units else f"{name} has no unit"
            self.notes.problem((*place, "unit"), f"unit {column.unit} does not fit; {known}")
        if column.max_len is not None and kind not in ("text", "json"):
            self.notes.problem((*place, "max_len"), f"{name} is not text")
        self.const(name, kind, column, place)
        words = rules.WORDS.get((self.entity.name, name))
        if words is not None:
            self.words(column, words, place)

    def const(self, name: str, kind: str, column: ColumnMapping, place: Path) -> None:
        value = column.const
        if column.kind != "const" or value is None:
            return
        good = {
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "text": isinstance(value, str),
            "json": isinstance(value, str),
            "time": isinstance(value, str),
        }.get(kind, isinstance(value, (int, float)) and not isinstance(value, bool))
        if not good:
            self.notes.problem((*place, "const"), f"{name} needs a {kind} value, not {value!r}")

    def words(self, column: ColumnMapping, words: tuple[str, ...], place: Path) -> None:
        mapped = column.map or {}
        given: list[tuple[tuple[str, ...], object]] = [(("map", key), value) for key, value in mapped.items()]
        given += [((key,), getattr(column, key)) for key in ("default", "const") if getattr(column, key) is not None]
        for path, value in given:
            if value not in words:
                hint = f"known: {', '.join(words)}"
                self.notes.problem((*place, *path), f"unknown value {value!r}{did_you_mean(str(value), words)}", hint)

    def never_read(self) -> None:
        """E-404: the preset's payload columns are never read, whatever the user's block says; null tests are free."""
        banned = {name.lower() for name in self.notes.never_read.get(self.place, ())}
        if not banned:
            return
        for name, column in self.table.columns.items():
            expr = column.source_expr
            uses = expr.payload_uses() if expr is not None else set()
            for use in sorted(uses):
                if use.how != "null_test" and (use.column.lower() in banned or "*" in banned):
                    self.notes.problem(
                        self.at("columns", name), f"column {use.column} of {self.table.table} is never read (E-404)"
                    )
