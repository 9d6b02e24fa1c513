"""Families whose values stand in the published files; they change only with a new version.

What belongs here: endpoints, tasks, jobs, processes, targets, ingest, extraction. What does not: alerts, repair and
checks, which live in the state store (``from_state``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.metrics.exposition import Family, texts
from monitoring_pipelines.metrics.past import past, plus
from monitoring_pipelines.published import endpoints
from monitoring_pipelines.published.overview import drifted, task_counters
from monitoring_pipelines.published.reader import Look
from monitoring_pipelines.published.tasks import TaskIndex
from monitoring_pipelines.warehouse.counters import ANOMALIES, DAYS, EXTRACT_ROWS, LATE_EVENTS, RESTATED
from monitoring_pipelines.warehouse.counters import TABLE as PAST

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

log = logging.getLogger(__name__)
HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
_OUTCOMES = ("submitted", "completed", "failed", "timeout", "cancelled", "retried")


def seconds(at: datetime) -> float:
    """Unix seconds of a naive UTC instant."""
    return at.replace(tzinfo=UTC).timestamp()


def collect(settings: Settings, look: Look, index: TaskIndex) -> list[Family]:
    """All of them; what follows from tables that stayed the same is the same objects as in the version before."""
    names = [source.id for source in settings.enabled_sources]
    closed = [endpoints.closed_through(look, name) for name in names]
    marks = [(name, *look.manifest.sources.get(name, {}).items()) for name in names]

    def known(what: str, tables: Sequence[str], build: Callable[[], list[Family]], *state: Any) -> list[Family]:
        return look.once(("families", what, *names), tables, build, *state)

    return [
        *known("endpoint counters", [*_grains("endpoint", "day", "hour"), PAST], lambda: _endpoint_counters(look, names)),
        *known("endpoint gauges", _grains("endpoint", *endpoints.LENGTH), lambda: _endpoint_gauges(look, names), *closed),
        *_tasks(settings, look, index),
        *known("outputs", [*_grains("output", "day", "hour"), PAST], lambda: _outputs(look, names)),
        *known("processes", ["raw.process_sample"], lambda: _processes(look), look.as_of),
        *known("targets", ["raw.probe_result"], lambda: _targets(look), look.as_of),
        *known("ingest", [*_grains("ingest", "day", "hour"), "raw.ingest_counter", PAST], lambda: _ingest(look, names),
               look.as_of),
        *known("extraction", ["meta.extract_mark", "meta.source_state", PAST], lambda: _extraction(look, names), *marks),
        *known("anomalies", ["meta.anomaly_summary", PAST], lambda: _anomalies(look, names)),
    ]  # fmt: skip


def _grains(family: str, *grains: endpoints.Grain) -> list[str]:
    return [endpoints.table_of(family, grain) for grain in grains]


def _all_time(look: Look, family: str, source: str) -> dict[tuple[str, ...], list[Any]]:
    """Keys → sums over every closed bucket there ever was: what retention removed, then day rows of closed days, then hour
    rows for what is later (M-903).
    """
    day, hour = endpoints.table_of(family, "day"), endpoints.table_of(family, "hour")
    counted = DAYS[day]
    removed = past(look, day, source)
    since = removed.until
    columns = ", ".join((*counted.keys, *counted.columns))
    parts = []
    if look.has(day):
        sql = f"SELECT max(stat_date) FROM {look.table(day)} WHERE source_id = ? AND state = 'closed'"
        last = look.value(sql, [source])
        if last is not None:
            kept = f" AND stat_date >= TIMESTAMP '{since}'" if since else ""
            closed = datetime(last.year, last.month, last.day) + DAY
            since = max(closed, since or closed)
            known = f"source_id = $source AND stat_date < TIMESTAMP '{since}' AND {counted.where}{kept}"
            parts.append(f"SELECT {columns} FROM {look.table(day)} WHERE {known}")
    if look.has(hour):
        later = f"source_id = $source AND {counted.where}" + (f" AND stat_hour >= TIMESTAMP '{since}'" if since else "")
        parts.append(f"SELECT {columns} FROM {look.table(hour, since)} WHERE {later}")
    added = ", ".join(f"sum({name})" for name in counted.columns)
    sql = f"SELECT [{', '.join(counted.keys)}]::VARCHAR[] AS keys, {added} FROM ({' UNION ALL '.join(parts)}) GROUP BY keys"
    found = {tuple(keys): sums for keys, *sums in (look.tuples(sql, {"source": source}) if parts else ())}
    for (*keys, column), amount in removed.amounts.items():
        if column not in counted.columns:  # files of another version of the program; the other counters are good
            log.warning("%s: removed amounts of %s are not counted, this version does not know the column", day, column)
            continue
        sums = found.setdefault(tuple(keys), [None] * len(counted.columns))
        index = counted.columns.index(column)
        sums[index] = plus(sums[index], amount)
    return dict(sorted(found.items()))


def _endpoint_counters(look: Look, names: Sequence[str]) -> list[Family]:
    labels = ("source", "endpoint", "outcome")
    family = Family("mp_endpoint_tasks_total", "counter", "Tasks by outcome in closed buckets", labels)
    for source in names:
        for (endpoint,), counts in _all_time(look, "endpoint", source).items():
            for name, count in zip(_OUTCOMES, counts, strict=True):
                family.add((source, endpoint, name), None if count is None else int(count))
    return [family]


_LAST_MINUTE = (
    ("mp_endpoint_active_workers", "active_workers", "Workers active in the last closed minute"),
    ("mp_endpoint_idle_workers", "idle_workers", "Workers idle in the last closed minute"),
    (
        "mp_endpoint_worker_utilization_percent",
        "avg_worker_utilization",
        "Busy share of online time, last closed minute",
    ),
    ("mp_endpoint_slot_utilization_percent", "slot_utilization", "Busy share of slots, last closed minute"),
    ("mp_endpoint_queue_depth", "queue_depth_end", "Tasks waiting at the end of the last closed minute"),
    ("mp_endpoint_running", "running_end", "Tasks running at the end of the last closed minute"),
)
_LAST_HOUR = (
    (
        "mp_endpoint_success_rate_percent",
        "success_rate",
        1,
        "completed/(completed+failed+timeout), last 60 closed minutes",
    ),
    ("mp_endpoint_queue_wait_avg_seconds", "avg_queue_wait_ms", 1000, "Mean wait, last 60 closed minutes"),
    ("mp_endpoint_execution_avg_seconds", "avg_execution_ms", 1000, "Mean execution time, last 60 closed minutes"),
    ("mp_endpoint_execution_p50_seconds", "p50_execution_ms", 1000, "Median execution time, last 60 closed minutes"),
    (
        "mp_endpoint_execution_p95_seconds",
        "p95_execution_ms",
        1000,
        "95th percentile of execution time, last 60 closed minutes",
    ),
    (
        "mp_endpoint_execution_p99_seconds",
        "p99_execution_ms",
        1000,
        "99th percentile of execution time, last 60 closed minutes",
    ),
    (
        "mp_endpoint_gpu_utilization_percent",
        "avg_gpu_utilization",
        1,
        "Sample-weighted GPU mean, last 60 closed minutes",
    ),
    ("mp_endpoint_snapshot_coverage_percent", "snapshot_coverage_pct", 1, "Snapshot coverage, last 60 closed minutes"),
)
#: Columns these families follow from: reading and merging all of them costs four times as much.
_READ = (
    "endpoint", "stat_minute", *(column for _, column, _ in _LAST_MINUTE), "tasks_completed", "tasks_failed",
    "tasks_timeout", "queue_wait_n", "queue_wait_sum_ms", "execution_n", "execution_sum_ms", "min_execution_ms",
    "max_execution_ms", "p50_execution_ms", "p95_execution_ms", "p99_execution_ms", "exec_hist", "gpu_n", "gpu_sum",
    "snapshots_expected", "snapshots_received",
)  # fmt: skip


def _endpoint_gauges(look: Look, names: Sequence[str]) -> list[Family]:
    labels = ("source", "endpoint")
    now = {name: Family(name, "gauge", text, labels) for name, _, text in _LAST_MINUTE}
    hour = {name: Family(name, "gauge", text, labels) for name, _, _, text in _LAST_HOUR}
    stamp = Family("mp_endpoint_stats_timestamp_seconds", "gauge", "End of the last closed minute", labels)
    minute = endpoints.table_of("endpoint", "minute")
    columns = ", ".join(name for name in _READ if name in look.columns(minute))
    for source in names if look.has(minute) else ():
        end = endpoints.closed_through(look, source)
        if end is None:
            continue
        rows = look.rows(
            f"SELECT {columns} FROM {look.table(minute, end - HOUR, end)} WHERE source_id = $source AND stat_minute >= $start "
            "AND stat_minute < $end ORDER BY endpoint, stat_minute",
            {"source": source, "start": end - HOUR, "end": end},
        )
        by_name: dict[str, list[dict[str, Any]]] = {}
        counts = endpoints.measured(look, source)
        endpoints.parse_maps(rows)
        for row in rows:
            by_name.setdefault(row["endpoint"], []).append(row)
        for known in endpoints.listed(look, [source]):  # an idle endpoint goes on being told; after a day it is gone
            if known["latest"] is not None or known["registered_status"] is not None:
                by_name.setdefault(known["endpoint"], [])
        for endpoint, found in sorted(by_name.items()):
            key = (source, endpoint)
            # A closed minute without row is a known zero of what is measured, its rates are not known (M-110).
            newest = found[-1] if found and found[-1]["stat_minute"] == end - MINUTE else None
            for name, column, _ in _LAST_MINUTE:
                now[name].add(key, _plain(newest[column]) if newest else 0 if column in counts else None)
            merged = endpoints.summary(found) if found else {}
            for name, column, divisor, _ in _LAST_HOUR:
                value = merged.get(column)
                hour[name].add(key, None if value is None else round(float(value) / divisor, 6))
            stamp.add(key, int(seconds(end)))
    return [*now.values(), *hour.values(), stamp]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else float(value)


def _tasks(settings: Settings, look: Look, index: TaskIndex) -> list[Family]:
    active = Family("mp_tasks_active", "gauge", "Open attempts", ("source",))
    limit = Family("mp_slots_limit", "gauge", "Slots configured", ("source",))
    used = Family("mp_slots_in_use", "gauge", "Slots in use: open attempts", ("source",))
    leaked = Family(
        "mp_slots_leaked", "gauge", "Timed-out attempts whose executor has not reported an end", ("source",)
    )
    late = Family("mp_late_events_total", "counter", "Final events after the counted outcome", ("source",))
    for source in settings.enabled_sources:
        if not source.mapped("task"):
            continue
        row = task_counters(index.totals(look, [source.id])[source.id], source)
        active.add((source.id,), row["active"])
        limit.add((source.id,), row["slots"]["limit"])
        used.add((source.id,), row["slots"]["in_use"])
        leaked.add((source.id,), row["slots"]["leaked"])
        # Files of a program that did not count them tell those of the tasks that are there.
        counted = past(look, LATE_EVENTS, source.id).amounts.get(()) or 0
        late.add((source.id,), int(counted if look.has(PAST) else row["late_events"]))
    return [active, limit, used, leaked, late]


def _outputs(look: Look, names: Sequence[str]) -> list[Family]:
    family = Family("mp_outputs_created_total", "counter", "Output rows seen, by origin", ("source", "origin"))
    for source in names:
        for created, repaired in _all_time(look, "output", source).values():
            family.add((source, "app"), None if created is None else int(created))
            family.add((source, "repair"), None if repaired is None else int(repaired))
    return [family]


_PROCESS = (
    ("mp_process_resident_memory_bytes", "rss_bytes", "Resident memory, newest sample"),
    ("mp_process_virtual_memory_bytes", "vms_bytes", "Virtual memory, newest sample"),
    ("mp_process_objects", "objects", "Objects, newest sample"),
    ("mp_process_open_fds", "fds", "Open file descriptors, newest sample"),
    ("mp_process_max_fds", "fds_max", "Limit of file descriptors, newest sample"),
    ("mp_process_cpu_percent", "cpu_pct", "CPU use, newest sample"),
    ("mp_process_threads", "threads", "Threads, newest sample"),
    ("mp_process_uptime_seconds", "uptime_s", "Uptime, newest sample"),
)


def _newest_rows(look: Look, table: str, keys: str) -> list[dict[str, Any]]:
    """The newest row per key of the last day."""
    if not look.has(table) or look.as_of is None:
        return []
    return look.rows(
        f'SELECT * FROM {look.table(table, look.as_of - DAY)} WHERE "at" >= $start '
        f'QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY "at" DESC) = 1 ORDER BY {keys}',
        {"start": look.as_of - DAY},
    )


def _processes(look: Look) -> list[Family]:
    import json

    labels = ("source", "process")
    families = {column: Family(name, "gauge", text, labels) for name, column, text in _PROCESS}
    states = Family(
        "mp_process_connections", "gauge", "Connections by TCP state, newest sample", (*labels, "state", "scope")
    )
    for row in _newest_rows(look, "raw.process_sample", "source_id, process_id"):
        key = (row["source_id"], row["process_id"])
        for column, family in families.items():
            family.add(key, _plain(row[column]))
        for column, scope in (("tcp_by_state", "process"), ("host_tcp_by_state", "host")):
            for state in sorted(_seen_states(look, key, column)) if row[column] is not None else ():
                states.add((*key, state, scope), int(json.loads(row[column]).get(state, 0)))
    return [*families.values(), states]


def _seen_states(look: Look, key: tuple[str, str], column: str) -> set[str]:
    """TCP states a process has shown in the last day: one that is absent now reads 0."""
    assert look.as_of is not None
    rows = look.tuples(
        f"SELECT DISTINCT unnest(json_keys({column})) FROM {look.table('raw.process_sample', look.as_of - DAY)} "
        f"WHERE source_id = ? AND process_id = ? AND {column} IS NOT NULL",
        list(key),
    )
    return {row[0] for row in rows}


def _targets(look: Look) -> list[Family]:
    labels = ("source", "target")
    up = Family("mp_target_up", "gauge", "Whether the newest scrape of the target worked", labels)
    success = Family("mp_probe_success", "gauge", "Whether the newest probe of the target was good", labels)
    latency = Family("mp_probe_latency_seconds", "gauge", "Latency of the newest probe", labels)
    for row in _newest_rows(look, "raw.probe_result", "source_id, target, kind"):
        key = (row["source_id"], row["target"])
        (up if row["kind"] == "scrape" else success).add(key, int(bool(row["up"])))
        if row["kind"] != "scrape" and row["latency_ms"] is not None:
            latency.add(key, round(float(row["latency_ms"]) / 1000, 6))
    return [up, success, latency]


def _ingest(look: Look, names: Sequence[str]) -> list[Family]:
    labels = ("source", "process", "series")
    total = Family("mp_ingest_messages_total", "counter", "Messages counted, resets removed", labels)
    rate = Family("mp_ingest_rate", "gauge", "Messages per second over 5 minutes", labels)
    for source in names:
        for (process, series), (increase,) in _all_time(look, "ingest", source).items():
            total.add((source, process, series), None if increase is None else round(float(increase), 6))
    if look.has("raw.ingest_counter") and look.as_of is not None:
        for row in look.tuples(
            _RATE.format(table=look.table("raw.ingest_counter", look.as_of - DAY)), {"as_of": look.as_of}
        ):
            rate.add(row[:3], None if row[3] is None else round(float(row[3]), 6))
    return [total, rate]


#: Increase over the last five minutes / 300 s; a counter that became smaller began anew (M-701, C-441).
_RATE = """
SELECT source_id, process_id, series, coalesce(sum(step) FILTER ("at" > $as_of - INTERVAL 5 MINUTE), 0) / 300.0
FROM (
    SELECT source_id, process_id, series, "at",
        CASE WHEN value >= before THEN value - before ELSE value END AS step
    FROM (
        SELECT *, lag(value) OVER (PARTITION BY source_id, process_id, series, kind ORDER BY "at") AS before
        FROM {table} WHERE kind IN ('ok', 'generic') AND "at" <= $as_of
    )
)
GROUP BY source_id, process_id, series ORDER BY ALL
"""


def _extraction(look: Look, names: Sequence[str]) -> list[Family]:
    last = Family(
        "mp_extract_last_success_timestamp_seconds", "gauge", "Beginning of the last successful extraction", ("source",)
    )
    closed = Family(
        "mp_closed_through_timestamp_seconds", "gauge", "Minutes before this instant are closed", ("source",)
    )
    rows = Family("mp_extract_rows_total", "counter", "Rows read", ("source", "table"))
    drift = Family("mp_schema_drift", "gauge", "Whether a mapped table or column is missing or changed", ("source",))
    for source in names:
        state = look.manifest.sources.get(source, {})
        at, through = state.get("as_of"), state.get("closed_through")
        last.add((source,), None if at is None else seconds(at))
        closed.add((source,), None if through is None else int(seconds(through)))
    if look.has("meta.extract_mark"):
        marked = look.tuples(
            f"SELECT source_id, src_table, sum(rows_total)::BIGINT FROM {look.table('meta.extract_mark')} GROUP BY ALL"
        )
        for key, n in _with_past(look, EXTRACT_ROWS, names, marked):
            rows.add(key, n)
        changed = drifted(look)
        for source in names:
            drift.add((source,), int(source in changed))
    return [last, closed, rows, drift]


def _anomalies(look: Look, names: Sequence[str]) -> list[Family]:
    family = Family("mp_anomalies_total", "counter", "Anomalies by kind", ("source", "kind"))
    restated = Family("mp_stat_restated_rows_total", "counter", "Restated statistics rows", ("grain",))
    if look.has("meta.anomaly_summary"):
        there = look.tuples(
            f"SELECT source_id, kind, sum(n)::BIGINT FROM {look.table('meta.anomaly_summary')} GROUP BY ALL"
        )
        for key, n in _with_past(look, ANOMALIES, names, there):
            family.add(key, n)
    amounts = past(look, RESTATED, "").amounts
    for grain in endpoints.LENGTH if look.has(PAST) else ():
        restated.add((grain,), int(amounts.get((grain,)) or 0))
    return [family, restated]


def _with_past(
    look: Look, counter: str, names: Sequence[str], there: Sequence[tuple[str, str, int]]
) -> list[tuple[tuple[str, str], int]]:
    """(source, label) → count, in order: of what is there, with what was removed."""
    found = {(source, label): n for source, label, n in there if source in names}
    for source in names:
        for (label,), amount in past(look, counter, source).amounts.items():
            found[source, label] = int(plus(found.get((source, label)), amount) or 0)
    return sorted(found.items())


def job_families(look: Look, rows: Sequence[Mapping[str, Any]], *, with_source: bool, base_units: bool) -> list[Family]:
    """Families of jobs under their own names (S-310); with ``base_units`` durations are seconds under other names."""
    labels: tuple[str, ...] = ("job_id", "job_name", "owner", "category")
    if with_source:
        labels = (*labels, "source")
    counters = [
        (Family("scheduler_job_success_total", "counter", "Number of successful job runs", labels), "success_count"),
        (
            Family("scheduler_job_failure_total", "counter", "Number of failed job runs (including timeouts)", labels),
            "failure_count",
        ),
        (
            Family("scheduler_job_missed_total", "counter", "Number of due runs that were missed", labels),
            "missed_count",
        ),
        (
            Family("scheduler_job_skipped_total", "counter", "Number of due runs that were skipped", labels),
            "skipped_count",
        ),
    ]
    unit, divisor, digits = ("seconds", 1000, 5) if base_units else ("ms", 1, 2)
    gauges = [
        (Family(f"scheduler_job_last_duration_{unit}", "gauge", f"Duration of the last finished run in {_UNITS[unit]}", labels,
                digits=digits), "last_duration_ms"),
    ]  # fmt: skip
    for name, text in _STATISTICS:
        title = f"{text} duration of the last 1000 finished runs"
        family = Family(f"scheduler_job_duration_{name}_{unit}", "gauge", title, labels, digits=digits)
        gauges.append((family, f"{name}_duration_ms"))
    stamp = Family("scheduler_job_last_run_timestamp", "gauge", "End of the last finished run, Unix seconds", labels)
    for row in rows:
        values = [row["job_id"], row["job_name"], row["owner"], row["category"]]
        key = texts([*values, row["source_id"]] if with_source else values)
        for family, column in counters:
            family.add_texts(key, row[column])
        for family, column in gauges:
            family.add_texts(key, None if row[column] is None else row[column] / divisor)
        stamp.add_texts(key, None if row["last_timestamp"] is None else round(seconds(row["last_timestamp"]), 3))
    return [*(family for family, _ in counters), gauges[0][0], stamp, *(family for family, _ in gauges[1:])]


_UNITS = {"ms": "milliseconds", "seconds": "seconds"}
_STATISTICS = (
    ("avg", "Average"), ("p50", "50th percentile of the"), ("p95", "95th percentile of the"),
    ("p99", "99th percentile of the"), ("min", "Minimum"), ("max", "Maximum"),
)  # fmt: skip
