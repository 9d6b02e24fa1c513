"""What every rule sees at one evaluation: time, configuration, what is expected to exist, and how to answer.

What belongs here: shared inputs and the making of observations. What does not: the conditions (the family modules).
"""

from __future__ import annotations

import itertools
import operator
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, select

from monitoring_pipelines.alerts.model import Condition, Observation
from monitoring_pipelines.alerts.rules.table import Level, Rule
from monitoring_pipelines.collect.own import SELF
from monitoring_pipelines.collect.pace import OWN_PERIOD_S
from monitoring_pipelines.state import collected
from monitoring_pipelines.state.store import upsert
from monitoring_pipelines.state.tables import component_heartbeat, expectation

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.severity import Severity

Number = float | int | Fraction
#: Extraction follows the minute schedule, however short ``extract.interval_s`` is.
SHORTEST_EXTRACT_S = 60.0
#: A source or collector that was silent for this many of its intervals does not work (C-502, C-440).
SILENT_INTERVALS = 3
#: Interval of samples whose instants do not tell it yet, seconds.
DEFAULT_INTERVAL_S = 60.0

CollectedNames = dict[tuple[str, str], tuple[float, str | None]]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass
class Expected:
    """A target, series or process that existed once (C-440); a changed one is stored after the evaluation."""

    source_id: str
    kind: str
    name: str
    first_seen_at: datetime
    last_seen_at: datetime
    retired_at: datetime | None = None
    state: dict[str, Any] = field(default_factory=dict)
    changed: bool = False

    def seen(self, at: datetime) -> None:
        """Note a sample."""
        if at > self.last_seen_at:
            self.last_seen_at, self.changed = at, True

    def set(self, **values: Any) -> None:
        """Change parts of the state."""
        if any(self.state.get(name) != value for name, value in values.items()):
            self.state, self.changed = {**self.state, **values}, True


@dataclass(frozen=True)
class Beat:
    """The newest heartbeat of a component."""

    component: str
    at: datetime
    period_s: float
    process_id: str


@dataclass(frozen=True)
class SourceSeen:
    """How far a source was read and computed, naive UTC."""

    source_id: str
    as_of: datetime | None
    closed_through: datetime | None
    last_error: str | None
    last_error_code: str | None
    last_error_at: datetime | None
    clock_offset_s: float | None
    clock_at: datetime | None


class Family(Protocol):
    """A group of rules: reads the state store, then the warehouse, then judges."""

    def recall(self, con: Connection, scope: Scope) -> None:
        """Read what the rules need from the state store."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Read what the rules need from the warehouse; not called when there is none."""

    def judge(self, scope: Scope) -> None:
        """Add an observation per rule and scope to ``scope``."""


