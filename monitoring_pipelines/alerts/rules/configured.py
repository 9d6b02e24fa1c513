"""Rules over statistics and entity fields: those of the configuration, and endpoint rules shipped off (C-602).

What belongs here: reading a metric per subject and comparing it. What does not: what a metric is (``metrics``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection

from monitoring_pipelines.alerts.model import Condition
from monitoring_pipelines.alerts.rules.metrics import Metric, filter_columns, find, metric_of
from monitoring_pipelines.alerts.rules.scope import Number, Scope
from monitoring_pipelines.warehouse.histogram import estimate_percentile, merge

if TYPE_CHECKING:
    import duckdb

#: A subject is known while it had a row this recently.
KNOWN = timedelta(days=1)
#: Minutes the shipped endpoint rules look at.
SHIPPED_WINDOW = 5
SHIPPED_METRICS = {
    "endpoint.p95_execution": "endpoint_minute_stats.p95_execution_ms",
    "endpoint.queue_depth": "endpoint_minute_stats.queue_depth_end",
    "endpoint.failure_share": "endpoint_minute_stats.success_rate",
    "endpoint.gpu": "endpoint_minute_stats.avg_gpu_utilization",
    "endpoint.cold_start": "endpoint_minute_stats.avg_cold_start_ms",
    "endpoint.no_workers": "endpoint_minute_stats.total_workers",
}


@dataclass(frozen=True)
class Watched:
    """One rule in force and what it measures."""

    rule_id: str
    metric: Metric
    window: int
    filter: dict[str, list[str]] = field(default_factory=dict)
    absent: Literal["ignore", "fire"] = "ignore"


@dataclass
class Configured:
    """Per rule the value of each subject: (source, labels, value, whether there was a row, tasks waiting)."""

    found: list[tuple[Watched, list[dict[str, Any]]]] = field(default_factory=list)

    def recall(self, con: Connection, scope: Scope) -> None:
        """Everything is in the warehouse."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """One query per rule; a deployment without such rules asks nothing."""
        for watched in _watched(scope):
            if watched.metric.table in scope.tables:
                self.found.append((watched, _read(con, watched, scope)))

    def judge(self, scope: Scope) -> None:
        """Every subject of every rule."""
        for watched, rows in self.found:
            for row in rows:
                seen = scope.sources.get(row["source_id"])
                if seen is not None and not scope.is_late(seen):
                    _judge(scope, watched, row)
            scope.complete.add(watched.rule_id)


def _watched(scope: Scope) -> Iterator[Watched]:
    for rule_id, name in SHIPPED_METRICS.items():
        if scope.is_on(rule_id):
            window = 1 if rule_id == "endpoint.no_workers" else SHIPPED_WINDOW
            yield Watched(rule_id, find(name, window), window)
    for rule in scope.settings.rules:
        if rule.metric is not None and rule.enabled:
            metric = metric_of(rule)
            yield Watched(rule.id, metric, rule.window, filter_columns(metric, rule.filter), rule.absent)


def _judge(scope: Scope, watched: Watched, row: dict[str, Any]) -> None:
    source_id, labels, value = row["source_id"], watched.metric.labels(row), row["value"]
    if not row["present"]:
        absent_is_bad = watched.absent == "fire"
        condition: Condition = "true" if absent_is_bad else "insufficient_data"
        reason = {"reason": "no row in the window"} if absent_is_bad else None
        scope.say(watched.rule_id, source_id, labels, condition, details=reason)
        return
    details: dict[str, Any] = {"metric": watched.metric.column, "window": watched.window}
    if watched.rule_id == "endpoint.failure_share" and value is not None:
        value = 100 - value
    if watched.rule_id == "endpoint.no_workers":
        waiting = row["waiting"] or 0
        if waiting == 0:
            scope.say(watched.rule_id, source_id, labels, "false", value=value)
            return
        details |= {"waiting": waiting}
    scope.judge(watched.rule_id, source_id, labels, value, details=details)


def _read(con: duckdb.DuckDBPyConnection, watched: Watched, scope: Scope) -> list[dict[str, Any]]:
    metric = watched.metric
    if metric.kind == "newest":
        return _newest(con, watched, scope)
    step = metric.step or timedelta(0)
    unit = {60: "minute", 3600: "hour", 86400: "day"}[int(step.total_seconds())]
    bucket, closed = f't."{metric.time}"', f"date_trunc('{unit}', s.closed_through)"
    inside = f"{bucket} >= {closed} - $window AND {bucket} < {closed}"
    names = needed_columns(metric)
    extra = ["queue_depth_end"] if watched.rule_id == "endpoint.no_workers" else []
    listed = ", ".join(
        f'list(t."{name}" ORDER BY t."{metric.time}") FILTER (WHERE {inside}) AS "{name}"' for name in (*names, *extra)
    )
    keys = ", ".join(f't."{name}"' for name in ("source_id", *metric.subject))
    conditions, parameters = _conditions(watched)
    sql = (
        f"SELECT {keys}, count(*) FILTER (WHERE {inside}) AS rows_inside, {listed} FROM {metric.table} AS t "
        f"INNER JOIN meta.source_state AS s ON s.source_id = t.source_id "
        f'WHERE t."{metric.time}" >= s.closed_through - $known AND t."{metric.time}" < s.closed_through {conditions} '
        f"GROUP BY {keys}"
    )
    parameters |= {"window": step * watched.window, "known": max(KNOWN, step * watched.window)}
    cursor = con.execute(sql, parameters)
    columns = [column[0] for column in cursor.description or ()]
    rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        row["present"] = row["rows_inside"] > 0
        row["value"] = value_of(metric, row) if row["present"] else None
        row["waiting"] = (row["queue_depth_end"] or [None])[-1] if extra else None
    return rows + _never_seen(watched, rows)


def _newest(con: duckdb.DuckDBPyConnection, watched: Watched, scope: Scope) -> list[dict[str, Any]]:
    metric = watched.metric
    keys = ", ".join(f't."{name}"' for name in ("source_id", *metric.subject))
    conditions, parameters = _conditions(watched)
    order = f'"{metric.time}"' if metric.time else "changed_at"
    if metric.time:
        conditions += f' AND t."{metric.time}" > $since AND t."{metric.time}" <= $now'
        parameters |= {"since": scope.now - KNOWN, "now": scope.now}
    cursor = con.execute(
        f'SELECT {keys}, arg_max(t."{metric.column}", t.{order}) AS value FROM {metric.table} AS t '
        f"WHERE t.deleted_at IS NULL {conditions} GROUP BY {keys}",
        parameters,
    )
    columns = [column[0] for column in cursor.description or ()]
    rows = [dict(zip(columns, row, strict=True)) | {"present": True} for row in cursor.fetchall()]
    return rows + _never_seen(watched, rows)


def _conditions(watched: Watched) -> tuple[str, dict[str, Any]]:
    """The filter as conditions with parameters; column names come from the table's own key."""
    parts = [f' AND t."{column}" IN (SELECT unnest($only_{n}))' for n, column in enumerate(watched.filter)]
    return "".join(parts), {f"only_{n}": values for n, values in enumerate(watched.filter.values())}


