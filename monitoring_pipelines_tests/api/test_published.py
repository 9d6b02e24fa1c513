"""Questions to the published files: answered from summaries, they say what the rows say."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.published import completeness, key_bits, one_task, tasks
from monitoring_pipelines.published.reader import Look, Published, with_values
from monitoring_pipelines.quality.figures import Figures
from monitoring_pipelines.warehouse.task_summaries import APART, JUDGED

from .conftest import NOW, Client, Serve, make_settings
from .world import World

STATUSES = ("succeeded", "failed", "running", "timed_out", "cancelled")
LISTED = "SELECT task_key FROM {table} WHERE {where} ORDER BY bucket_at DESC, source_id, task_key"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of three days in files of ten minutes, hours and days."""
    with pytest.MonkeyPatch.context() as patch:
        settings: Settings = make_settings(tmp_path_factory.mktemp("lake"), patch, {})
    world = World(settings, FixedClock(NOW))
    world.source()
    for n in range(160):
        world.task(
            f"t{n:03}", STATUSES[n % 7 % 5], ago=timedelta(minutes=1 + n * n // 6), outputs=n % 3,
            deleted=n % 31 == 5, endpoint=f"e{n % 4}",
        )  # fmt: skip
    # Some tasks have the same output twice.
    world.write(("UPDATE raw.task_output SET natural_key = 'twice' WHERE task_key < 't040' AND task_key > 't004'", {}))
    world.publish()
    return world.lake


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"statuses": ("failed", "timed_out")},
        {"raw_statuses": ("RUNNING",)},
        {"endpoint": "e2", "has_output": False},
        {"has_output": False, "statuses": ("succeeded", "failed")},
        {"raw_statuses": ("FAILED",), "statuses": ("running",), "text": "t0"},
        {"text": "T01"},
        {"text": "1", "statuses": ("succeeded",), "endpoint": "e1"},
        {"start": NOW - timedelta(hours=30), "end": NOW - timedelta(minutes=77)},
        {"start": NOW - timedelta(hours=5, minutes=3), "statuses": ("succeeded",)},
        {"end": NOW - timedelta(days=1)},
        {"endpoint": "nowhere"},
    ],
    ids=str,
)
def test_pages_of_any_size_put_together_are_the_whole_list(lake: Path, wanted: dict[str, Any]) -> None:
    chosen = tasks.TaskFilter(("shop",), **wanted)
    where, values = chosen.where()
    index = tasks.TaskIndex()
    with Published(lake).look() as look:
        whole = [key for (key,) in look.tuples(LISTED.format(table=look.table(tasks.TASK), where=where), values)]
        for size in (1, 7, 50, 500):
            found: list[str] = []
            while True:
                rows, total = index.list_page(look, chosen, len(found), size)
                found += [row["task_key"] for row in rows]
                if not rows:
                    break
            assert (found, total) == (whole, len(whole)), size


@pytest.mark.parametrize(
    "text", ["Ab-1", "b-1", "-", "12", "AB", "K", "k-7", "é9", "É", "_a", "'", "数", "a数1", "@", "no", "[", "`", "{"]
)
def test_a_search_finds_what_has_the_text_in_any_case(text: str) -> None:
    keys = [
        "ab-1",
        "AB-1",
        "xAb-12",
        "\u212a-7",
        "k-7",
        "É9",
        "é-9",
        "A_a",
        "it's",
        "a数1",
        "A数12",
        "@B",
        "[B",
        "`B",
        "{b",
    ]
    where, values = tasks.TaskFilter(("shop",), text=text).where()
    rows = ", ".join(f"($k{n}, NULL), (NULL, $k{n})" for n in range(len(keys)))
    values |= {f"k{n}": key for n, key in enumerate(keys)}
    sql = (
        "SELECT coalesce(task_key, remote_id) FROM (SELECT 'shop' AS source_id, false AS is_deleted, task_key, remote_id "
        f"FROM (VALUES {rows}) AS t(task_key, remote_id)) WHERE {where}"
    )
    found = sorted(key for (key,) in duckdb.connect().execute(with_values(sql, values)).fetchall())
    assert found == sorted(key for key in keys for _ in range(2) if text.lower() in key.lower())