@dataclass
class Scope:
    """One evaluation."""

    settings: Settings
    now: datetime
    rules: Mapping[str, Rule]
    #: Whether the warehouse could be read; without it rules that need it say nothing and alerts stay as they are.
    has_warehouse: bool = False
    sources: dict[str, SourceSeen] = field(default_factory=dict)
    beats: dict[str, Beat] = field(default_factory=dict)
    expected: dict[tuple[str, str, str], Expected] = field(default_factory=dict)
    samples: list[collected.Sample] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    #: Tables and views of the warehouse, ``schema.name``.
    tables: set[str] = field(default_factory=set)
    #: Rules that answered for every scope there is: an open alert without an answer has lost its scope.
    complete: set[str] = field(default_factory=set)

    # -- answers -------------------------------------------------------------------------------------------------------

    def say(
        self,
        rule_id: str,
        source_id: str,
        labels: dict[str, str],
        condition: Condition,
        *,
        level: Level | None = None,
        value: Number | None = None,
        threshold: Number | None = None,
        details: Mapping[str, Any] | None = None,
        service: str | None = None,
        task_ids: Sequence[str] = (),
        severity: Severity | None = None,
    ) -> None:
        """Add an observation of a rule that is in force; rules that are off say nothing.

        Args:
            rule_id: The rule.
            source_id: Source of the scope.
            labels: Scope labels (A-001).
            condition: The answer.
            level: The level that holds; default: the mildest.
            value: What was measured.
            threshold: What it was compared with; default: the level's.
            details: What the message and the pages show.
            service: Service of the alert, for routing and inhibition.
            task_ids: At most ten tasks.
            severity: Instead of the level's, for rules that follow something else (C-340).
        """
        rule = self.rules[rule_id]
        if not rule.enabled:
            return
        chosen = level or rule.levels[0]
        limit = chosen.threshold if threshold is None else threshold
        number = None if value is None else float(value)
        known = dict(details or {})
        words = {"source": source_id, **labels, **known, "value": number, "threshold": known.get("threshold", limit)}
        self.observations.append(
            Observation(
                type=rule_id,
                source_id=source_id,
                condition=condition,
                severity=severity or chosen.severity,
                severity_label=severity or chosen.severity_label,
                alertname=rule.name,
                message=rule.text(self.settings.language, words) if condition == "true" else "",
                labels=labels,
                service=service,
                for_s=rule.for_s,
                value=number,
                threshold=None if limit is None else float(limit),
                details=known,
                task_ids=tuple(task_ids)[:10],
            )
        )

    def judge(
        self,
        rule_id: str,
        source_id: str,
        labels: dict[str, str],
        value: Number | None,
        *,
        details: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        service: str | None = None,
        missing: Condition = "not_measurable",
        task_ids: Sequence[str] = (),
    ) -> None:
        """Compare a value with the rule's levels, exactly; None answers ``missing`` and never satisfies anything."""
        rule = self.rules[rule_id]
        if not rule.enabled:
            return
        if value is None:
            self.say(rule_id, source_id, labels, missing, service=service)
            return
        held = worst_level(rule, value)
        condition: Condition = "false" if held is None else "true"
        shown = details() if held is not None and callable(details) else details
        self.say(
            rule_id, source_id, labels, condition, level=held, value=value,
            details=shown if held and not callable(shown) else None, service=service,
            task_ids=task_ids if held else (),
        )  # fmt: skip

    def is_on(self, *rule_ids: str) -> bool:
        """Whether one of the rules is in force."""
        return any(self.rules[rule_id].enabled for rule_id in rule_ids)

    def word(self, english: str, chinese: str) -> str:
        """A phrase inside a message, in the configured language."""
        return chinese if self.settings.language == "zh-CN" else english

    # -- who is expected, and whether we can see -----------------------------------------------------------------------

    def expect(self, source_id: str, kind: str, name: str, at: datetime) -> Expected:
        """The expectation of something that was just seen; a new one begins at ``at``."""
        key = (source_id, kind, name)
        found = self.expected.get(key)
        if found is None:
            found = self.expected[key] = Expected(source_id, kind, name, at, at, changed=True)
        return found

    def of_kind(self, kind: str) -> list[Expected]:
        """Everything of one kind that is or was expected."""
        return [one for key, one in sorted(self.expected.items()) if key[1] == kind]

    def view(self, source_id: str, name: str) -> tuple[datetime, bool]:
        """(instant up to which we see the subject, whether the seeing itself works) (C-440).

        What the product collects itself is seen up to the last time it asked; what is read from a source, up to the
        last extraction.
        """
        if self.is_collected(source_id, name):
            beat = self.beats.get(collected.COMPONENT)
            limit = SILENT_INTERVALS * (beat.period_s if beat else 0.0)
            until = self.asked_at.get((source_id, name))
            works = beat is not None and (self.now - beat.at).total_seconds() <= limit
            return until or self.now, works and until is not None
        seen = self.sources.get(source_id)
        if seen is None or seen.as_of is None:
            return self.now, False
        return min(seen.as_of, self.now), not self.is_late(seen)

    def is_late(self, seen: SourceSeen) -> bool:
        """Whether the last successful extraction is older than three intervals (C-502)."""
        return seen.as_of is None or (self.now - seen.as_of).total_seconds() > self.extract_limit_s

    @property
    def extract_limit_s(self) -> float:
        """As the function of this name."""
        return extract_limit_s(self.settings)

    @cached_property
    def collected_names(self) -> CollectedNames:
        """As the function of this name."""
        return collected_names(self.settings)

    @cached_property
    def asked_at(self) -> dict[tuple[str, str], datetime]:
        """When the collectors asked each target last; a process is asked with its target, our own by sampling."""
        asked: dict[tuple[str, str], datetime] = {}
        processes = {(s.source, s.target): s.process_id or s.target for s in self.settings.scrapes}
        own = [sample.at for sample in self.samples if sample.source_id == SELF]
        for sample in self.samples:
            if sample.source_id == SELF:
                asked[SELF, sample.values.get("process_id", sample.key)] = own[-1]
            elif sample.entity == "probe_result":
                target = (sample.source_id, sample.values["target"])
                asked[target] = sample.at
                if sample.values["kind"] == "scrape" and target in processes:
                    asked[sample.source_id, processes[target]] = sample.at
        return asked

    def is_collected(self, source_id: str, name: str) -> bool:
        """Whether the built-in collectors write the subject's samples."""
        return source_id == SELF or (source_id, name) in self.collected_names

    def interval_s(self, source_id: str, name: str, instants: Sequence[datetime]) -> float:
        """As the function of this name."""
        return interval_s(self.collected_names, source_id, name, instants)

    def is_missing(self, source_id: str, name: str, last: datetime, instants: Sequence[datetime]) -> bool:
        """Whether the newest sample is older than two intervals, as seen by a reading that works (C-440)."""
        until, _ = self.view(source_id, name)
        return (until - last).total_seconds() > 2 * self.interval_s(source_id, name, instants)

    def service_of(self, source_id: str, name: str) -> str:
        """Service of a target or process, by configuration; else its own name."""
        configured = self.collected_names.get((source_id, name))
        return (configured[1] if configured else None) or name


