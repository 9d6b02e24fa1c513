"""A cycle finds every new, changed and late row, once, whatever happened in between (E-601 to E-613).

What belongs here: what rows become, with a mapping full of reserved words. What does not: failures (``test_faults``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from monitoring_pipelines_tests.source.tail_bench import NOW, TASK, Bench

Make = Callable[..., Bench]
LIVES = "select life_no, endpoint, ready_at, terminated_at from raw.worker order by life_no"
READY, GONE = NOW - timedelta(hours=2), NOW - timedelta(hours=1)


def _keys(bench: Bench, table: str = "raw.task", key: str = "task_key") -> list[str]:
    return [row[0] for row in bench.raw(f"select {key} from {table} order by 1")]


def _pod(bench: Bench, **values: object) -> None:
    names = ", ".join(values)
    bench.db.execute(
        f"insert into pod (name, endpoint, {names}) values ('w', 'e', {', '.join(['%s'] * len(values))})",
        tuple(values.values()),
    )


def test_first_cycle_loads_history_and_the_next_ones_only_what_is_new(tail: Make) -> None:
    """M-802, E-604: history once, then ids above the mark; as_of is the instant the cycle began."""
    bench = tail()
    for day in range(3):
        bench.task(f"old{day}", at=NOW - timedelta(days=day, hours=1))
    bench.event("e1")
    assert bench.cycle().first_load
    assert _keys(bench) == ["old0", "old1", "old2"]
    bench.task("new")
    second = bench.cycle(60)
    assert not second.first_load
    assert second.tables["order", "task"].written.inserted == 1
    assert _keys(bench) == ["new", "old0", "old1", "old2"]
    assert bench.raw("select as_of from meta.source_state") == [(NOW + timedelta(seconds=60),)]


def test_setting_marks_back_changes_nothing(tail: Make) -> None:
    """E-602."""
    bench = tail()
    bench.task("a")
    bench.event("e1")
    bench.cycle()
    bench.task("b", "RUN")
    bench.cycle(60)

    def rows() -> list[object]:
        return [bench.raw(f"select * from raw.{t} order by row_id") for t in ("task", "task_event")]

    before = rows()
    with bench.warehouse.writer("test") as con:
        con.execute("update meta.extract_mark set max_id = 0, safe_id = 0, holes = NULL, time_marks = '{}'")
        con.execute("delete from meta.dirty_task")
    bench.cycle(60)
    assert rows() == before
    assert bench.raw("select * from meta.dirty_task") == []


def test_open_rows_are_read_again_by_key_and_mark_their_task_dirty(tail: Make) -> None:
    """E-606, E-603: a status change in a table without updated_at, long after the overlap."""
    bench = tail()
    bench.task("a", "RUN")
    bench.cycle()
    bench.clock.advance(7200)
    with bench.warehouse.writer("test") as con:
        con.execute("delete from meta.dirty_task")
    bench.db.execute("update `order` set status = 'BAD', worker = 'v' where `key` = 'a'")
    bench.cycle(60)
    assert bench.raw("select status, worker_key from raw.task") == [("failed", "v")]
    assert bench.raw("select task_key from meta.dirty_task") == [("a",)]


def test_future_rows_are_flagged_wait_for_their_time_and_move_no_time_mark(tail: Make) -> None:
    """E-306: the clock of the source is 10 minutes ahead; nothing is lost when it is put right."""
    bench = tail()
    bench.task("a")
    bench.cycle()
    ahead = NOW + timedelta(minutes=10)
    bench.task("ahead", at=ahead)
    bench.event("e-ahead", at=ahead)
    bench.cycle(30)
    flagged = bench.raw("select task_key, anomalies from raw.task where task_key = 'ahead'")
    assert flagged == [("ahead", ["future_time"])]
    due = bench.raw("select \"key\", due_at from meta.pending_instant where entity = 'task_event'")
    assert due == [("e-ahead", ahead)]
    marks = bench.raw("select time_marks::varchar from meta.extract_mark where entity in ('task', 'task_event')")
    assert all("12:10" not in row[0] for row in marks)
    bench.task("right", at=NOW + timedelta(seconds=40))
    bench.cycle(30)
    assert "right" in _keys(bench)


def test_the_first_load_finds_future_and_uncommitted_rows_without_an_index_of_times(tail: Make) -> None:
    """E-306, E-604: rows dated after today are stored, and an id whose transaction is still open is not given up."""
    bench = tail()
    bench.db.execute("drop index created on `order`")
    bench.task("old", at=NOW - timedelta(days=40))
    bench.task("soon", at=NOW + timedelta(days=3))
    bench.task("far", at=NOW + timedelta(days=9000))
    slow = bench.db.connect(autocommit=False)
    bench.task("slow", connection=slow)
    bench.task("now")
    bench.cycle()
    assert _keys(bench) == ["far", "now", "soon"]
    slow.commit()
    slow.close()
    bench.cycle(30)
    assert _keys(bench) == ["far", "now", "slow", "soon"]


GROWING = """  task_output:
    table: output
    row_id: id
    key: id
    columns: {task_key: task, size_bytes: size, created_at: created}
