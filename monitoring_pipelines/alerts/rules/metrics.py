"""What a configured rule measures: a column of a statistics table or a field of an entity (C-602).

What belongs here: finding the column, and how several buckets of it become one number. What does not: judging it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from monitoring_pipelines.config.suggest import did_you_mean
from monitoring_pipelines.entities import entities
from monitoring_pipelines.warehouse.sql_models import Model, load_models

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema_alerts import RuleSettings

STEP = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
#: Percentile columns and the histogram, minimum and maximum they are estimated from over several buckets (M-454).
_PERCENTILE = re.compile(r"p(\d\d)_(\w+)_ms")
_HISTOGRAMS = {
    "execution": "exec_hist",
    "queue_wait": "queue_hist",
    "duration": "duration_hist",
    "latency": "latency_hist",
}
#: `a / b`, `100 * a / (b + c)`, `a / 1000`: how the front matter writes what is derived from sums.
_RATIO = re.compile(r"(?:(\d+) \* )?(\w+) / (?:(\w+)|\(((?:\w+)(?: \+ \w+)*)\))(?: / (\d+))?(?: \(.*\))?")
#: Key column → label of the alert.
LABELS = {"process_id": "process", "job_id": "job", "worker_key": "worker", "task_key": "task"}
_NUMBERS = ("int", "ms", "float", "decimal")

Kind = Literal["sum", "max", "min", "last", "ratio", "percentile", "newest"]


class UnknownMetric(ValueError):
    """A metric that does not exist or cannot be taken over several buckets; the text says why."""


@dataclass(frozen=True)
class Metric:
    """One number per subject."""

    table: str
    column: str
    kind: Kind
    #: Key columns besides the source.
    subject: tuple[str, ...]
    #: Column that holds the bucket or the instant; None: the entity has no history.
    time: str | None
    step: timedelta | None = None
    #: ratio: (numerator columns, denominator columns, factor); percentile: histogram, bounds and p.
    numerator: tuple[str, ...] = ()
    denominator: tuple[str, ...] = ()
    factor: float = 1.0
    histogram: str | None = None
    p: float = 0.0

    def labels(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Scope labels of a row (A-001)."""
        return {LABELS.get(name, name): str(row[name]) for name in self.subject}


def metric_of(rule: RuleSettings) -> Metric:
    """What a configured rule measures.

    Raises:
        UnknownMetric: There is no such table or column, or a filter names none.
    """
    return _checked(find(rule.metric or "", rule.window), rule)


@cache
def find(name: str, window: int) -> Metric:
    """The metric ``[table.]column`` over ``window`` buckets; without a table the minute statistics that have it."""
    table, _, column = name.rpartition(".")
    models = {model.table: model for model in load_models().values() if model.grain is not None}
    if table in entities():
        return _field(table, column, window)
    if table and table not in models:
        known = [*models, *entities()]
        raise UnknownMetric(f"unknown table {table!r}{did_you_mean(table, known)}")
    found = [models[table]] if table else [m for m in models.values() if m.grain == "minute" and column in m.columns]
    if not found or column not in found[0].columns:
        columns = [c for m in ([models[table]] if table else models.values()) for c in m.columns]
        raise UnknownMetric(f"unknown metric {name!r}{did_you_mean(column, columns)}")
    if len(found) > 1:
        raise UnknownMetric(f"{column} is in several tables: {', '.join(m.table for m in found)}; write table.column")
    return _statistic(found[0], column, window)


def _statistic(model: Model, column: str, window: int) -> Metric:
    subject = tuple(name for name in model.key if name not in ("source_id", model.bucket))
    place: dict[str, Any] = {
        "table": model.name, "column": column, "subject": subject, "time": model.bucket, "step": STEP[str(model.grain)],
    }  # fmt: skip
    doc = model.columns[column]
    if window == 1 or doc.rollup == "last":
        return Metric(kind="last", **place)
    if doc.rollup in ("sum", "max", "min") and doc.unit != "map":
        return Metric(kind=doc.rollup, **place)  # type: ignore[arg-type]
    ratio = _ratio(model, doc.doc) if doc.rollup == "derived" else None
    if ratio is not None:
        return Metric(kind="ratio", numerator=(ratio[0],), denominator=ratio[1], factor=ratio[2], **place)
    percentile = _PERCENTILE.fullmatch(column)
    if percentile is not None and _HISTOGRAMS.get(percentile[2]) in model.columns:
        return Metric(kind="percentile", histogram=_HISTOGRAMS[percentile[2]], p=int(percentile[1]) / 100, **place)
    raise UnknownMetric(f"{column} cannot be taken over {window} buckets: use window 1 or the hour's or day's table")


def _ratio(model: Model, formula: str) -> tuple[str, tuple[str, ...], float] | None:
    """(numerator, denominator columns, factor) of a derived column; None if it is no ratio of sums."""
    found = _RATIO.fullmatch(formula)
    if found is None:
        return None
    factor, top, bottom, group, divisor = (found[n] for n in range(1, 6))
    number = float(factor or 1) / float(divisor or 1)
    below: tuple[str, ...] = tuple(group.split(" + ")) if group else (bottom,)
    if below[0].isdigit():
        number, below = number / float(below[0]), ()
    columns = [name if name in model.columns else f"tasks_{name}" for name in (top, *below)]
    if any(name not in model.columns or model.columns[name].rollup != "sum" for name in columns):
        return None
    return columns[0], tuple(columns[1:]), number


def _field(name: str, column: str, window: int) -> Metric:
    entity = entities()[name]
    if column not in {c.name for c in entity.columns} or entity.column(column).kind not in _NUMBERS:
        numbers = [c.name for c in entity.columns if c.kind in _NUMBERS]
        raise UnknownMetric(f"{name} has no number {column!r}{did_you_mean(column, numbers)}")
    if window != 1:
        raise UnknownMetric(f"{name}.{column} is taken from the newest row: window must be 1")
    at = "at" if "at" in entity.key else None
    subject = tuple(key for key in entity.key if key != "at")
    return Metric(f"raw.{name}", column, "newest", subject, at)


def _checked(metric: Metric, rule: RuleSettings) -> Metric:
    allowed = {"source", *metric.subject, *(LABELS.get(name, name) for name in metric.subject)}
    for name in rule.filter:
        if name not in allowed:
            raise UnknownMetric(f"filter {name!r} is no scope of {rule.metric}{did_you_mean(name, sorted(allowed))}")
    return metric


def filter_columns(metric: Metric, given: Mapping[str, Any]) -> dict[str, list[str]]:
    """Column → allowed values of a rule's filter."""
    columns = {LABELS.get(name, name): name for name in metric.subject} | {name: name for name in metric.subject}
    columns["source"] = "source_id"
    return {columns[name]: list(value) if isinstance(value, list) else [value] for name, value in given.items()}
