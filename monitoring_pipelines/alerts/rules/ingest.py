"""Ingest of a process: rates of its counters, and series that stand still (C-431 to C-433, C-440, C-441).

What belongs here: conditions on counters. What does not: reading counters (``collect``, extraction).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from monitoring_pipelines.alerts.rules.scope import Expected, Scope, seconds, worst_level
from monitoring_pipelines.alerts.rules.trend import RATE_WINDOW, rate
from monitoring_pipelines.collect.health import freshness_limit

if TYPE_CHECKING:
    import duckdb

KIND = "series"
#: A window of the rate, and enough before it for the sample it begins between.
LOOK_BACK = 4 * RATE_WINDOW
_SQL = """
SELECT source_id, process_id, series, "at", value FROM raw.ingest_counter
WHERE "at" > $since AND "at" <= $now AND kind IN ('ok', 'generic') AND value IS NOT NULL
ORDER BY "at"
"""

Count = Fraction | int
Point = tuple[datetime, Count]


@dataclass
class Ingest:
    """Counter values by (source, process) and series."""

    points: dict[tuple[str, str], dict[str, dict[datetime, Count]]] = field(default_factory=dict)

    def recall(self, con: Connection, scope: Scope) -> None:
        """Nothing beyond the collected samples in the scope."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Values that extraction has stored."""
        for source_id, process_id, series, at, value in con.execute(
            _SQL, {"since": scope.now - LOOK_BACK, "now": scope.now}
        ).fetchall():
            self._add(source_id, process_id, series, at, value)

    def judge(self, scope: Scope) -> None:
        """Every process that ever counted something."""
        for sample in scope.samples:
            values = sample.values
            if sample.entity == "ingest_counter" and sample.at <= scope.now and values["kind"] != "error":
                self._add(sample.source_id, values["process_id"], values["series"], sample.at, values["value"])
        for (source_id, process_id), counted in self.points.items():
            for series, points in counted.items():
                _note(scope, source_id, process_id, series, sorted(points.items()))
        for (source_id, process_id), members in _by_process(scope.of_kind(KIND)).items():
            active = [one for one in members if one.retired_at is None]
            if active:
                known = self.points.get((source_id, process_id), {})
                ordered = {name: sorted(points.items()) for name, points in known.items()}
                _Process(scope, source_id, process_id, active, ordered).judge()

    def _add(self, source_id: str, process_id: str, series: str, at: datetime, value: Decimal | float) -> None:
        by_series = self.points.setdefault((source_id, process_id), {})
        # Counters are whole numbers nearly always, and then arithmetic need not be that of fractions.
        whole = int(value)
        exactly: Count = whole if whole == value else Fraction(str(value))
        by_series.setdefault(series, {})[at] = exactly


def _note(scope: Scope, source_id: str, process_id: str, series: str, points: Sequence[Point]) -> None:
    """Remember the series, its newest value, and when it last grew."""
    first_at, last_at = points[0][0], points[-1][0]
    expected = scope.expect(source_id, KIND, f"{process_id}/{series}", first_at)
    if expected.retired_at is not None:
        if last_at <= expected.retired_at:
            return
        expected.retired_at = None  # it is back
    known = expected.state
    grown = datetime.fromisoformat(known["grown_at"]) if known.get("grown_at") else first_at
    previous: Count | None = Fraction(known["value"]) if known.get("value") is not None else None
    for at, value in points:
        if previous is not None and at > expected.last_seen_at and value != previous:
            grown = at
        if at >= expected.last_seen_at:
            previous = value
    if not known:  # the first time: growth inside what is stored counts too
        grown = max([b[0] for a, b in itertools.pairwise(points) if b[1] != a[1]], default=first_at)
    expected.seen(last_at)
    expected.set(
        process=process_id, series=series, grown_at=grown.isoformat(), value=str(points[-1][1]),
    )  # fmt: skip


def _by_process(expected: Sequence[Expected]) -> dict[tuple[str, str], list[Expected]]:
    grouped: dict[tuple[str, str], list[Expected]] = {}
    for one in expected:
        if "process" in one.state:
            grouped.setdefault((one.source_id, one.state["process"]), []).append(one)
    return grouped


class _Process:
    """One process and the series it is expected to count."""

    def __init__(
        self, scope: Scope, source_id: str, process_id: str, series: Sequence[Expected], points: dict[str, list[Point]]
    ) -> None:
        self.scope, self.source_id, self.process_id = scope, source_id, process_id
        self.series, self.points = series, points
        self.service = scope.service_of(source_id, process_id)
        self.newest = max(one.last_seen_at for one in series)
        # Writers may stamp the series of one sample microseconds apart: the pauses are those of one series.
        instants = max(([at for at, _ in values] for values in points.values()), key=len, default=[])
        self.instants = instants
        self.interval = timedelta(seconds=scope.interval_s(source_id, process_id, instants))

    def judge(self) -> None:
        """Answer for the process and for each of its series."""
        until, works = self.scope.view(self.source_id, self.process_id)
        if not works:
            for rule_id in ("ingest.none", "ingest.low"):
                self._say(rule_id, "insufficient_data")
            return
        silent = self.scope.is_missing(self.source_id, self.process_id, self.newest, self.instants)
        rates = {one.state["series"]: self._rate(one, silent) for one in self.series}
        self._judge_sum(rates, silent)
        for one in self.series:
            self._judge_stale(one, until)

    def _rate(self, one: Expected, silent: bool) -> Fraction | None:
        """The series' rate at its newest sample; 0 where it is missing from the process's newest one (C-440)."""
        if silent or self.newest - one.last_seen_at > self.interval / 2:
            return Fraction()
        return rate(self.points.get(one.state["series"], []), one.last_seen_at)

    def _judge_sum(self, rates: dict[str, Fraction | None], silent: bool) -> None:
        known = [value for value in rates.values() if value is not None]
        if not known:
            for rule_id in ("ingest.none", "ingest.low"):
                self._say(rule_id, "insufficient_data")
            return
        total = sum(known, Fraction())
        since, word = f"{self.newest:%Y-%m-%d %H:%M:%S} UTC", self.scope.word
        reason = word(f"{len(rates)} series", f"{len(rates)} 个序列")
        if silent:
            reason = word(f"no sample since {since}", f"自 {since} 起没有样本")
        shown = {name: None if value is None else round(float(value), 3) for name, value in sorted(rates.items())}
        for rule_id in ("ingest.none", "ingest.low"):
            held = worst_level(self.scope.rules[rule_id], total)
            details = {"reason": reason, "rates": shown} if held else {}
            self._say(rule_id, "true" if held else "false", value=total, level=held, details=details)

    def _judge_stale(self, one: Expected, until: datetime) -> None:
        """C-433: longer than its freshness limit without growth."""
        if not self.scope.is_on("ingest.series_stale"):
            return
        series = one.state["series"]
        limit = freshness_limit(series, self.scope.settings.health)
        age = seconds(until - datetime.fromisoformat(one.state["grown_at"]))
        labels = {"process": self.process_id, "series": series}
        self.scope.say(
            "ingest.series_stale", self.source_id, labels, "true" if age > limit else "false", value=max(age, 0.0),
            threshold=limit, service=self.service,
        )  # fmt: skip

    def _say(self, rule_id: str, condition: Any, **more: Any) -> None:
        self.scope.say(rule_id, self.source_id, {"process": self.process_id}, condition, service=self.service, **more)
