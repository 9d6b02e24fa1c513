"""Whole days of the synthetic platform in a warehouse: raw rows, core and statistics.

What belongs here: writing raw rows as extraction would have left them, computing a day from them, and copying the
computed rows of one day to others. What does not: the sequence of tasks itself (``_platform``) and measuring.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from benchmarks._platform import BUSY, ENDPOINTS, WORKERS, Platform

SOURCE = "shop"
#: History of whole days ends here; the source holds only what comes later.
MIDNIGHT = datetime(2026, 2, 11)
DAY = timedelta(days=1)
_HASH = "md5_number_lower(concat_ws(chr(31), '{source}', {key}))"
_EVENTS = (
    "(values (0, 'created', 0, 400), (1, 'assigned', 1500000, 418), (2, 'started', 1600000, 420), "
    "(3, 'completed', 31500000, 793)) o(k, kind, delay, ahead)"
)


def _hash(key: str) -> str:
    return _HASH.format(source=SOURCE, key=key)


def fill_raw(con: Any, platform: Platform, end: datetime) -> None:
    """Write ``[origin, end)`` into the raw tables, day by day, as extraction would have left it.

    Args:
        con: open DuckDB connection to the warehouse.
        platform: the sequence to write.
        end: UTC midnight up to which events exist; tasks that end later have ended, their last events are missing.
    """
    start = platform.origin
    while start < end:
        _fill_tasks(con, platform, start, start + DAY)
        _fill_events(con, platform, start, start + DAY)
        _fill_snapshots(con, platform, start, start + DAY)
        start += DAY


def _sequence(platform: Platform, first: int, last: int) -> str:
    """The tasks ``first <= i < last`` with their instants, as a derived table."""
    created = f"(timestamp '{platform.origin}' + to_milliseconds(i * {platform.step_ms}))"
    return (
        f"(select i, {created} c, {created} + interval 1500 millisecond got, {created} + interval 31500 millisecond done, "
        f"'task-' || lpad(upper(to_hex(i)), 12, '0') task_key, 'ep-' || ((i % {BUSY}) % {ENDPOINTS}) endpoint, "
        f"'w-' || (i % {BUSY}) w from range({first}, {last}) t(i))"
    )


def _fill_tasks(con: Any, platform: Platform, start: datetime, end: datetime) -> None:
    tasks = _sequence(platform, platform.task_number(start), platform.task_number(end))
    con.execute(
        f"""insert into raw.task by name select '{SOURCE}' source_id, task_key, endpoint, 'succeeded' status,
            'COMPLETED' raw_status, w worker_key, c created_at, got started_at, done ended_at, done updated_at,
            true output_expected, false is_deleted, c status_seen_at, done effective_end, i + 1 row_id, 'tasks' src_table,
            c first_seen_at, done changed_at, md5(task_key) row_hash, []::varchar[] anomalies,
            {_hash("task_key")} key_hash, {_hash("task_key")} task_hash from {tasks}"""
    )
    con.execute(
        f"""insert into raw.task_output by name select '{SOURCE}' source_id, 'inline ' || task_key output_key, task_key,
            done created_at, false is_deleted, 'inline' origin, true AS valid, md5(task_key) natural_key, 'tasks' src_table,
            c first_seen_at, done changed_at, {_hash("'inline ' || task_key")} key_hash,
            {_hash("task_key")} task_hash from {tasks}"""
    )


def _fill_events(con: Any, platform: Platform, start: datetime, end: datetime) -> None:
    tasks = _sequence(platform, max(0, platform.task_number(start) - 400), platform.task_number(end))
    con.execute(
        f"""insert into raw.task_event by name select *, {_hash("event_key")} key_hash from (
            select '{SOURCE}' source_id, 'e' || id event_key, task_key, endpoint, kind event_type,
            'TASK_' || upper(kind) raw_type, t "at", case when k = 0 then null else w end worker_key, id row_id,
            'task_events' src_table, t first_seen_at, t changed_at, md5(id::varchar) row_hash,
            []::varchar[] anomalies, {_hash("task_key")} task_hash from (
            select (i - 400 + ahead) * 4 + k + 1 id, k, kind, task_key, endpoint, w, c + to_microseconds(delay) t
            from {tasks}, {_EVENTS}) where t >= timestamp '{start}' and t < timestamp '{end}')"""
    )


def _fill_snapshots(con: Any, platform: Platform, start: datetime, end: datetime) -> None:
    first, last = (int((at - platform.origin) / timedelta(minutes=1)) for at in (start, end))
    parts = {
        7: (
            f"'source' origin, (m * {WORKERS} + w + 1)::varchar snapshot_key, m * {WORKERS} + w + 1 row_id, "
            f"{platform.is_idle('m', 'w')} is_idle, 40.0 + w % 50 gpu_utilization"
        ),
        30: (
            "'poll' origin, 'poll-' || m || '-' || w snapshot_key, 'online' polled_status, "
            f"timestamp '{platform.origin}' + to_seconds(m * 60 + 30) heartbeat_at"
        ),
    }
    for offset, columns in parts.items():
        con.execute(
            f"""insert into raw.worker_snapshot by name select *, {_hash("snapshot_key")} key_hash from (
                select '{SOURCE}' source_id, 'w-' || w worker_key, 'ep-' || (w % {ENDPOINTS}) endpoint,
                timestamp '{platform.origin}' + to_seconds(m * 60 + {offset}) "at", {columns},
                'worker_resource_snapshots' src_table, []::varchar[] anomalies, md5(m::varchar) row_hash,
                timestamp '{platform.origin}' + to_seconds(m * 60 + {offset}) first_seen_at
                from range({first}, {last}) t(m), range({WORKERS}) v(w))"""
        )


def build_history(path: str, days: str, step_ms: str = "80") -> None:
    """Raw rows of whole days up to ``MIDNIGHT``, with marks that say everything before was read and closed."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.core_tables import ensure_core
    from monitoring_pipelines.warehouse.families import activate
    from monitoring_pipelines.warehouse.windows import prepare

    platform = Platform(MIDNIGHT - timedelta(days=int(days)), int(step_ms))
    with Warehouse(path, clock=FixedClock(MIDNIGHT), threads=4).writer("fill") as con:
        fill_raw(con, platform, MIDNIGHT)
        con.execute(
            "INSERT INTO raw.worker BY NAME SELECT s.source_id, 'w-' || i AS worker_key, 1 AS life_no, "
            f"'ep-' || i % {ENDPOINTS} AS endpoint, 'online' AS status, 1 AS concurrency, 0 AS current_jobs, "
            "s.ready AS created_at, s.ready AS pod_created_at, s.ready AS pod_started_at, s.ready AS ready_at, "
            "41000 AS cold_start_ms, s.now AS last_heartbeat_at, "
            "md5_number_lower(concat_ws(chr(31), s.source_id, 'w-' || i)) AS key_hash, 'workers' AS src_table "
            f"FROM range({WORKERS}) AS t(i), (SELECT ? AS source_id, ?::TIMESTAMP AS ready, ?::TIMESTAMP AS now) AS s",
            [SOURCE, platform.origin - timedelta(hours=1), MIDNIGHT],
        )
        con.execute(
            "INSERT INTO meta.source_state (source_id, as_of, closed_through, origin) VALUES (?, ?, ?, ?)",
            [SOURCE, MIDNIGHT, MIDNIGHT, platform.origin],
        )
        con.execute(
            "INSERT INTO meta.source_setting BY NAME SELECT ? AS source_id, 60 AS settle_s, 60 AS snapshot_interval_s, "
            "180 AS snapshot_tolerance_s, 300 AS clock_skew_max_s, 168 AS max_duration_h, 'source' AS timeout_mode, "
            "3600 AS timeout_limit_s, 5 AS future_tolerance_s, true AS has_task, true AS has_task_times, "
            "true AS has_task_event, true AS has_worker, true AS has_worker_snapshot, false AS has_worker_event, "
            "true AS has_cold_start, false AS has_endpoint, true AS has_output",
            [SOURCE],
        )
        ensure_core(con)
        prepare(con)
        activate(con, SOURCE, ["task_output"])
        con.execute("INSERT INTO meta.window_progress VALUES (?, 'endpoint', ?)", [SOURCE, MIDNIGHT])
        con.execute(
            "INSERT INTO meta.window_progress VALUES (?, 'output', ?)", [SOURCE, MIDNIGHT - timedelta(minutes=5)]
        )


