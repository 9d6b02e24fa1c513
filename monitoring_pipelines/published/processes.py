"""Questions about processes, targets and ingest counters: newest samples, trends, rates (S-250).

What belongs here: answering from published samples. What does not: rules over them (``alerts.rules``), whose arithmetic
and thresholds are used so that page and alert agree (C-452).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.published.endpoints import ratio
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.severity import rounded

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.state import StateStore

SAMPLES = "raw.process_sample"
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
_COLUMNS = (
    "source_id", "process_id", "at", "rss_bytes", "vms_bytes", "mem_pct", "objects", "cpu_pct", "effective_cores", "load1",
    "load5", "fds", "fds_max", "conns", "tcp_by_state", "host_tcp_by_state", "threads", "gc_collections",
    "host_mem_available_bytes", "uptime_s", "scope",
)  # fmt: skip
_LIST = ", ".join(f'"{name}"' for name in _COLUMNS)


def _shaped(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("tcp_by_state", "host_tcp_by_state"):
        if isinstance(row.get(name), str):
            row[name] = json.loads(row[name])
    fds, limit = row.get("fds"), row.get("fds_max")
    row["fd_usage_pct"] = ratio(fds, limit, 100) if limit else None
    return row


def newest(look: Look, settings: Settings, sources: Sequence[str]) -> list[dict[str, Any]]:
    """The newest sample of every process, with the class of each figure's trend."""
    if not look.has(SAMPLES):
        return []
    rows = look.rows(
        f"SELECT {_LIST} FROM {look.table(SAMPLES)} WHERE source_id IN $sources "
        'QUALIFY row_number() OVER (PARTITION BY source_id, process_id ORDER BY "at" DESC) = 1 '
        "ORDER BY source_id, process_id",
        {"sources": tuple(sources)},
    )
    return [_shaped(row) | {"trends": trends(look, settings, row["source_id"], row["process_id"])} for row in rows]


def sources_with(look: Look, sources: Sequence[str], process_id: str) -> list[str]:
    """Sources that have samples of this process."""
    if not look.has(SAMPLES):
        return []
    rows = look.tuples(f"SELECT DISTINCT source_id FROM {look.table(SAMPLES)} WHERE process_id = ?", [process_id])
    return [source for source in sources if (source,) in rows]