@pytest.mark.parametrize("start", [timedelta(hours=24), timedelta(hours=71, minutes=7), timedelta(minutes=9)])
@pytest.mark.parametrize("settled", [timedelta(0), timedelta(minutes=10), timedelta(hours=3)])
def test_completeness_of_any_window_is_that_of_its_tasks(lake: Path, start: timedelta, settled: timedelta) -> None:
    index = tasks.TaskIndex()
    with Published(lake).look() as look:
        for end in (NOW, NOW - timedelta(minutes=22)):
            first, limit = NOW - start - timedelta(minutes=22), NOW - settled
            counted = completeness._counted(look, index, "shop", (first, end), limit)
            whole = sum(counted.values(), Figures())
            assert completeness.figures(look, index, "shop", first, end, limit) == whole
            for zone in ("UTC", "Asia/Shanghai", "Asia/Kathmandu"):
                days = completeness.daily(look, index, "shop", first, end, limit, zone)
                assert days == completeness.local_days(counted, zone)


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("hours", [1, 7, 30, 71])
def test_pages_of_tasks_without_output_put_together_are_all_of_them(lake: Path, hours: int, size: int) -> None:
    index, start, end, settled = tasks.TaskIndex(), NOW - timedelta(hours=hours), NOW, NOW - timedelta(minutes=10)
    with Published(lake).look() as look:
        where = (
            f"{JUDGED} AND status = 'succeeded' AND outputs = 0 AND source_id = 'shop' AND effective_end >= $start "
            "AND effective_end < $end AND effective_end <= $settled"
        )
        whole = look.tuples(
            f"SELECT task_key FROM {look.table(tasks.TASK)} WHERE {where} ORDER BY effective_end DESC, task_key",
            {"start": start, "end": end, "settled": settled},
        )
        found: list[str] = []
        while True:
            rows, total = completeness.missing_page(look, index, ["shop"], start, end, settled, len(found), size)
            assert total == len(whole)
            found += [row["task_key"] for row in rows]
            if not rows:
                break
        assert found == [key for (key,) in whole]
        for sort in (f"{sign}{name}" for name in completeness.MISSING_ORDERS for sign in ("", "-")):
            direction = "DESC" if sort.startswith("-") else "ASC"
            order = f"{sort.removeprefix('-')} {direction} NULLS LAST, effective_end DESC, task_key"
            expected = look.tuples(
                f"SELECT task_key FROM {look.table(tasks.TASK)} WHERE {where} ORDER BY {order} LIMIT {size} OFFSET 2",
                {"start": start, "end": end, "settled": settled},
            )
            rows, _ = completeness.missing_page(look, index, ["shop"], start, end, settled, 2, size, sort)
            assert [row["task_key"] for row in rows] == [key for (key,) in expected], sort


@pytest.mark.parametrize("kind", completeness.LISTS)
@pytest.mark.parametrize(("hours", "size"), [(1, 1), (7, 50), (30, 3), (71, 50)])
def test_pages_of_the_tasks_behind_a_figure_are_all_of_them_and_as_many_as_it_says(
    lake: Path, hours: int, size: int, kind: str
) -> None:
    """S-813: with outputs, settling and average lead to their tasks; duplicates to those that have the surplus rows."""
    index, start, end, settled = (
        tasks.TaskIndex(),
        NOW - timedelta(hours=hours, minutes=4),
        NOW,
        NOW - timedelta(minutes=40),
    )
    with Published(lake).look() as look:
        whole = look.tuples(
            f"SELECT task_key, outputs, distinct_outputs FROM {look.table(tasks.TASK)} WHERE {JUDGED} AND status = 'succeeded' "
            "AND source_id = 'shop' AND effective_end >= $start AND effective_end < $end "
            f"AND {completeness.LISTS[kind]} ORDER BY effective_end DESC, task_key",
            {"start": start, "end": end, "settled": settled},
        )
        found: list[dict[str, Any]] = []
        while True:
            rows, total = completeness.task_page(look, index, ["shop"], kind, start, end, settled, len(found), size)
            assert total == len(whole)
            found += rows
            if not rows:
                break
        assert [(row["task_key"], row["outputs"], row["distinct_outputs"]) for row in found] == whole
        said = completeness.figures(look, index, "shop", start, end, settled)
    assert whole or hours == 1
    if kind == "with_output":
        assert (said.tasks_with_outputs, said.total_outputs) == (len(whole), sum(outputs for _, outputs, _ in whole))
    elif kind == "settling":
        assert said.pending_settle == len(whole)
    else:
        assert said.duplicate_rows == sum(outputs - distinct for _, outputs, distinct in whole)


