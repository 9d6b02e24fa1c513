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
    from monitoring_pipelines.published.process_health import ProcessHealth
    from monitoring_pipelines.state import StateStore

SAMPLES, PROBES, COUNTERS = "raw.process_sample", "raw.probe_result", "raw.ingest_counter"
DAY = timedelta(days=1)
#: Samples a trend is looked for in; ten of them must have been measured.
TREND_SAMPLES = 30
MICROSECOND = timedelta(microseconds=1)
#: Columns of a sample that are shown.
COLUMNS = (
    "source_id", "process_id", "at", "rss_bytes", "vms_bytes", "mem_pct", "objects", "cpu_pct", "effective_cores", "load1",
    "load5", "fds", "fds_max", "conns", "tcp_by_state", "host_tcp_by_state", "threads", "gc_collections",
    "host_mem_available_bytes", "uptime_s", "scope",
)  # fmt: skip
_LIST = ", ".join(f'"{name}"' for name in COLUMNS)
#: Figures a chart can show.
CHARTED = ("rss_bytes", "vms_bytes", "cpu_pct", "fds", "fds_max", "conns", "threads", "objects")
_CURVE = ", ".join(('"at"', *CHARTED))
_PROBE = 'source_id, target, kind, "at", up, http_status, latency_ms, health_state'