def _never_seen(watched: Watched, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Subjects that the filter names completely and that have no row at all, for rules on absence."""
    if watched.absent != "fire" or set(watched.filter) != {"source_id", *watched.metric.subject}:
        return []
    wanted: list[dict[str, Any]] = [{}]
    for column, values in watched.filter.items():
        wanted = [{**one, column: value} for one in wanted for value in values]
    return [
        one | {"present": False, "value": None} for one in wanted if not any(one.items() <= r.items() for r in rows)
    ]


def needed_columns(metric: Metric) -> tuple[str, ...]:
    """Columns of the table that ``value_of`` needs."""
    if metric.kind == "ratio":
        return (*metric.numerator, *metric.denominator)
    return (metric.histogram,) if metric.histogram else (metric.column,)


def value_of(metric: Metric, row: dict[str, Any]) -> Number | None:
    """One number from the buckets of the window, oldest first; None if it cannot be known."""
    if metric.kind == "ratio":
        parts = [_sum(row[name]) for name in (*metric.numerator, *metric.denominator)]
        if None in parts:
            return None
        top, below = parts[0] or 0, sum((part or 0 for part in parts[1:]), Fraction()) if metric.denominator else 1
        return Fraction(repr(metric.factor)) * top / below if below else None
    if metric.kind == "percentile":
        estimate = estimate_percentile(merge(row[metric.histogram or ""]), metric.p)
        return None if estimate is None else Fraction(estimate)
    values = row[metric.column]
    if metric.kind == "last":
        return None if values[-1] is None else _exact(values[-1])
    known = [_exact(value) for value in values if value is not None]
    if not known:
        return None
    return sum(known, Fraction()) if metric.kind == "sum" else max(known) if metric.kind == "max" else min(known)


def _sum(values: list[Any]) -> Fraction | None:
    known = [_exact(value) for value in values if value is not None]
    return sum(known, Fraction()) if known else None


def _exact(value: Any) -> Fraction:
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