def test_a_list_of_failures_reads_the_file_of_failures_alone(lake: Path) -> None:
    index = tasks.TaskIndex()
    with Published(lake).look() as look:
        keys = list(look.files(tasks.TASK))
        for wanted, table in (
            ({"statuses": ("failed", "timed_out")}, APART),
            ({"has_output": False, "endpoint": "e1"}, APART),
            ({"raw_statuses": ("RUNNING",), "text": "t0"}, APART),
            ({"statuses": ("failed", "succeeded")}, tasks.TASK),
            ({"endpoint": "e1"}, tasks.TASK),
        ):
            assert index._place(look, tasks.TaskFilter(("shop",), **wanted), keys) == table  # type: ignore[arg-type]


def test_an_answer_about_whole_tables_is_made_once_until_a_file_of_theirs_changes(serve: Serve) -> None:
    client: Client = serve({})
    world = World(client.settings, client.clock)
    world.source()
    world.job("nightly")
    world.publish()
    published = Published(world.lake)
    asked: list[int] = []

    def answer() -> int:
        with published.look() as look:
            return look.once(("q",), ("raw.job",), lambda: asked.append(1) or look.manifest.rows("raw.job"))  # type: ignore[func-returns-value]

    assert (answer(), answer(), len(asked)) == (1, 1, 1)
    world.task("a")
    world.publish()
    assert (answer(), len(asked)) == (1, 1)
    world.job("hourly")
    world.publish()
    assert (answer(), len(asked)) == (2, 2)


def test_a_page_of_a_list_reads_its_rows_once(lake: Path) -> None:
    """Not its filters first and the other columns by a join with the rows they left."""
    with Published(lake).look() as look:
        table = look.partition(tasks.TASK, list(look.files(tasks.TASK))[:1])
        page = (
            f"SELECT task_key, endpoint, worker_key, created_at FROM {table} WHERE status = 'failed' LIMIT 5 OFFSET 1"
        )
        plan = look.tuples(f"EXPLAIN {page}")[0][1]
        assert "STREAMING_LIMIT" in plan
        assert "JOIN" not in plan


def test_every_look_has_the_settings_of_its_reader(lake: Path) -> None:
    wanted = {"TimeZone": "UTC", "prefetch_all_parquet_files": True, "enable_external_access": False, "threads": 1}
    with Published(lake).look() as look:
        assert {name: look.value(f"SELECT current_setting('{name}')") for name in wanted} == wanted