def samples(
    look: Look, source_id: str, process_id: str, start: datetime, end: datetime, offset: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """Samples of [start, end), newest first, and how many there are."""
    found = (
        f"FROM {look.table(SAMPLES, start, end)} WHERE source_id = $source AND process_id = $process "
        'AND "at" >= $start AND "at" < $end'
    )
    values = {"source": source_id, "process": process_id, "start": start, "end": end}
    total = int(look.value(f"SELECT count(*) {found}", values) or 0)
    rows = look.rows(f'SELECT {_LIST} {found} ORDER BY "at" DESC LIMIT {int(limit)} OFFSET {int(offset)}', values)
    return [_shaped(row) for row in rows], total


def curve(
    look: Look, source_id: str, process_id: str, start: datetime, end: datetime, points: int
) -> list[dict[str, Any]]:
    """Samples of [start, end) for a chart, oldest first: the newest of each of ``points`` equal parts.

    Where no sample came for three times the usual distance a row without figures follows, so that the gap shows (S-803).
    """
    step = (end - start) / points
    rows = look.rows(
        f"SELECT {_LIST} FROM {look.table(SAMPLES, start, end)} WHERE source_id = $source AND process_id = $process "
        'AND "at" >= $start AND "at" < $end QUALIFY row_number() OVER (PARTITION BY floor(date_diff(\'microsecond\', '
        '$start::TIMESTAMP, "at") / $step) ORDER BY "at" DESC) = 1 ORDER BY "at"',
        {"source": source_id, "process": process_id, "start": start, "end": end, "step": step / MICROSECOND},
    )
    apart = sorted(later["at"] - row["at"] for row, later in pairwise(rows))
    usual = max(apart[len(apart) // 2], step) if apart else step
    shown: list[dict[str, Any]] = []
    for row in rows:
        if shown and row["at"] - shown[-1]["at"] > 3 * usual:
            shown.append(dict.fromkeys(row) | {"at": shown[-1]["at"] + usual})
        shown.append(_shaped(row))
    return shown


def trends(look: Look, settings: Settings, source_id: str, process_id: str) -> dict[str, dict[str, Any]]:
    """Class and slope of every figure over its last ten measured samples (C-450)."""
    from monitoring_pipelines.alerts.rules.resource import process_trends

    start = (look.as_of or datetime.max) - DAY
    rows = look.rows(
        f"SELECT {_LIST} FROM {look.table(SAMPLES, start)} WHERE source_id = $source AND process_id = $process "
        'AND "at" >= $start ORDER BY "at" DESC LIMIT 30',
        {"source": source_id, "process": process_id, "start": start},
    )
    known = [_shaped(row) for row in reversed(rows)]
    if not known:
        return {}
    scope: Any = SimpleNamespace(settings=settings)
    return {
        name: {
            "class": found.name,
            "slope": None if found.slope is None else round(float(found.slope), 3),
            "unit": unit,
        }
        for name, (found, unit) in process_trends(known, scope).items()
    }


def thresholds(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Thresholds of the resource rules as they are in force, by rule."""
    from monitoring_pipelines.alerts.rules.table import in_force

    return {
        rule.id: [
            {"severity": level.severity, "label": level.severity_label, "threshold": level.threshold, "op": rule.op,
             "unit": rule.unit}
            for level in rule.levels
        ]
        for rule in in_force(settings).values()
        if rule.enabled and rule.family in ("resource", "leak", "fd", "host")
    }  # fmt: skip


def targets(look: Look, state: StateStore, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Targets with their newest probe of each kind and the state of the health machine (C-480)."""
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import expectation

    found: dict[tuple[str, str], dict[str, Any]] = {}
    columns = expectation.c
    with state.read() as con:
        for row in con.execute(select(expectation).where(columns.kind == "target")).mappings():
            known = row["state"] or {}
            found[row["source_id"], row["name"]] = {
                "health_state": known.get("state", "unknown"), "since": known.get("since"),
                "first_seen_at": row["first_seen_at"], "retired_at": row["retired_at"], "probes": [],
            }  # fmt: skip
    if look.has("raw.probe_result"):
        probes = look.rows(
            f'SELECT source_id, target, kind, "at", up, http_status, latency_ms, health_state FROM {look.table("raw.probe_result")} '
            'QUALIFY row_number() OVER (PARTITION BY source_id, target, kind ORDER BY "at" DESC) = 1 ORDER BY ALL'
        )
        for probe in probes:
            key = probe.pop("source_id"), probe.pop("target")
            entry = found.setdefault(key, {"health_state": "unknown", "since": None, "first_seen_at": None,
                                           "retired_at": None, "probes": []})  # fmt: skip
            entry["probes"].append(probe)
    return [{"source_id": key[0], "target": key[1], **row} for key, row in sorted(found.items()) if key[0] in sources]


def ingest(look: Look, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Per process and series: newest counter, rate over 5 minutes (C-441), success rate only with an error counter."""
    from monitoring_pipelines.alerts.rules.trend import rate

    table = "raw.ingest_counter"
    if not look.has(table) or look.as_of is None:
        return []
    start = look.as_of - timedelta(minutes=20)
    points: dict[tuple[str, str, str], dict[str, list[tuple[datetime, Fraction]]]] = {}
    for source, process, series in look.tuples(
        f"SELECT DISTINCT source_id, process_id, series FROM {look.table(table)} ORDER BY ALL"
    ):
        if source in sources:
            points[source, process, series] = {}
    for source, process, series, kind, at, value in look.tuples(
        f'SELECT source_id, process_id, series, kind, "at", value FROM {look.table(table, start)} WHERE "at" >= ? ORDER BY "at"',
        [start],
    ):
        if (source, process, series) in points:
            points[source, process, series].setdefault(kind, []).append((at, Fraction(value)))
    rows = []
    for (source, process, series), kinds in points.items():
        good = kinds.get("ok") or kinds.get("generic") or []
        as_of = look.manifest.sources.get(source, {}).get("as_of") or look.as_of
        ok = rate(good, as_of) if good else Fraction(0)
        errors = rate(kinds["error"], as_of) if kinds.get("error") else None
        total = (ok or 0) + (errors or 0)
        rows.append({
            "source_id": source, "process_id": process, "series": series, "last_at": good[-1][0] if good else None,
            "value": float(good[-1][1]) if good else None, "rate_per_s": None if ok is None else round(float(ok), 3),
            "error_rate_per_s": None if errors is None else round(float(errors), 3),
            "success_rate": None if errors is None or not total else rounded(100 * Fraction(ok or 0) / total, 2),
        })  # fmt: skip
    return rows