def _shaped(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("tcp_by_state", "host_tcp_by_state"):
        if isinstance(row.get(name), str):
            row[name] = json.loads(row[name])
    fds, limit = row.get("fds"), row.get("fds_max")
    row["fd_usage_pct"] = ratio(fds, limit, 100) if limit else None
    return row


def _newest_of(look: Look, table: str, columns: str, key: str, count: int = 1) -> list[dict[str, Any]]:
    """The newest rows of every key: up to ``count`` of those since the midnight a day ago, else the newest ever.

    What is older is looked through only when its files are others, once or twice a day: thirty days are a million rows.
    """
    if not look.has(table):
        return []
    midnight = ((look.as_of or datetime.max) - DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    text = (
        f"SELECT {{}} FROM {{}} WHERE \"at\" {{}} TIMESTAMP '{{}}' "
        f'QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY "at" DESC) <= {{}} ORDER BY {key}, "at" DESC'
    )
    # Times first, from all files since then; they tell how few of these have the rows.
    times = look.tuples(text.format(f'{key}, "at"', look.table(table, midnight), ">=", midnight, count))
    since = min((row[-1] for row in times), default=None)
    rows = [] if since is None else look.rows(text.format(columns, look.table(table, since), ">=", since, count))
    before = text.format(columns, look.table(table, None, midnight), "<", midnight, 1)
    names = key.split(", ")
    seen = {tuple(row[name] for name in names) for row in rows}
    older = look.once(("newest before", table), (), lambda: look.rows(before), before)
    return rows + [dict(row) for row in older if tuple(row[name] for name in names) not in seen]


def _known(look: Look, settings: Settings) -> list[dict[str, Any]]:
    """The newest sample of every process of every source with its trends; not to be changed."""

    def read() -> list[dict[str, Any]]:
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in _newest_of(look, SAMPLES, _LIST, "source_id, process_id", TREND_SAMPLES):
            found.setdefault((row["source_id"], row["process_id"]), []).append(_shaped(row))
        since = (look.as_of or datetime.max) - DAY
        return [
            rows[0]
            | {
                "trends": _trends([row for row in reversed(rows) if row["at"] >= since], settings),
                "instants": [row["at"] for row in rows],
            }
            for _, rows in sorted(found.items())
        ]

    return look.once(("processes",), (SAMPLES,), read, look.as_of)


def newest(look: Look, settings: Settings, sources: Sequence[str]) -> list[dict[str, Any]]:
    """The newest sample of every process, with the class of each figure's trend (C-450)."""
    return [_without_instants(row) for row in _known(look, settings) if row["source_id"] in sources]


def _without_instants(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "instants"}


def healths(
    look: Look, settings: Settings, targets_known: Sequence[dict[str, Any]], now: datetime
) -> dict[tuple[str, str], ProcessHealth]:
    """(source, process) → how it is (C-484).

    Args:
        look: The published files.
        settings: Rules and intervals.
        targets_known: As ``targets`` has them.
        now: The present instant, naive UTC.
    """
    from monitoring_pipelines.published.process_health import health_of

    limits, read_at = thresholds(settings), look.manifest.sources
    return {
        (row["source_id"], row["process_id"]): health_of(
            row, settings, limits, targets_known, read_at.get(row["source_id"], {}).get("as_of") or look.as_of, now
        )
        for row in _known(look, settings)
    }


def of_process(look: Look, settings: Settings, sources: Sequence[str], process_id: str) -> dict[str, dict[str, Any]]:
    """The newest sample of this process, by source."""
    found = {row["source_id"]: row for row in _known(look, settings) if row["process_id"] == process_id}
    return {source: _without_instants(found[source]) for source in sources if source in found}


def samples(
    look: Look, source_id: str, process_id: str, start: datetime, end: datetime, offset: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """Samples of [start, end), newest first, and how many there are."""
    found = 'FROM {} WHERE source_id = $source AND process_id = $process AND "at" >= $start AND "at" < $end'
    values = {"source": source_id, "process": process_id, "start": start, "end": end}
    whole = found.format(look.table(SAMPLES, start, end))
    # Times first: a day of samples is in thirty files, a page of them in three, and times tell which (they are the key).
    page = look.rows(
        f'SELECT "at", count(*) OVER () AS total {whole} ORDER BY "at" DESC LIMIT {int(limit)} OFFSET {int(offset)}',
        values,
    )
    if not page:
        return [], int(look.value(f"SELECT count(*) {whole}", values) or 0)
    last, first = page[0]["at"] + MICROSECOND, page[-1]["at"]
    rows = look.rows(
        f'SELECT {_LIST} {found.format(look.table(SAMPLES, first, last))} ORDER BY "at" DESC',
        values | {"start": first, "end": last},
    )
    return [_shaped(row) for row in rows], int(page[0]["total"])


def curve(
    look: Look, source_id: str, process_id: str, start: datetime, end: datetime, points: int
) -> list[dict[str, Any]]:
    """Samples of [start, end) for a chart, oldest first: the newest of each of ``points`` equal parts,
    with the figures of ``CHARTED``.

    Where no sample came for three times the usual distance a row without figures follows, so that the gap shows (S-803).
    """
    step = (end - start) / points
    rows = look.rows(
        f"SELECT {_CURVE} FROM {look.table(SAMPLES, start, end)} WHERE source_id = $source AND process_id = $process "
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
        shown.append(row)
    return shown


def _trends(samples: Sequence[dict[str, Any]], settings: Settings) -> dict[str, dict[str, Any]]:
    """Class and slope of every figure over its last ten measured samples, which are given oldest first (C-450)."""
    from monitoring_pipelines.alerts.rules.resource import process_trends

    if not samples:
        return {}
    scope: Any = SimpleNamespace(settings=settings)
    return {
        name: {
            "class": found.name,
            "slope": None if found.slope is None else round(float(found.slope), 3),
            "unit": unit,
        }
        for name, (found, unit) in process_trends(samples, scope).items()
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


def targets(
    look: Look, state: StateStore, settings: Settings, now: datetime, sources: Sequence[str]
) -> list[dict[str, Any]]:
    """Targets with their newest probe of each kind and the state of the health machine (C-480)."""
    from sqlalchemy import select

    from monitoring_pipelines.collect.health import TargetHealth
    from monitoring_pipelines.state.expectations import health_of
    from monitoring_pipelines.state.tables import expectation

    found: dict[tuple[str, str], dict[str, Any]] = {}
    columns = expectation.c
    with state.read() as con:
        for row in con.execute(select(expectation).where(columns.kind == "target")).mappings():
            health = health_of(row["state"], settings, now) or TargetHealth()
            found[row["source_id"], row["name"]] = {
                "health_state": health.state, "since": health.since,
                "first_seen_at": row["first_seen_at"], "retired_at": row["retired_at"], "probes": [],
            }  # fmt: skip
    probes = look.once(
        ("probes",), (PROBES,), lambda: _newest_of(look, PROBES, _PROBE, "source_id, target, kind"), look.as_of
    )
    for known_probe in probes:
        probe = dict(known_probe)
        key = probe.pop("source_id"), probe.pop("target")
        entry = found.setdefault(key, {"health_state": "unknown", "since": None, "first_seen_at": None,
                                       "retired_at": None, "probes": []})  # fmt: skip
        entry["probes"].append(probe)
    return [{"source_id": key[0], "target": key[1], **row} for key, row in sorted(found.items()) if key[0] in sources]


def ingest(look: Look, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Per process and series: newest counter, rate over 5 minutes (C-441), success rate only with an error counter."""
    rows = look.once(("ingest",), (COUNTERS,), lambda: _ingest(look), look.lake.version)
    return [dict(row) for row in rows if row["source_id"] in sources]


def _ingest(look: Look) -> list[dict[str, Any]]:
    from monitoring_pipelines.alerts.rules.trend import rate

    if not look.has(COUNTERS) or look.as_of is None:
        return []
    start = look.as_of - timedelta(minutes=20)
    points: dict[tuple[str, str, str], dict[str, list[tuple[datetime, Fraction]]]] = {
        (row["source_id"], row["process_id"], row["series"]): {}
        for row in _newest_of(look, COUNTERS, 'source_id, process_id, series, "at"', "source_id, process_id, series")
    }
    for source, process, series, kind, at, value in look.tuples(
        f'SELECT source_id, process_id, series, kind, "at", value FROM {look.table(COUNTERS, start)} WHERE "at" >= ? ORDER BY "at"',
        [start],
    ):
        points[source, process, series].setdefault(kind, []).append((at, Fraction(value)))
    rows = []
    for (source, process, series), kinds in sorted(points.items()):
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