def extract_limit_s(settings: Settings) -> float:
    """Age of the last extraction above which a source is not read any more, seconds (C-502)."""
    return SILENT_INTERVALS * max(settings.extract.interval_s, SHORTEST_EXTRACT_S)


def collected_names(settings: Settings) -> CollectedNames:
    """(source, target or process) that the built-in collectors write → (interval in seconds, service)."""
    names: CollectedNames = {}
    for probe in settings.probes:
        names[probe.source, probe.target] = (probe.interval_s, probe.service)
    for scrape in settings.scrapes:
        for name in (scrape.target, scrape.process_id or scrape.target):
            names[scrape.source, name] = (scrape.interval_s, scrape.service)
    return names


def interval_s(collected: CollectedNames, source_id: str, name: str, instants: Sequence[datetime]) -> float:
    """Seconds between two samples: configured, else the median of the pauses between ``instants``, which are in order."""
    if source_id == SELF:
        return OWN_PERIOD_S
    configured = collected.get((source_id, name))
    if configured is not None:
        return configured[0]
    pauses = [abs((b - a).total_seconds()) for a, b in itertools.pairwise(instants)]
    return statistics.median(pauses) if pauses else DEFAULT_INTERVAL_S


def worst_level(rule: Rule, value: Number) -> Level | None:
    """The most severe level whose threshold the value is beyond, compared as exact numbers; None if none is."""
    compare = COMPARE[rule.op]
    number = exact(value)
    for level in reversed(rule.levels):
        if level.threshold is not None and compare(number, exact(level.threshold)):
            return level
    return None


def exact(value: Number) -> Fraction:
    """A number as a fraction; a float counts as the decimal number it is written as."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def seconds(duration: timedelta) -> float:
    """Seconds of a duration, microseconds kept."""
    return duration / timedelta(seconds=1)


# -- the state store ---------------------------------------------------------------------------------------------------


def recall(con: Connection, scope: Scope) -> None:
    """Read expectations and heartbeats into ``scope``."""
    for row in con.execute(select(expectation)).mappings():
        values = dict(row) | {"state": row["state"] or {}}
        scope.expected[row["source_id"], row["kind"], row["name"]] = Expected(**values)
    for row in con.execute(select(component_heartbeat)).mappings():
        scope.beats[row["component"]] = Beat(row["component"], row["at"], row["period_s"], row["process_id"])


def remember(con: Connection, changed: Iterable[Expected]) -> None:
    """Store changed expectations; what people retired meanwhile stays retired."""
    rows = [
        {
            "source_id": one.source_id, "kind": one.kind, "name": one.name, "first_seen_at": one.first_seen_at,
            "last_seen_at": one.last_seen_at, "retired_at": one.retired_at, "state": one.state or None,
        }
        for one in changed
    ]  # fmt: skip
    upsert(con, expectation, [row for row in rows if row["retired_at"] is None], update=["last_seen_at", "state"])
    upsert(con, expectation, [row for row in rows if row["retired_at"] is not None])


def look(con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
    """Read how far each source is into ``scope``."""
    names = "source_id, as_of, closed_through, last_error, last_error_code, last_error_at, clock_offset_s, clock_at"
    for row in con.execute(f"SELECT {names} FROM meta.source_state").fetchall():
        scope.sources[row[0]] = SourceSeen(*row)
    found = con.execute("SELECT table_schema || '.' || table_name FROM information_schema.tables").fetchall()
    scope.tables = {row[0] for row in found}
    scope.has_warehouse = True
