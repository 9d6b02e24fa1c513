"""Answers of probes and scrapes as rows of the unified entities (E-124, entities 9.5).

What belongs here: reading a health page and a Prometheus text page. What does not: fetching and storing them.
A metric the page does not have, or that is no finite number, gives None and never 0 (E-123).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.entities import entities

if TYPE_CHECKING:
    from monitoring_pipelines.collect.fetch import Answer
    from monitoring_pipelines.config.schema_services import ProbeSettings, ScrapeSettings

_UNITS = {"mb": 1_048_576, "mib": 1_048_576, "kb": 1024}
_STATES = {
    "healthy": "healthy", "ok": "healthy", "up": "healthy", "pass": "healthy", "degraded": "degraded",
    "warn": "degraded", "warning": "degraded", "unhealthy": "unhealthy", "down": "unhealthy", "fail": "unhealthy",
    "error": "unhealthy", "critical": "unhealthy",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row for ``collected``: entity, key of the subject, and the values by unified column."""

    source_id: str
    entity: str
    key: str
    at: datetime
    values: dict[str, Any]


@dataclass
class _Page:
    """Samples of a text page by metric name: (labels, value) each."""

    samples: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """Sum of a metric's samples; None if the page has none."""
        found = [value for _, value in self.samples.get(name, ())]
        return sum(found) if found else None

    def by_label(self, name: str, label: str, missing: str | None = None) -> dict[str, float]:
        """Sums by the value of a label."""
        sums: dict[str, float] = {}
        for labels, value in self.samples.get(name, ()):
            word = labels.get(label, missing)
            if word is not None:
                sums[word] = sums.get(word, 0.0) + value
        return sums


def probe_rows(probe: ProbeSettings, answer: Answer, at: datetime) -> list[Row]:
    """The ``probe_result`` of a health page: up when it answered 2xx (C-422)."""
    health, uptime_s = _health_page(answer.body) if answer.error is None else (None, None)
    values = {
        "target": probe.target, "at": at, "kind": "http", "up": answer.ok, "http_status": answer.status,
        "latency_ms": answer.latency_ms, "health_state": health, "uptime_s": uptime_s, "error": answer.error,
    }  # fmt: skip
    return [Row(probe.source, "probe_result", f"http:{probe.target}", at, values)]


def scrape_rows(scrape: ScrapeSettings, answer: Answer, at: datetime) -> tuple[list[Row], str | None]:
    """(rows of a text page: scrape result, process sample, counters; why the page could not be used, else None)."""
    error = answer.error or (None if answer.ok else f"HTTP status {answer.status}")
    page = _Page()
    if error is None:
        try:
            page = _parse(answer.body)
        except ValueError as problem:
            error = f"no Prometheus text: {problem}"
    process_id = scrape.process_id or scrape.target
    result = {
        "target": scrape.target, "at": at, "kind": "scrape", "up": error is None, "http_status": answer.status,
        "latency_ms": answer.latency_ms, "health_state": None, "uptime_s": None, "error": error,
    }  # fmt: skip
    rows = [Row(scrape.source, "probe_result", f"scrape:{scrape.target}", at, result)]
    if error is not None:
        return rows, error
    sample = _process_sample(page, process_id, at)
    result["uptime_s"] = sample["uptime_s"]
    if any(value is not None for name, value in sample.items() if name not in ("process_id", "at", "scope")):
        rows.append(Row(scrape.source, "process_sample", process_id, sample["at"], sample))
    return rows + _counters(scrape, page, process_id, at), None


def _parse(body: bytes) -> _Page:
    from prometheus_client.parser import text_string_to_metric_families

    page = _Page()
    for family in text_string_to_metric_families(body.decode("utf-8")):
        for sample in family.samples:
            if math.isfinite(sample.value):
                page.samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return page


@cache
def _mapping() -> dict[str, Any]:
    """Metric names by unified column, from the collector preset: the one place that knows them."""
    from monitoring_pipelines.config.presets import load_preset

    return dict(load_preset("collector")["scrape"])


def _process_sample(page: _Page, process_id: str, at: datetime) -> dict[str, Any]:
    names: Mapping[str, Any] = _mapping()["process_sample"]
    taken = _first(page, names.get("at", ()))
    if taken is not None:
        at = datetime.fromtimestamp(float(taken), UTC).replace(tzinfo=None)
    columns = [c for c in entities()["process_sample"].columns if c.name not in ("source_id", "process_id", "at")]
    sample: dict[str, Any] = {"process_id": process_id, "at": at}
    for column in columns:
        value = _first(page, names.get(column.name, ()), at)
        sample[column.name] = round(value) if column.kind == "int" and isinstance(value, float) else value
    sample["scope"] = "process"
    return sample


def _first(page: _Page, choices: Any, at: datetime | None = None) -> Any:
    """The value of the first metric of ``choices`` that the page has."""
    for choice in choices:
        if "label" in choice:
            states = page.by_label(choice["metric"], choice["label"])
            if states:
                return {state: round(count) for state, count in states.items()}
        elif "since" in choice:
            start = page.number(choice["since"])
            if start is not None and at is not None:
                began = datetime.fromtimestamp(start, UTC).replace(tzinfo=None)
                return max((at - began) / timedelta(seconds=1), 0.0)
        else:
            number = page.number(choice["metric"])
            if number is not None:
                return number * _UNITS.get(choice.get("unit", ""), 1)
    return None


def _counters(scrape: ScrapeSettings, page: _Page, process_id: str, at: datetime) -> list[Row]:
    """One ``ingest_counter`` per series and kind; samples of one series that differ in other labels are added up."""
    rows = []
    for kind in ("ok", "error"):
        metric = getattr(scrape.series, kind)
        if metric is None:
            continue
        for series, value in page.by_label(metric, scrape.series_label, missing="all").items():
            values = {
                "process_id": process_id, "series": series, "at": at, "kind": kind,
                "value": Decimal(repr(value)), "labels": None,
            }  # fmt: skip
            rows.append(Row(scrape.source, "ingest_counter", f"{process_id}/{series}/{kind}"[:191], at, values))
    return rows


def _health_page(body: bytes) -> tuple[str | None, float | None]:
    """(state, uptime in seconds) a JSON health page tells; None for what it does not tell."""
    try:
        page = json.loads(body)
    except ValueError:
        return None, None
    if not isinstance(page, dict):
        return None, None
    word = page.get(_mapping()["probe_result"]["health_state"]["json"])
    uptime = page.get("uptime", page.get("uptime_s"))
    number = float(uptime) if isinstance(uptime, (int, float)) and not isinstance(uptime, bool) else None
    return (_STATES.get(word.lower()) if isinstance(word, str) else None), number