"""


def test_changes_of_recent_rows_nobody_believes_open_are_found_by_their_times(tail: Make) -> None:
    """E-607: an output that grows, and a final task without an index of ends, change within the overlap."""
    bench = tail(tables=TASK.format(more="") + GROWING)
    bench.db.execute(
        "create table output (id bigint auto_increment primary key, task varchar(64), size bigint, created datetime(6), "
        "index (created))"
    )
    bench.db.execute("drop index ended on `order`")
    bench.task("a")
    bench.db.execute("insert into output (task, size, created) values ('a', null, %s)", (NOW - timedelta(seconds=50),))
    bench.cycle()
    bench.db.execute("update output set size = 100")
    bench.db.execute("update `order` set status = 'BAD' where `key` = 'a'")
    bench.cycle(30)
    assert bench.raw("select size_bytes from raw.task_output") == [(100,)]
    assert bench.raw("select status from raw.task") == [("failed",)]


def test_where_and_deleted_when_are_judged_per_version_of_the_row(tail: Make) -> None:
    """E-611: a row that leaves the mapping is gone, a soft-deleted one stays; neither column is mapped."""
    bench = tail('where: "flag <> 9"\n    deleted_when: "flag = 0"')
    for key in ("in", "out", "soft"):
        bench.task(key, "RUN")
    bench.db.execute("update `order` set flag = 9 where `key` = 'out'")
    bench.cycle()
    assert _keys(bench) == ["in", "soft"]
    bench.db.execute("update `order` set flag = 9 where `key` = 'in'")
    bench.db.execute("update `order` set flag = 0 where `key` = 'soft'")
    bench.cycle(60)
    assert bench.raw("select task_key, is_deleted, deleted_reason from raw.task order by 1") == [
        ("in", False, "hard"), ("soft", True, "soft"),
    ]  # fmt: skip


def test_keys_are_compared_byte_by_byte_although_the_server_does_not(tail: Make) -> None:
    """E-401: a look-up of `x9` at a case-insensitive server must not touch `X9`, nor lose a trailing blank."""
    bench = tail(tables=TASK.format(more=""))
    bench.db.execute("alter table `order` drop index `key`")
    keys = ["x9", "X9", "x9 ", "é", "e"]
    for key in keys:
        bench.task(key, "RUN")
    bench.cycle()
    assert set(_keys(bench)) == set(keys)
    bench.db.execute("update `order` set status = 'DONE' where binary `key` = 'x9'")
    bench.cycle(60)
    expected = dict.fromkeys(keys, "running") | {"x9": "succeeded"}
    assert dict(bench.raw("select task_key, status from raw.task")) == expected


def test_bad_values_are_anomalies_counted_once_and_never_zero(tail: Make) -> None:
    """E-003, E-007, E-202, E-304: zero dates, times out of range, unknown statuses."""
    bench = tail()
    bench.task("zero")
    bench.task("early")
    bench.task("odd", "WEIRD")
    bench.db.execute("update `order` set started = '0000-00-00' where `key` = 'zero'")
    bench.db.execute("update `order` set started = '1969-12-31 23:59:59' where `key` = 'early'")
    bench.cycle()
    assert bench.raw("select started_at from raw.task where task_key <> 'odd'") == [(None,), (None,)]
    assert bench.raw("select status, raw_status from raw.task where task_key = 'odd'") == [("unknown", "WEIRD")]
    bench.cycle(60)
    assert sorted(bench.raw('select kind, "key", count from raw.anomaly')) == [
        ("time_out_of_range", "early", 1), ("unmapped_status", "odd", 1), ("zero_date", "zero", 1),
    ]  # fmt: skip


def test_small_tables_are_read_whole_and_show_deletions_at_once(tail: Make) -> None:
    """Strategy full, E-610, E-112: the last known facts of a deleted worker stay."""
    bench = tail(workers=True)
    _pod(bench, status="online", slots=4, ready=READY)
    bench.cycle()
    bench.db.execute("delete from pod")
    bench.cycle(60)
    assert bench.raw("select ready_at, concurrency, deleted_reason from raw.worker") == [(READY, 4, "hard")]


def test_polls_are_written_per_cycle_and_worker(tail: Make) -> None:
    """E-114."""
    bench = tail(workers=True)
    _pod(bench, status="busy", beat=NOW)
    bench.cycle()
    bench.cycle(60)
    polls = "select \"at\", polled_status, heartbeat_at from raw.worker_snapshot where origin = 'poll' order by 1"
    assert bench.raw(polls) == [(NOW, "busy", NOW), (NOW + timedelta(seconds=60), "busy", NOW)]


def test_a_worker_that_is_ready_again_has_a_second_life_without_facts_of_the_first(tail: Make) -> None:
    """E-111, E-113: the row goes on showing the first life's end, over any number of cycles."""
    bench = tail(workers=True)
    again = NOW - timedelta(minutes=5)
    _pod(bench, status="offline", ready=READY, gone=GONE)
    bench.cycle()
    assert bench.raw(LIVES) == [(1, "e", READY, GONE)]
    bench.db.execute("update pod set ready = %s, status = 'online'", (again,))
    bench.cycle(60)
    bench.db.execute("update pod set beat = %s", (NOW,))
    bench.cycle(60)
    assert bench.raw(LIVES) == [(1, "e", READY, GONE), (2, "e", again, None)]


