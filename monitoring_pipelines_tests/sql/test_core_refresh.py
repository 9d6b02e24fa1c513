"""What makes core keys be computed again, how far back rows are found, and which hours are marked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from monitoring_pipelines.config.schema import RetentionSettings
from monitoring_pipelines.warehouse.core_refresh import refresh_core
from monitoring_pipelines.warehouse.retention import RetentionReport, prune_raw_slice
from monitoring_pipelines_tests.sql.core_cases import AS_OF, SOURCE, add_rows, contents, new_warehouse, set_now

LATER = AS_OF + timedelta(minutes=10)


def _event(key: str, kind: str, at: datetime, worker: str | None = None) -> dict[str, Any]:
    return {"task_key": key, "event_type": kind, "at": at, "worker_key": worker}


def _attempts(con: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return con.execute("SELECT task_key, outcome, ended_at FROM core.task_attempt ORDER BY 1, attempt_no").fetchall()


def _hours(con: duckdb.DuckDBPyConnection) -> list[int]:
    rows = con.execute("SELECT hour FROM meta.dirty_hour ORDER BY 1").fetchall()
    con.execute("DELETE FROM meta.dirty_hour")
    return [int((AS_OF - hour) / timedelta(hours=1)) for (hour,) in rows]


def test_a_late_event_of_an_old_task_finds_its_old_rows() -> None:
    """E-604, M-803: a task far outside the hot window is read and replaced as a whole, next to recent ones."""
    old = AS_OF - timedelta(days=3)
    with new_warehouse() as con:
        add_rows(con, "raw.task", [{"task_key": "old", "created_at": old}])
        add_rows(con, "raw.task_event", [_event("old", "created", old), _event("old", "assigned", old, "w")])
        refresh_core(con, SOURCE)
        assert _attempts(con) == [("old", "open", None)]
        assert _hours(con)[-1] == 0
        add_rows(con, "raw.task", [{"task_key": "new", "created_at": AS_OF}])
        add_rows(
            con,
            "raw.task_event",
            [_event("new", "created", AS_OF), _event("old", "completed", old + timedelta(hours=1), "w")],
            10,
        )
        refresh_core(con, SOURCE)
        assert _attempts(con) == [("old", "completed", old + timedelta(hours=1))]
        assert con.execute("SELECT count(*) FROM core.task_instant").fetchall() == [(3,)]


def test_late_events_stay_counted_when_their_task_is_removed() -> None:
    """S-303: counted once each, however often a task is computed again, and still when retention has removed it."""

    def late() -> list[tuple[Any, ...]]:
        return con.execute("SELECT amount FROM meta.counter_past WHERE counter = 'late_events'").fetchall()

    def happen(key: str, at: datetime, no: int) -> None:
        add_rows(con, "raw.task", [{"task_key": key, "created_at": at, "status": "succeeded", "ended_at": at}])
        kinds = ("created", "assigned", "completed", "failed", "failed")
        add_rows(
            con,
            "raw.task_event",
            [_event(key, kind, at + n * timedelta(seconds=5), "w") for n, kind in enumerate(kinds)],
            no,
        )
        refresh_core(con, SOURCE)

    with new_warehouse() as con:
        happen("old", AS_OF - timedelta(days=20), 1)
        assert late() == [(2,)]
        con.execute("INSERT INTO meta.dirty_task SELECT source_id, task_key, created_at FROM raw.task")
        refresh_core(con, SOURCE)
        assert late() == [(2,)]
        con.execute("UPDATE meta.source_state SET closed_through = as_of")
        con.execute("DELETE FROM meta.dirty_hour")  # as if their statistics were computed
        for _ in range(2):
            while prune_raw_slice(con, SOURCE, RetentionSettings(raw_days=5), AS_OF, RetentionReport()):
                pass
            assert con.execute("SELECT count(*) FROM core.task_attempt").fetchall() == [(0,)]
            assert late() == [(2,)]
        happen("new", AS_OF - timedelta(days=1), 10)
        assert late() == [(4,)]


def test_time_alone_brings_back_future_rows_and_derived_timeouts() -> None:
    """E-306, M-217: what becomes due without any new row is computed when the clock reaches it."""
    with new_warehouse({"timeout_mode": "derive", "timeout_limit_s": 300}) as con:
        add_rows(con, "raw.task", [{"task_key": key, "created_at": AS_OF} for key in "ab"])
        add_rows(con, "raw.task_event", [
            _event("a", "created", AS_OF), _event("a", "assigned", AS_OF, "w"),
            _event("b", "created", AS_OF), _event("b", "assigned", AS_OF, "w"),
            _event("b", "completed", AS_OF + timedelta(minutes=2), "w"),
        ])  # fmt: skip
        refresh_core(con, SOURCE)
        assert _attempts(con) == [("a", "open", None), ("b", "open", None)]
        set_now(con, LATER)
        refresh_core(con, SOURCE)
        assert _attempts(con) == [
            ("a", "timeout", AS_OF + timedelta(minutes=5)), ("b", "completed", AS_OF + timedelta(minutes=2)),
        ]  # fmt: skip


def test_the_end_of_a_worker_closes_its_open_attempts_and_new_life_opens_them() -> None:
    """M-210 d, M-302, M-807: silence is provisional; evidence that follows takes the end back."""
    with new_warehouse() as con:
        ready = AS_OF - timedelta(minutes=30)
        add_rows(con, "raw.worker", [{"worker_key": "w", "ready_at": ready, "last_heartbeat_at": AS_OF}])
        add_rows(con, "raw.task", [{"task_key": "a", "created_at": AS_OF}])
        add_rows(con, "raw.task_event", [_event("a", "created", AS_OF), _event("a", "assigned", AS_OF, "w")])
        refresh_core(con, SOURCE)
        set_now(con, LATER)
        refresh_core(con, SOURCE)
        assert _attempts(con) == [("a", "lost", AS_OF)]
        assert con.execute("SELECT end_source, lost_at FROM core.worker_life").fetchall() == [("silence", AS_OF)]
        add_rows(con, "raw.worker_snapshot", [{"worker_key": "w", "at": LATER, "is_idle": False}])
        refresh_core(con, SOURCE)
        assert _attempts(con) == [("a", "open", None)]
        assert con.execute("SELECT end_at FROM core.worker_life").fetchall() == [(None,)]


def test_the_end_of_a_worker_leaves_its_finished_tasks_alone() -> None:
    """M-210 d: only attempts that are open, or end after a begin or end that moved, are read again."""
    with new_warehouse() as con:
        ready = AS_OF - timedelta(hours=3)
        worker = {"worker_key": "w", "ready_at": ready, "last_heartbeat_at": AS_OF}
        add_rows(con, "raw.worker", [worker])
        for number, at in enumerate((ready, AS_OF - timedelta(hours=1))):
            events = [("created", at), ("assigned", at), ("completed", at + timedelta(minutes=1))]
            rows = [_event(f"t{number}", kind, when, "w") for kind, when in events]
            add_rows(con, "raw.task_event", rows, 10 * number)
        assert refresh_core(con, SOURCE).tasks == 2
        for changes in ({"cold_start_ms": 41000}, {"terminated_at": AS_OF}):
            con.execute("DELETE FROM raw.worker")
            worker |= changes
            add_rows(con, "raw.worker", [worker])
            assert refresh_core(con, SOURCE).tasks == 0, changes
        assert con.execute("SELECT end_at, cold_start_ms FROM core.worker_life").fetchall() == [(AS_OF, 41000)]


def test_only_what_changed_is_marked() -> None:
    """E-603: the end of a long attempt marks its last hour, not all it ran through; a new start marks its own."""
    with new_warehouse() as con:
        begun = AS_OF - timedelta(hours=4)
        add_rows(con, "raw.task", [{"task_key": "a", "created_at": begun}])
        add_rows(con, "raw.task_event", [_event("a", "created", begun), _event("a", "assigned", begun, "w")])
        add_rows(con, "raw.worker", [{"worker_key": "w", "ready_at": begun}])
        refresh_core(con, SOURCE)
        assert _hours(con) == [4, 3, 2, 1, 0]
        add_rows(con, "raw.task_event", [_event("a", "completed", AS_OF - timedelta(minutes=5), "w")], 10)
        refresh_core(con, SOURCE)
        assert _hours(con) == [1, 0]


def test_a_failure_leaves_keys_dirty_and_rows_as_they_were() -> None:
    """M-806, E-602: a step that fails takes its keys, rows and marks back; the next run completes it."""
    with new_warehouse() as con:
        add_rows(con, "raw.task_event", [_event(key, "created", AS_OF) for key in "abcdef"])
        con.execute("ALTER TABLE core.task_wait RENAME TO task_wait_moved")
        con.execute("CREATE VIEW core.task_wait AS SELECT * FROM core.task_wait_moved")
        with pytest.raises(duckdb.Error):
            refresh_core(con, SOURCE, chunk_tasks=2)
        assert not any(contents(con).values())
        assert con.execute("SELECT count(DISTINCT task_key) FROM meta.dirty_task").fetchall() == [(6,)]
        con.execute("DROP VIEW core.task_wait")
        con.execute("ALTER TABLE core.task_wait_moved RENAME TO task_wait")
        assert refresh_core(con, SOURCE, chunk_tasks=2).tasks == 6
        assert con.execute("SELECT count(*) FROM core.task_wait").fetchall() == [(6,)]


def test_busy_time_from_samples_does_not_depend_on_when_the_end_of_a_worker_became_known() -> None:
    """M-318, M-805: a later heartbeat that moves an end by silence, or is the first of all, leaves busy time as in one go."""
    setting = {"has_task": False, "has_task_times": False, "has_task_event": False}
    poll, sample = {"worker_key": "w", "origin": "poll", "polled_status": "busy"}, {"worker_key": "w", "is_idle": False}

    def at(minutes: float) -> datetime:
        return AS_OF + timedelta(minutes=minutes)

    polls = [poll | {"at": at(2)}, poll | {"at": at(12)}, poll | {"at": at(22)}, poll | {"at": at(40)}]
    for number, beat in enumerate((None, 12.1, 12.1, 12.2)):
        polls[number] |= {"snapshot_key": f"p{number}", "heartbeat_at": None if beat is None else at(beat)}
    samples = [sample | {"snapshot_key": "s1", "at": at(12)}]
    others = [sample | {"snapshot_key": "s2", "at": at(20), "worker_key": "other"}]
    for has_snapshots in (True, False):
        parts = [polls[:1], [polls[1], *samples], [polls[2], *others], polls[3:]]
        found = []
        for in_one_go in (True, False):
            with new_warehouse(setting | {"has_worker_snapshot": has_snapshots}) as con:
                add_rows(con, "raw.worker", [{"worker_key": "w", "ready_at": AS_OF}])
                for part, now in zip(parts, (3, 13, 23, 41), strict=True):
                    for row in part:
                        if has_snapshots or "is_idle" not in row:
                            add_rows(con, "raw.worker_snapshot", [row])
                    set_now(con, at(now))
                    if not in_one_go or now == 41:
                        refresh_core(con, SOURCE)
                found.append(con.execute("SELECT * FROM core.worker_interval ORDER BY ALL").fetchall())
        assert found[0] == found[1]
        assert [row for row in found[0] if "busy" in row]