def build_day(path: str, day: str) -> dict[str, Any]:
    """Core and statistics of one stored day from its raw rows; the seconds of each part."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.core_refresh import refresh_core
    from monitoring_pipelines.warehouse.windows import refresh_day, refresh_hours

    start = datetime.fromisoformat(day)
    now = MIDNIGHT + timedelta(minutes=2)
    parts = {}
    with Warehouse(path, clock=FixedClock(now)).writer("rebuild") as con:
        con.execute(
            "INSERT INTO meta.dirty_task SELECT source_id, task_key, NULL FROM raw.task "
            f"WHERE created_at >= TIMESTAMP '{start}' AND created_at < TIMESTAMP '{start + DAY}'"
        )
        con.execute(
            "INSERT INTO meta.dirty_worker SELECT source_id, worker_key, ?::TIMESTAMP, NULL FROM raw.worker", [start]
        )
        began = time.perf_counter()
        refresh_core(con, SOURCE)
        parts["core_s"] = time.perf_counter() - began
        began = time.perf_counter()
        for family in ("endpoint", "output"):
            refresh_hours(con, [start + timedelta(hours=hour) for hour in range(24)], now, family=family)
            refresh_day(con, start, now, family=family)
        parts["mart_s"] = time.perf_counter() - began
        con.execute("DELETE FROM meta.dirty_hour")
        con.execute("CHECKPOINT")
    return parts


def copy_days(path: str, template: str, days: str, step_ms: str = "80") -> dict[str, Any]:
    """Core and statistics of ``days`` days from a store that has the newest of them computed; all days are alike.

    Keys, hashes and times are those the computation would have made; this is checked for an hour of the oldest day. The
    tasks that cross a midnight are copies of tasks one round of the workers earlier, whose end was seen.
    """
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.windows import refresh_hours

    count, step = int(days), int(step_ms)
    per_day = int(DAY / timedelta(milliseconds=step))
    if per_day % BUSY:
        raise ValueError(f"a task every {step} ms: a day is no whole number of rounds over {BUSY} workers")
    oldest = MIDNIGHT - count * DAY
    now = MIDNIGHT + timedelta(minutes=2)
    with Warehouse(path, clock=FixedClock(now), threads=4).writer("copy") as con:
        con.execute(f"ATTACH '{template}' AS day (READ_ONLY)")
        for table in ("task_attempt", "task_instant", "task_wait", "task_result", "output_instant"):
            for number in range(count):
                back, ahead = count - 1 - number, number * per_day
                cut = per_day - BUSY if back else per_day
                _copy_tasks(con, table, back * DAY, ahead, 0, cut)
                if back:
                    later = BUSY * timedelta(milliseconds=step)
                    _copy_tasks(con, table, back * DAY - later, ahead + BUSY, cut - BUSY, cut)
        _copy_rest(con, count, per_day)
        con.execute("DETACH day")
        changed = [
            run for family in ("endpoint", "output")
            for run in refresh_hours(con, [oldest + timedelta(hours=12)], now, family=family)
            if run.inserted or run.updated or run.deleted
        ]  # fmt: skip
        con.execute("CHECKPOINT")
    if changed:
        raise SystemExit(f"a copied hour is not what is computed from its rows: {changed}")
    return {}


def publish_all(path: str, lake: str) -> dict[str, Any]:
    """Publish everything of a store, as the first load does."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.warehouse.connect import Warehouse
    from monitoring_pipelines.warehouse.publish import Publication, publish_in_slices

    clock = FixedClock(MIDNIGHT + timedelta(minutes=2))
    warehouse = Warehouse(path, clock=clock)
    while publish_in_slices(Publication(lake, clock, budget_s=3600), warehouse).waiting:
        pass
    return {"longest_hold_s": warehouse.stats.longest_hold_s}


