"""What a rule over statistics would have done: when it would have fired, how long, how often (C-602).

What belongs here: replaying a rule over published buckets. What does not: what a metric is and how buckets become one
value (``alerts.rules``): both are the live rule's own.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import groupby
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts.rules.configured import (
    SHIPPED_METRICS,
    SHIPPED_WINDOW,
    needed_columns,
    value_of,
)
from monitoring_pipelines.alerts.rules.metrics import Metric, UnknownMetric, filter_columns, find, metric_of
from monitoring_pipelines.alerts.rules.table import in_force
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.severity import Severity, rank

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.config.schema_alerts import RuleSettings
    from monitoring_pipelines.warehouse.lake import Lake

MOST_DAYS = 400
ROWS_AT_ONCE = 20_000
#: Firings a report lists; counts and durations are over all of them.
LISTED = 200
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
Value = int | float | Fraction | None


@dataclass(frozen=True)
class Candidate:
    """A rule to be replayed. ``levels``: (severity, threshold), mildest first."""

    rule_id: str
    metric: Metric
    window: int
    op: str
    levels: tuple[tuple[Severity, Fraction], ...]
    for_s: float = 0.0
    filter: Mapping[str, list[str]] = field(default_factory=dict)
    absent: str = "ignore"


@dataclass
class Firing:
    """One stretch in which the rule would have fired for a subject. ``end`` None: it would still fire."""

    source_id: str
    labels: dict[str, str]
    start: datetime
    severity: Severity
    worst: float | None
    end: datetime | None = None


@dataclass
class _Standing:
    """Where the rule stands for one subject."""

    active_at: datetime | None = None
    firing: Firing | None = None


def candidate(settings: Settings, rule_id: str, given: RuleSettings | None = None) -> Candidate:
    """The rule called ``rule_id``: one that is not saved yet, of the configuration, or shipped.

    Raises:
        UsageError: There is none, or it has no metric whose history is stored.
    """
    own = given or next((rule for rule in settings.rules if rule.id == rule_id and rule.metric is not None), None)
    try:
        if own is not None:
            metric = metric_of(own)
            levels = ((own.severity or "medium", Fraction(str(own.threshold))),)
            found = Candidate(
                own.id, metric, own.window, own.op or ">", levels, own.for_s or 0.0,
                filter_columns(metric, own.filter), own.absent,
            )  # fmt: skip
        elif rule_id in SHIPPED_METRICS:
            rule = in_force(settings)[rule_id]
            window = 1 if rule_id == "endpoint.no_workers" else SHIPPED_WINDOW
            steps = tuple((level.severity, Fraction(str(level.threshold or 0))) for level in rule.levels)
            found = Candidate(rule_id, find(SHIPPED_METRICS[rule_id], window), window, rule.op, steps, rule.for_s)
        else:
            configured = [rule.id for rule in settings.rules if rule.metric is not None]
            raise UsageError(
                f"no rule {rule_id!r} over statistics", f"known: {', '.join([*configured, *SHIPPED_METRICS])}"
            )
    except UnknownMetric as error:
        raise UsageError(f"{rule_id}: {error}") from error
    if found.metric.kind == "newest" or found.metric.step is None:
        raise UsageError(f"{rule_id}: {found.metric.table} keeps no history", "take a column of a statistics table")
    return found


@without_pandas()
def backtest(lake: Lake, rule: Candidate, start: datetime, end: datetime) -> dict[str, Any]:
    """Replay a rule over the published buckets in ``[start, end)``; it is evaluated at the end of every bucket.

    A bucket without row or value leaves a firing rule as it is and ends a wait for ``for`` (A-202, C-451); with
    ``absent: fire`` it counts as true.

    Args:
        lake: The published files.
        rule: The rule.
        start: First bucket, naive UTC.
        end: End of the last bucket.

    Raises:
        UsageError: The statistics of the rule have no rows at all: silence would look like a calm rule.
    """
    _must_have_rows(lake, rule.metric.table)
    step = rule.metric.step or timedelta(minutes=1)
    start, end = start - (start - datetime.min) % step, end - (end - datetime.min) % step
    firings: list[Firing] = []
    subjects = 0
    for source_id, labels, rows in _subjects(lake, rule, start - step * (rule.window - 1), end):
        subjects += 1
        firings += _replay(rule, source_id, labels, rows, start, end)
    firings.sort(key=lambda one: (one.start, one.source_id, sorted(one.labels.items())))
    seconds = [((one.end or end) - one.start).total_seconds() for one in firings]
    return {
        "rule": rule.rule_id, "metric": f"{rule.metric.table}.{rule.metric.column}", "window": rule.window, "op": rule.op,
        "levels": [{"severity": severity, "threshold": float(threshold)} for severity, threshold in rule.levels],
        "for_s": rule.for_s, "from": start, "to": end, "subjects": subjects, "firings": len(firings),
        "subjects_fired": len({(one.source_id, *sorted(one.labels.items())) for one in firings}),
        "firing_s": sum(seconds), "longest_s": max(seconds, default=0.0),
        "still_firing": sum(one.end is None for one in firings),
        "list": [_as_dict(one, end) for one in firings[:LISTED]],
    }  # fmt: skip


def _must_have_rows(lake: Lake, table: str) -> None:
    if table not in lake.manifest.tables or not lake.manifest.rows(table):
        raise UsageError(f"{table} has no published rows", "run `mp aggregate` first, or `mp up`")


def _replay(
    rule: Candidate,
    source_id: str,
    labels: dict[str, str],
    rows: Iterator[dict[str, Any]],
    start: datetime,
    end: datetime,
) -> list[Firing]:
    """Firings of one subject; ``rows`` are its buckets in order."""
    step = rule.metric.step or timedelta(minutes=1)
    standing, found = _Standing(), list[Firing]()
    inside: deque[dict[str, Any]] = deque()
    following = next(rows, None)
    # A subject is expected from its first row on.
    bucket = max(start, following["bucket"]) if following else end
    while bucket < end:
        while following is not None and following["bucket"] <= bucket:
            inside.append(following)
            following = next(rows, None)
        while inside and inside[0]["bucket"] <= bucket - step * rule.window:
            inside.popleft()
        _step(rule, standing, found, _value(rule, inside), bool(inside), bucket + step, (source_id, labels))
        bucket += step
        if not inside and standing.active_at is None and following is not None and rule.absent == "ignore":
            bucket = max(bucket, following["bucket"])  # nothing happens until the next row
    return found


def _step(
    rule: Candidate, standing: _Standing, found: list[Firing], value: Value, present: bool, at: datetime,
    subject: tuple[str, dict[str, str]],
) -> None:  # fmt: skip
    """One evaluation (A-201)."""
    absent_fires = not present and rule.absent == "fire"
    if value is None and not absent_fires:
        if standing.firing is None:
            standing.active_at = None
        return
    holding = [severity for severity, limit in rule.levels if absent_fires or _holds(rule.op, value, limit)]
    if not holding:
        if standing.firing is not None:
            standing.firing.end = at
        standing.firing = standing.active_at = None
        return
    worst = max(holding, key=rank)
    standing.active_at = standing.active_at or at
    number = None if value is None else float(value)
    if standing.firing is None and (at - standing.active_at).total_seconds() >= rule.for_s:
        standing.firing = Firing(subject[0], subject[1], at, worst, number)
        found.append(standing.firing)
    elif standing.firing is not None:
        standing.firing.severity = max(standing.firing.severity, worst, key=rank)
        standing.firing.worst = _worse(rule.op, standing.firing.worst, number)


def _value(rule: Candidate, inside: deque[dict[str, Any]]) -> Value:
    """The value over the buckets of the window, as the live rule takes it."""
    if not inside:
        return None
    columns = {name: [row[name] for row in inside] for name in needed_columns(rule.metric)}
    value = value_of(rule.metric, columns)
    if rule.rule_id == "endpoint.failure_share" and value is not None:
        return 100 - value
    if rule.rule_id == "endpoint.no_workers" and value is not None and not inside[-1]["queue_depth_end"]:
        return Fraction(1)  # nobody waits: any number of workers is enough
    return value


def _holds(op: str, value: Value, limit: Fraction) -> bool:
    return value is not None and _OPERATORS[op](value, limit)


def _worse(op: str, one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return (min if op in ("<", "<=") else max)(known) if known else None


def _subjects(
    lake: Lake, rule: Candidate, start: datetime, end: datetime
) -> Iterator[tuple[str, dict[str, str], Iterator[dict[str, Any]]]]:
    """(source, labels, rows by time) of every subject, read in one pass."""
    metric = rule.metric
    keys = ("source_id", *metric.subject)
    extra = ("queue_depth_end",) if rule.rule_id == "endpoint.no_workers" else ()
    names = ", ".join(f'"{name}"' for name in dict.fromkeys((*keys, *needed_columns(metric), *extra)))
    where = "".join(f' AND "{column}" IN (SELECT unnest($only_{n}))' for n, column in enumerate(rule.filter))
    parameters: dict[str, Any] = {f"only_{n}": values for n, values in enumerate(rule.filter.values())}
    sql = (
        f"SELECT {names}, \"{metric.time}\"::TIMESTAMP AS bucket FROM {metric.table} WHERE state = 'closed' "
        f'AND "{metric.time}" >= $start AND "{metric.time}" < $end{where} ORDER BY {", ".join(keys)}, "{metric.time}"'
    )
    with lake.connect() as con:
        cursor = con.execute(sql, parameters | {"start": start, "end": end})
        headers = [column[0] for column in cursor.description or ()]

        def rows() -> Iterator[dict[str, Any]]:
            while part := cursor.fetchmany(ROWS_AT_ONCE):
                for row in part:
                    yield dict(zip(headers, row, strict=True))

        for subject, mine in groupby(rows(), key=lambda row: tuple(row[name] for name in keys)):
            yield subject[0], metric.labels(dict(zip(keys, subject, strict=True))), mine


def _as_dict(one: Firing, until: datetime) -> dict[str, Any]:
    return {
        "source_id": one.source_id, "labels": one.labels, "severity": one.severity, "from": one.start, "to": one.end,
        "duration_s": ((one.end or until) - one.start).total_seconds(), "worst": one.worst,
    }  # fmt: skip