def test_registering_after_the_end_begins_a_life(tail: Make) -> None:
    """E-113: by an event, though the worker's row still shows the old facts."""
    bench = tail(workers=True)
    _pod(bench, status="offline", ready=READY, gone=GONE)
    bench.cycle()
    bench.db.execute("insert into pod_event (pod, kind, happened) values ('w', 'registered', %s)", (NOW,))
    bench.cycle(60)
    bench.db.execute("update pod set beat = %s", (NOW,))
    bench.cycle(60)
    assert bench.raw(LIVES) == [(1, "e", READY, GONE), (2, "e", None, None)]


def test_the_earliest_ready_and_the_first_end_are_kept(tail: Make) -> None:
    """E-111, E-112."""
    bench = tail(workers=True)
    _pod(bench, status="online", slots=2, ready=READY)
    bench.cycle()
    for change in (
        f"ready = '{READY + timedelta(minutes=5)}', slots = 3",
        f"ready = null, gone = '{NOW}'",
        "gone = null",
    ):
        bench.db.execute(f"update pod set {change}")
        bench.cycle(60)
    assert bench.raw(LIVES) == [(1, "e", READY, NOW)]
    assert bench.raw("select concurrency from raw.worker_concurrency order by valid_from") == [(2,), (3,)]


def test_gpu_figures_that_are_all_zero_were_not_collected_and_twins_are_named(tail: Make) -> None:
    """E-115."""
    bench = tail(workers=True)
    for row in (("w", NOW, 1, 0, 0, 0), ("w", NOW, 0, 50, 1, 2), ("v", NOW, 0, 0, 0, 16)):
        bench.db.execute(
            "insert into sample (pod, happened, idle, util, used_mb, total_mb) values (%s, %s, %s, %s, %s, %s)", row
        )
    bench.cycle()
    figures = "select row_id, gpu_utilization, gpu_memory_total_mb from raw.worker_snapshot order by 1"
    assert bench.raw(figures) == [(1, None, None), (2, 50.0, 2), (3, 0.0, 16)]
    found = sorted(bench.raw('select kind, "key" from raw.anomaly'))
    assert found == [("duplicate_snapshot", "2"), ("gpu_not_collected", "1")]