def _columns(con: Any, schema: str, table: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = con.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = 'day' AND schema_name = ? "
        "AND table_name = ? ORDER BY column_index",
        [schema, table],
    ).fetchall()
    return rows


def _moved(columns: list[tuple[str, str]], back: timedelta, keep: tuple[str, ...] = ()) -> dict[str, str]:
    """Every column as it is, times earlier by ``back``."""
    micro = int(back / timedelta(microseconds=1))
    return {
        name: f'"{name}" - to_microseconds({micro})' if kind == "TIMESTAMP" and name not in keep else f'"{name}"'
        for name, kind in columns
    }


def _insert(con: Any, table: str, values: dict[str, str], source: str) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    con.execute(f"INSERT INTO {table} ({names}) SELECT {', '.join(values.values())} FROM {source}")


def _copy_tasks(con: Any, table: str, back: timedelta, ahead: int, first: int, last: int) -> None:
    """Rows of the tasks ``first <= i < last`` of the computed day, ``ahead`` numbers on and ``back`` earlier."""
    if first >= last:
        return
    number = "('0x' || substr(task_key, 6))::BIGINT"
    key = f"'task-' || lpad(upper(to_hex({number} + {ahead})), 12, '0')"
    values = _moved(_columns(con, "core", table), back)
    values |= {"task_key": key, "task_hash": _hash(key)}
    if "output_key" in values:
        values["output_key"] = f"'inline ' || {key}"
    _insert(con, f"core.{table}", values, f"day.core.{table} WHERE {number} >= {first} AND {number} < {last}")


def _copy_rest(con: Any, count: int, per_day: int) -> None:
    """Workers once, begun earlier; statistics and what is to be published per day; what the last midnight left open."""
    since = (count - 1) * DAY
    for table in ("worker_life", "worker_interval", "worker_evidence"):
        moved = _moved(_columns(con, "core", table), since, ("last_at", "last_sample_at", "last_snapshot_at"))
        _insert(con, f"core.{table}", moved, f"day.core.{table}")
    ahead = (count - 1) * per_day
    key = f"'task-' || lpad(upper(to_hex(('0x' || substr(task_key, 6))::BIGINT + {ahead})), 12, '0')"
    status = _moved(_columns(con, "core", "task_status"), timedelta(0)) | {"task_key": key, "task_hash": _hash(key)}
    _insert(con, "core.task_status", status, "day.core.task_status")
    con.execute("INSERT INTO meta.publish_task SELECT task_hash FROM raw.task WHERE created_at >= ?", [MIDNIGHT - DAY])
    marts = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'day' AND schema_name = 'mart'"
    ).fetchall()
    for back in range(count - 1, -1, -1):
        for (table,) in marts:
            _insert(con, f"mart.{table}", _moved(_columns(con, "mart", table), back * DAY), f"day.mart.{table}")
        pending = _moved(_columns(con, "meta", "publish_pending"), back * DAY, ("marked_at",))
        pending["change_id"] = f"change_id || '-{back}'"
        _insert(con, "meta.publish_pending", pending, "day.meta.publish_pending")