@pytest.mark.parametrize("most", [0, 60, key_bits.MOST_TASKS])
def test_every_task_is_found_by_its_key_in_whatever_file_it_is(
    lake: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(key_bits, "MOST_TASKS", most)  # older tasks are not remembered, and found all the same
    with Published(lake).look() as look:
        for index in (None, tasks.TaskIndex()):
            for n in range(160):
                (row,) = one_task.find(look, ["other", "shop"], f"t{n:03}", index=index)
                assert (row["task_key"], row["outputs"]) == (f"t{n:03}", n % 3)
            assert one_task.find(look, ["shop"], "t1", index=index) == []


def test_a_look_up_opens_the_file_of_the_task_and_hardly_another(lake: Path) -> None:
    with Published(lake).look() as look:
        files, bits, opened = look.files(tasks.TASK), tasks.TaskIndex().bits, 0
        rows = look.tuples(f"SELECT task_hash, filename FROM {look.partition(tasks.TASK, list(files), 'filename')}")
        for number, path in rows:
            chosen = [str(lake / files[key]) for key in bits.partitions(look, [number])]
            assert path in chosen
            opened += len(chosen)
        assert len(files) > 20
        assert opened / len(rows) < 1 + len(files) / 10


def test_bits_of_files_that_are_gone_are_forgotten(serve: Serve) -> None:
    client: Client = serve({})
    world = World(client.settings, client.clock)
    world.source()
    published, bits = Published(world.lake), tasks.TaskIndex().bits
    for key in "ab":
        world.task(key)
        world.publish()
        with published.look() as look:
            assert bits.read(look).keys() == set(look.files(tasks.TASK).values())


@pytest.mark.parametrize("key", ["a", "it's", "\x1f", "数据", "\U0001f600", "a\0b", ""])
def test_a_key_is_hashed_as_the_warehouse_does(key: str) -> None:
    sql = with_values("SELECT md5_number_lower(concat_ws(chr(31), ?, ?))", ["shop", key])
    assert duckdb.connect().execute(sql).fetchone() == (one_task._hash("shop", key),)


def test_lists_answer_the_same_from_files_without_summaries(lake: Path) -> None:
    with Published(lake).look() as look:
        complete = tasks.TaskIndex().totals(look, ["shop"])
        bare = _without_summaries(look)
        assert tasks.TaskIndex().totals(bare, ["shop"]) == complete
        assert [row["task_key"] for row in one_task.find(bare, ["shop"], "t009")] == ["t009"]


def _without_summaries(look: Look) -> Look:
    from dataclasses import replace

    lake = look.lake
    tables = {name: table for name, table in lake.manifest.tables.items() if not name.startswith("core.task_")}
    lake.manifest = replace(lake.manifest, tables=tables)
    return look


@pytest.mark.parametrize(
    "text", ["", "it's", "''", "\0", "a\0'b", "? $a $b", "\\n\n\\", '"', "'; DROP TABLE t; --", "数据"]
)
def test_a_value_in_a_statement_stays_that_value(text: str) -> None:
    con = duckdb.connect()
    assert con.execute(with_values("SELECT $a, $b, $a", {"a": text, "b": [text]})).fetchall() == [(text, [text], text)]
    assert con.execute(with_values("SELECT ?, ?", [text, None])).fetchall() == [(text, None)]
    for names, found in ((("x", text), True), (("x",), False), ((), None)):
        sql = with_values("SELECT $a || 'y' IN $names", {"a": text, "names": tuple(f"{name}y" for name in names)})
        assert con.execute(sql).fetchall() == [(found,)]


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError):
        with_values("SELECT $a", {"a": object()})


def test_reading_loads_neither_pandas_nor_arrow(lake: Path) -> None:
    script = (
        "import sys; from datetime import datetime; from monitoring_pipelines.published.reader import Published\n"
        "with Published(sys.argv[1]).look() as look:\n"
        "    look.rows(f\"SELECT * FROM {look.table('core.task')} WHERE created_at > $at AND status = $s\","
        " {'at': datetime(2026, 1, 1), 's': 'failed'})\n"
        "print([name for name in ('pandas', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(lake)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_kept_answer_lasts_until_new_files_or_the_next_minute(serve: Serve) -> None:
    client: Client = serve({})
    world = World(client.settings, client.clock)
    world.source()
    world.task("a")
    world.publish()
    first = client.get("/api/v1/tasks", page_size=5)
    again = client.get("/api/v1/tasks", page_size=5)
    assert (again.text, again.headers["etag"]) == (first.text, first.headers["etag"])
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    same = client.request("GET", "/api/v1/tasks?page_size=5", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    world.task("b")
    world.publish()
    assert client.get("/api/v1/tasks", page_size=5).json()["data"]["total"] == 2
    before = client.get("/api/v1/completeness/missing", hours=1).json()["data"]
    client.clock.instant = datetime(2026, 2, 11, 7, 30)
    after = client.get("/api/v1/completeness/split").json()["data"]
    assert (before["total"], after["to"]) == (0, "2026-02-11T07:30:00Z")


def test_a_kept_answer_is_not_given_to_somebody_without_a_token(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIEWER_TOKEN", "secret-of-a-viewer")
    tokens = [{"name": "v", "token_env": "VIEWER_TOKEN", "roles": ["viewer"]}]
    client: Client = serve({"api": {"tokens": tokens}})
    World(client.settings, client.clock).publish()
    known = {"Authorization": "Bearer secret-of-a-viewer"}
    for _ in range(2):
        assert client.request("GET", "/api/v1/tasks", headers=known).status_code == 200
    assert client.get("/api/v1/tasks").status_code == 401