def test_endpoints_that_differ_by_case_stay_two(tail: Make) -> None:
    """E-402; an empty endpoint has a name of its own."""
    bench = tail()
    for number, endpoint in enumerate(("e", "E", "")):
        bench.db.execute(
            "insert into `order` (`key`, `group`, status, created) values (%s, %s, 'RUN', %s)",
            (str(number), endpoint, NOW),
        )
    bench.cycle()
    assert {row[0] for row in bench.raw("select endpoint from raw.task")} == {"E", "e", "_unassigned"}
    assert bench.raw("select count(*) from raw.anomaly where kind = 'case_variant_endpoint'")[0][0] >= 1


def test_a_key_that_comes_back_under_a_new_id_is_one_row(tail: Make) -> None:
    """E-602: the source replaced the row (REPLACE INTO)."""
    bench = tail()
    bench.task("a", "RUN")
    bench.cycle()
    bench.db.execute("delete from `order` where `key` = 'a'")
    bench.task("a", "DONE")
    bench.cycle(60)
    assert bench.raw("select task_key, status, row_id, deleted_reason from raw.task") == [("a", "succeeded", 2, None)]


def test_payload_columns_are_never_asked_for(tail: Make) -> None:
    """E-403, E-404: the server's own log of statements is the witness."""
    bench = tail()
    bench.db.execute("set global log_output = 'TABLE'")
    bench.db.execute("truncate mysql.general_log")
    bench.db.execute("set global general_log = 'ON'")
    try:
        bench.task("a", "RUN")
        bench.cycle()
        bench.cycle(60)
    finally:
        bench.db.execute("set global general_log = 'OFF'")
    logged = bench.db.execute(
        "select convert(argument using utf8mb4) from mysql.general_log where argument like 'select%'"
    )
    asked = [str(row[0]) for row in logged if "from `order`" in str(row[0])]
    assert asked
    assert not [text for text in asked if "payload" in text or "select *" in text]


def test_what_the_sql_models_need_to_know_is_written_every_cycle(tail: Make) -> None:
    """meta.source_setting follows the configuration and what exists (E-510); an optional table may be absent (E-702)."""
    bench = tail()
    bench.db.execute("drop table event")
    bench.cycle()
    flags = "has_task, has_task_times, has_task_event, has_worker, has_output, settle_s"
    assert bench.raw(f"select {flags} from meta.source_setting") == [(True, True, False, False, False, 60.0)]


OUTPUT = """  task_output:
    table: result
    row_id: id
    key: id
    columns: {task_key: task, uri: url, size_bytes: bytes, created_at: made}
"""


def test_another_min_output_bytes_is_applied_to_stored_outputs_too(tail: Make) -> None:
    """E-102: rows that are equal at the source are not read again, but whether they are valid follows the setting."""
    bench = tail(tables=TASK.format(more="") + OUTPUT)
    bench.db.execute(
        "create table result (id bigint auto_increment primary key, task varchar(64), url varchar(99), bytes int, made datetime(6))"
    )
    for key, size in (("small", 5), ("large", 50), ("unknown", None)):
        bench.task(key)
        bench.db.execute("insert into result (task, url, bytes, made) values (%s, 'u', %s, %s)", (key, size, NOW))
    valid = "select task_key from raw.task_output where valid order by 1"
    bench.cycle()
    assert bench.raw(valid) == [("large",), ("small",), ("unknown",)]
    for limit, expected in ((10, {"large"}), (10, {"large"}), (None, {"large", "small", "unknown"})):
        with bench.warehouse.writer("test") as con:
            con.execute("delete from meta.dirty_task")
        before = {row[0] for row in bench.raw(valid)}
        bench.source = bench.source.model_copy(update={"min_output_bytes": limit})
        bench.cycle(60)
        assert {row[0] for row in bench.raw(valid)} == expected
        dirty = {row[0] for row in bench.raw("select task_key from meta.dirty_task")}
        assert dirty == before ^ expected
