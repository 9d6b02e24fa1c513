"""Searches among the texts beside published files: they find what DuckDB finds in the files themselves."""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.published import gram_index, kept, key_texts, list_rows, one_task, row_facts, searcher, tasks
from monitoring_pipelines.published import searches as module_of_searches
from monitoring_pipelines.published.kept import Kept
from monitoring_pipelines.published.reader import Look, Published
from monitoring_pipelines.published.searcher import Sizes
from monitoring_pipelines.published.searches import Searches
from monitoring_pipelines.warehouse.lake import partition_span

from .conftest import NOW, Client, Serve, make_settings
from .world import World

STATUSES = ("succeeded", "failed", "running", "timed_out")
#: Letters with and without case, some whose small letters are longer or shared, what separates keys, and what SQL and JSON escape.
LETTERS = "aabbAB01-_éÉİßẞ\u212akK数😀'\"\\\x1f\x1e\t%"
COUNT = 320
#: So small that all of them have borders.
SMALL = Sizes(window=200, piece=64)
MOST = 3


def made_up(chance: random.Random, letters: str) -> str:
    return "".join(chance.choices(letters, k=chance.randrange(1, 9)))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tasks of two sources and three days with any keys; blocks so small that all of them have borders."""
    chance = random.Random(20)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_BLOCK": 4, "_ROWS_AT_ONCE": 8}.items():
            patch.setattr(key_texts, name, value)
        patch.setattr(row_facts, "_ROWS_AT_ONCE", 8)
        patch.setattr(list_rows, "_BLOCK", 2)
        patch.setattr(list_rows, "ROW_GROUP", 8)
        world = World(make_settings(tmp_path_factory.mktemp("lake"), patch, {}), FixedClock(NOW))
        for source in ("shop", "yard"):
            world.source(source)
        for n in range(COUNT):
            # Keys of the oldest tasks have line ends too, which texts cannot hold.
            key = made_up(chance, LETTERS + "\n" * (n > COUNT * 0.9)) + str(n)
            source = ("shop", "yard")[n % 5 == 4]
            world.task(
                key, STATUSES[n % 9 % 4], ago=timedelta(minutes=1 + n * n // 24), outputs=n % 3, source=source,
                deleted=n % 13 == 5, endpoint=f"e{n % 4}",
            )  # fmt: skip
            error = made_up(chance, LETTERS + "\n") if n % 3 == 0 else None
            world.write(
                (
                    "UPDATE raw.task SET remote_id = $remote, error_message = $error WHERE source_id = $s AND task_key = $k",
                    {"remote": (None, "", made_up(chance, LETTERS))[n % 3], "error": error, "s": source, "k": key},
                )
            )
        world.publish()
        yield world.lake


def read(look: Look, *some: Kept[Any]) -> None:
    for one in some:
        for _ in one.make(look):
            pass


def indexes(look: Look) -> dict[str, tasks.TaskIndex]:
    """What may be known of files: nothing, texts, rows too, indexes of the texts too, those of the newest files."""
    searches = Searches(SMALL)
    names = "nothing", "texts", "all", "indexed", "some", "some rows"
    known = {name: tasks.TaskIndex(searches=searches) for name in names}
    read(look, known["texts"].texts)
    for name in ("all", "indexed"):
        read(look, known[name].texts, known[name].row_facts, known[name].list_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_texts, "_INDEXED", 1)
        assert len(list(key_texts.index(known["indexed"].texts, look))) > 20
    known["some"].texts = Kept(key_texts.text_of, COUNT // 2)
    known["some rows"].list_rows = Kept(list_rows.list_rows, COUNT // 3)
    for name in ("some", "some rows"):
        read(look, known[name].texts, known[name].row_facts, known[name].list_rows)
    return known


@pytest.fixture(scope="module")
def looked(lake: Path) -> Iterator[tuple[Look, dict[str, tasks.TaskIndex]]]:
    with Published(lake).look() as look, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "_FEW_PLACES", 1)
        patch.setattr(tasks, "_MANY_PLACES", MOST)
        yield look, indexes(look)


def test_texts_are_made_of_all_files_but_those_with_line_ends_in_keys(
    looked: tuple[Look, dict[str, tasks.TaskIndex]],
) -> None:
    look, known = looked
    files = list(look.files(tasks.TASK).values())
    made = [known["all"].texts.known(file) is not None for file in files]
    assert len(files) > 20
    assert True in made
    assert made == sorted(made, reverse=True)
    assert False in made
    assert all(known["all"].list_rows.known(file) is not None for file in files)
    some = [known["some"].texts.known(file) is not None for file in files]
    assert 0 < sum(some) < sum(made)


instants = st.none() | st.integers(0, 72 * 60).map(lambda minutes: NOW - timedelta(minutes=minutes))


@st.composite
def filters(draw: st.DrawFn, keys: list[str]) -> tasks.TaskFilter:
    text = draw(st.text(LETTERS + "\n\0z12", min_size=1, max_size=4))
    if draw(st.booleans()):  # a part of a key, as somebody else would write it
        key = draw(st.sampled_from(keys))
        start = draw(st.integers(0, len(key) - 1))
        text = draw(st.sampled_from((str, str.upper, str.lower, str.swapcase)))(
            key[start : start + draw(st.integers(1, 6))]
        )
    start, end = draw(instants), draw(instants)
    plain = tasks.TaskFilter(("shop", "yard"), text=text)
    window = replace(plain, start=start, end=max(start, end) if start and end else end)
    kind = draw(st.sampled_from(("plain", "window", "any")))
    if kind != "any":
        return plain if kind == "plain" else window
    return replace(
        window,
        text=draw(st.sampled_from((text, None))),
        sources=draw(st.sampled_from((("shop", "yard"), ("shop",), ("yard", "_self")))),
        statuses=draw(st.sampled_from(((), ("succeeded",), ("failed", "timed_out"), STATUSES))),
        endpoint=draw(st.sampled_from((None, "e1"))),
        has_output=draw(st.sampled_from((None, True, False))),
    )


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_search_finds_the_same_tasks_in_the_same_order_whatever_is_known_of_the_files(
    looked: tuple[Look, dict[str, tasks.TaskIndex]], data: st.DataObject
) -> None:
    look, known = looked
    keys = [key for (key,) in look.tuples(f"SELECT task_key FROM {look.table(tasks.TASK)} ORDER BY ALL")]
    wanted = data.draw(filters(keys))
    offset, limit = data.draw(st.integers(0, 40)), data.draw(st.sampled_from((1, 7, 50, 2000)))
    oldest_first = data.draw(st.booleans())
    where, values = wanted.where()
    order = "bucket_at DESC, source_id, task_key"
    whole = look.tuples(
        f"SELECT source_id, task_key FROM {look.table(tasks.TASK)} WHERE {where} ORDER BY {order}", values
    )
    shown = (whole[::-1] if oldest_first else whole)[offset : offset + limit]
    expected = known["nothing"].list_page(look, wanted, offset, limit, oldest_first=oldest_first)
    assert [(row["source_id"], row["task_key"]) for row in expected[0]] == shown
    assert expected[1] == len(whole)
    for name, index in known.items():
        assert index.list_page(look, wanted, offset, limit, oldest_first=oldest_first) == expected, name


@pytest.mark.parametrize(
    "columns", [(*tasks.LISTED, *one_task.NESTED), ("source_id", "status"), ("source_id", "open_attempts")]
)
def test_one_task_is_the_same_whatever_is_known_of_the_files(
    looked: tuple[Look, dict[str, tasks.TaskIndex]], columns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, known = looked
    keys = [key for (key,) in look.tuples(f"SELECT task_key FROM {look.table(tasks.TASK)} ORDER BY ALL")][::7]
    by_kept: list[Any] = []
    kept_row = one_task._kept

    def noted(*given: Any) -> Any:
        by_kept.append(kept_row(*given))
        return by_kept[-1]

    monkeypatch.setattr(one_task, "_kept", noted)
    found = dict.fromkeys(known, 0)
    for key in [*keys, keys[0].upper() + "x", keys[3][1:], "", "\n", "1"]:
        for sources in (("shop", "yard"), ("_self", "shop")):
            expected = one_task.find(look, sources, key, columns)
            for name, index in known.items():
                by_kept.clear()
                assert one_task.find(look, sources, key, columns, index) == expected, (name, sources, key)
                found[name] += sum(row is not None for row in by_kept)
    if "open_attempts" in columns:
        assert not any(found.values())
    else:
        assert found["nothing"] == found["texts"] == 0
        assert found["all"] > len(keys) // 2
        assert 0 < found["some"] < found["all"]


def test_a_task_that_is_gone_is_found_in_its_file(looked: tuple[Look, dict[str, tasks.TaskIndex]]) -> None:
    """Lists do not show it, so what is kept for them does not have it."""
    look, known = looked
    gone = look.tuples(f"SELECT source_id, task_key FROM {look.table(tasks.TASK)} WHERE is_deleted ORDER BY ALL")
    assert gone
    for source, key in gone:
        (row,) = one_task.find(look, [source], key, index=known["all"])
        assert row["is_deleted"]


def test_a_task_of_two_sources_is_found_in_both(serve: Serve) -> None:
    """Also when one of the two is gone at its source, and so not among what is kept."""
    client: Client = serve({})
    world = World(client.settings, client.clock)
    for source in ("shop", "yard"):
        world.source(source)
    for key, is_gone in (("a", False), ("b", True)):
        world.task(key, source="shop")
        world.task(key, source="yard", deleted=is_gone)
    world.publish()
    index = tasks.TaskIndex()
    with Published(world.lake).look() as look:
        read(look, index.texts, index.list_rows)
        for key in "ab":
            rows = one_task.find(look, ["yard", "shop", "_self"], key, index=index)
            assert [row["source_id"] for row in rows] == ["shop", "yard"]
            assert rows == one_task.find(look, ["yard", "shop"], key)


def test_a_row_whose_outputs_are_unknown_has_none_and_lacks_none(
    looked: tuple[Look, dict[str, tasks.TaskIndex]],
) -> None:
    look, _ = looked
    row = row_facts.Facts("shop", "e1", "failed", None, None)
    for has_output in (True, False, None):
        wanted = tasks.TaskFilter(("shop",), statuses=("failed",), has_output=has_output)
        where, values = wanted.where()
        found = look.value(
            "SELECT count(*) FROM (SELECT 'shop' AS source_id, 'failed' AS status, NULL::BIGINT AS outputs, false AS is_deleted) "
            f"WHERE {where}", values,
        )  # fmt: skip
        assert wanted.passes(row) == bool(found) == (has_output is None)


def test_a_text_that_few_rows_have_is_found_with_other_filters_without_reading_their_files(
    looked: tuple[Look, dict[str, tasks.TaskIndex]], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, known = looked
    files = look.files(tasks.TASK)
    newest = next(key for key in files if known["all"].texts.known(files[key]) is not None)
    (row, *_) = look.rows(
        f"SELECT * FROM {look.partition(tasks.TASK, [newest])} WHERE NOT is_deleted AND status = 'succeeded' AND outputs > 0"
    )
    span = partition_span(newest)
    assert span is not None
    wanted = tasks.TaskFilter(
        (row["source_id"],), statuses=("succeeded",), endpoint=row["endpoint"], has_output=True,
        text=row["task_key"], start=span[0], end=span[1],
    )  # fmt: skip
    monkeypatch.setattr(tasks, "_count", None)
    monkeypatch.setattr(tasks, "_rows", None)
    at, microsecond = row["bucket_at"], timedelta(microseconds=1)
    for start, end, is_in in (
        (*span, True),
        (at, at + microsecond, True),
        (at + microsecond, span[1], False),
        (span[0], at, False),
    ):
        cut = replace(wanted, start=start, end=end)
        found, total = known["all"].list_page(look, cut, 0, 50)
        assert (row["task_key"] in [one["task_key"] for one in found]) == is_in
        assert total == len(found)
    assert known["all"].list_page(look, replace(wanted, endpoint="e9"), 0, 50) == ([], 0)


def test_a_search_keeps_what_it_began_with_when_a_newer_version_gives_it_up(
    looked: tuple[Look, dict[str, tasks.TaskIndex]], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, _ = looked
    index = tasks.TaskIndex(searches=Searches(SMALL))
    read(look, index.texts, index.row_facts, index.list_rows)
    find = index.searches.find

    def given_up(*given: Any) -> Any:
        index.texts._known = index.row_facts._known = index.list_rows._known = {}
        return find(*given)

    monkeypatch.setattr(index.searches, "find", given_up)
    wanted = tasks.TaskFilter(
        ("shop", "yard"), statuses=("succeeded", "failed"), text="a", end=NOW - timedelta(hours=3)
    )
    assert index.list_page(look, wanted, 0, 50) == tasks.TaskIndex().list_page(look, wanted, 0, 50)


@pytest.fixture(scope="module", params=["a process", "without"])
def searches(request: pytest.FixtureRequest) -> Iterator[Searches]:
    found = Searches(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "without":
            patch.setattr(found, "_running", lambda: None)
        yield found


lines_of = st.lists(st.text("ab\x1fé", max_size=6), max_size=60)


@given(lines_of, st.text("abé", min_size=1, max_size=3), st.integers(0, 20), st.integers(1, 30))
@settings(deadline=None)
def test_rows_that_have_a_text_are_counted_once_and_known_by_their_number(
    lake: Path, searches: Searches, lines: list[str], letters: str, skip: int, limit: int
) -> None:
    text, needle = text_with(lines), letters.encode()
    whole = [number for number, line in enumerate(lines) if letters in line]
    (found,) = searches.find(needle, [text], MOST).values()
    assert found.n == len(whole)
    if len(whole) > MOST:
        assert found.places is None
    else:
        assert [text.row(place) for place in found.places or ()] == whole
    assert [text.row(place) for place in searches.places(needle, text, skip, limit)] == whole[skip : skip + limit]


def text_with(lines: list[str]) -> key_texts.Text:
    text = key_texts.Text(len(lines))
    blocks = [lines[first : first + key_texts._BLOCK] for first in range(0, len(lines), key_texts._BLOCK)]
    text.add([("\n" + "\n".join(block)).encode() for block in blocks])
    return text


@given(
    st.lists(st.text("aqbr-\x1fé", max_size=9), max_size=80),
    st.lists(st.text("aqbr-é", min_size=2, max_size=12), min_size=1, max_size=8),
    st.integers(1, 40),
    st.sampled_from((1, 4, 32)),
    st.sampled_from((1, 64)),
)
@settings(deadline=None)
def test_an_index_finds_what_is_in_the_lines_or_says_that_it_cannot(
    lines: list[str], letters: list[str], size: int, often: int, most: int
) -> None:
    """Whatever the size of segments and what is listed in them: a and q share their buckets, and so do b and r."""
    text = text_with(lines)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile() as file:
        for name, value in {
            "_MOST_BYTES": most * 8,
            "_OFTEN": often,
            "_MOST_READ": most,
            "_FEW": most // 8,
            "_STEP": 3,
        }.items():
            patch.setattr(gram_index, name, value)
        gram_index.make(text.file.fileno(), text.size, file, size)
        index = gram_index.GramIndex(file.fileno(), text.file.fileno())
        known = searcher.Known(text.file.fileno(), text.size, index)
        found = searcher.search(known, [searcher.Wanted(one.encode(), MOST) for one in letters], SMALL)
        for one, (n, places) in zip(letters, found, strict=True):
            whole = [number for number, line in enumerate(lines) if one in line]
            assert n == len(whole)
            assert places is None if n > MOST else [text.row(place) for place in places or ()] == whole
            some = searcher.some_places(known, one.encode(), 2, 5, SMALL)
            assert [text.row(place) for place in some] == whole[2:7]
            assert index.find(one.encode()) in (None, whole)


def test_an_index_tells_rare_texts_and_leaves_frequent_ones_to_a_search(searches: Searches) -> None:
    chance = random.Random(8)
    lines = [f"task-{chance.randrange(16**12):012x}" for _ in range(70_000)]
    lines += [f"order-{n}" for n in range(70_000)]
    text, plain = text_with(lines), text_with(lines)
    letters = ["12ab", "a1b2c", lines[5], lines[69_999][7:], "rder-4711", "-4711", "task-ffff", "zzzz", "task", "2ab"]
    assert searches.find(b"12ab", [text, plain], MOST)[text].n > 0  # known before it has an index
    text.make_index()
    assert text.known.grams is not None
    told = {one: text.known.rows(one.encode()) for one in letters}
    assert [one for one in letters if told[one] is None] == ["task", "2ab"]
    for one in letters:
        whole = [number for number, line in enumerate(lines) if one in line]
        assert told[one] in (None, whole)
        found = searches.find(one.encode(), [text, plain], MOST)
        assert found[text].n == found[plain].n == len(whole)
        for which in (text, plain):
            assert [which.row(place) for place in searches.places(one.encode(), which, 3, 9)] == whole[3:12]


def test_an_index_that_cannot_be_made_is_said_once_and_made_when_that_is_over(
    lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_texts, "_INDEXED", 1)
    index = tasks.TaskIndex(searches=Searches(SMALL))
    with Published(lake).look() as look:
        read(look, index.texts)
        for executable in ("/nowhere/python", "/bin/false"):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "executable", executable)
                assert list(key_texts.index(index.texts, look)) == []
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "index of a text cannot be made" in caplog.text
        wanted = tasks.TaskFilter(("shop", "yard"), text="aaaa")
        assert index.list_page(look, wanted, 0, 50) == tasks.TaskIndex().list_page(look, wanted, 0, 50)
        assert len(list(key_texts.index(index.texts, look))) > 20


def test_what_hinders_an_index_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_with(["ab", "b"])
    text.starts[-1] += 1
    with pytest.raises(OSError, match="the text has 5 of 6 bytes"):
        text.make_index()
    monkeypatch.setattr(key_texts, "_PATIENCE_S", 0.01)
    with pytest.raises(OSError, match=r"within 0\.01 s"):
        text.make_index()


@pytest.mark.parametrize("letters", ["task-", "a", "k-1", "-", "x"])
def test_a_text_that_most_rows_have_is_counted_without_visiting_each(letters: str) -> None:
    lines = [f"task-{n}\x1fa{'a-task' * (n % 3 == 0)}" for n in range(5000)]
    text = text_with(lines)
    (found,) = Searches().find(letters.encode(), [text], MOST).values()
    assert found.n == sum(letters in line for line in lines)


def test_searches_at_the_same_time_all_find_what_is_theirs() -> None:
    chance = random.Random(3)
    lines = [[f"{chance.randrange(16**6):06x}" for _ in range(3000)] for _ in range(6)]
    texts = [text_with(some) for some in lines]
    needles = [f"{chance.randrange(16**2):02x}" for _ in range(24)]
    searches, found = Searches(), dict.fromkeys(needles, (-1,))

    def search(needle: str, count: int) -> None:
        results = searches.find(needle.encode(), texts[:count], MOST)
        found[needle] = tuple(results[text].n for text in texts[:count])

    counts = {needle: chance.randrange(1, 7) for needle in needles}
    threads = [threading.Thread(target=search, args=item) for item in counts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    expected = {
        needle: tuple(sum(needle in line for line in some) for some in lines[:count])
        for needle, count in counts.items()
    }
    assert found == expected


def test_a_search_that_fails_leaves_the_others_alone() -> None:
    broken, whole = text_with(["ab"] * 9), text_with(["ab"] * 9)
    broken.file.close()
    searches = Searches()
    for _ in range(2):
        with pytest.raises(ValueError, match="closed"):
            searches.find(b"a", [broken], MOST)
        assert searches.find(b"a", [whole], MOST)[whole].n == 9


def test_a_search_goes_on_without_its_process_when_that_is_killed_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, other = text_with(["ab", "b", "ba"]), text_with(["b"])
    searches = Searches()
    assert searches.find(b"a", [text], MOST)[text].n == 2
    process = searches._process
    assert process is not None
    process._process.kill()
    assert {found.n for found in searches.find(b"b", [text, other], MOST).values()} == {3, 1}
    assert [text.row(place) for place in searches.places(b"a", text, 0, 9)] == [0, 2]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no process of their own" in caplog.text
    assert searches._process is None
    monkeypatch.setattr(module_of_searches, "_WITHOUT_S", 0)
    searches._none_before = 0
    assert searches.find(b"a", [text], MOST)[text].n == 2
    assert searches._process is not None


def test_a_process_that_does_not_answer_is_ended_and_the_search_goes_on_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module_of_searches, "_PATIENCE_S", 0.2)
    text = text_with(["ab", "b"])
    searches = Searches()
    assert searches.find(b"a", [text], MOST)[text].n == 1
    process = searches._process
    assert process is not None
    process._process.send_signal(signal.SIGSTOP)
    assert searches.find(b"b", [text], MOST)[text].n == 2
    assert process._process.returncode is not None


def test_a_program_that_cannot_be_started_costs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    text = text_with(["ab", "b"])
    assert Searches().find(b"a", [text], MOST)[text].n == 1


def test_the_process_gives_up_files_nobody_has_any_more_and_ends_with_who_asks() -> None:
    text, other = text_with(["ab", "b"]), text_with(["a"])
    searches = Searches()
    assert searches.find(b"a", [other], MOST)[other].n == 1
    process = searches._process
    assert process is not None
    without = psutil.Process(process._process.pid).num_fds()
    text.make_index()
    assert searches.find(b"a", [text, other], MOST)[text].n == 1
    of_it = psutil.Process(process._process.pid)
    assert of_it.num_fds() == without + 2, "its text and its index"
    del text
    gc.collect()
    third = text_with(["a"])
    assert searches.find(b"a", [other, third], MOST)[third].n == 1
    assert of_it.num_fds() == without + 1
    del searches
    gc.collect()
    assert process._process.returncode is not None


def test_the_process_ends_when_the_server_is_killed() -> None:
    program = (
        "import os, signal\n"
        "from monitoring_pipelines.published.key_texts import Text\n"
        "from monitoring_pipelines.published.searches import Searches\n"
        "text, searches = Text(1), Searches()\n"
        "text.add([b'\\nab'])\n"
        "assert searches.find(b'a', [text], 1)[text].n == 1\n"
        "print(searches._process._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    server = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60)
    assert server.returncode == -signal.SIGKILL
    until = time.monotonic() + 20
    while (goes_on := is_running(int(server.stdout))) and time.monotonic() < until:
        time.sleep(0.05)
    assert not goes_on


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # nobody may be there to collect it
    except psutil.NoSuchProcess:
        return False


def test_lines_longer_than_a_window_are_found() -> None:
    long = "x" * 5000 + "ab" + "y" * 5000
    text = text_with(["a", long, "b", long, "ab"])
    searches = Searches(SMALL)
    found = searches.find(b"ab", [text], MOST)[text]
    assert [text.row(place) for place in found.places or ()] == [1, 3, 4]


def test_without_a_folder_to_write_to_searches_read_the_files_and_the_log_says_so_once(
    lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(lake / "nowhere"))
    index, wanted = tasks.TaskIndex(), tasks.TaskFilter(("shop",), text="a")
    with Published(lake).look() as look:
        for _ in range(2):
            read(look, index.texts)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "temporary files cannot be written" in caplog.text
        assert index.list_page(look, wanted, 0, 50) == tasks.TaskIndex().list_page(look, wanted, 0, 50)
        monkeypatch.setattr(tempfile, "tempdir", None)
        read(look, index.texts)  # room again
        assert index.texts.known(next(iter(look.files(tasks.TASK).values()))) is not None


def test_reading_ahead_that_was_left_goes_on_with_what_is_lacking(lake: Path) -> None:
    index = tasks.TaskIndex()
    with Published(lake).look() as look:
        newest, second, *_ = look.files(tasks.TASK).values()
        next(index.texts.make(look))
        index.texts.catch_up(look)  # nobody waits for the texts of all files
        made = index.texts.known(newest)
        assert (made is None, index.texts.known(second)) == (False, None)
        read(look, index.texts)
        assert index.texts.known(second) is not None
        assert index.texts.known(newest) is made


def test_no_more_files_are_open_than_is_allowed(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_FILES", 3)
    index = tasks.TaskIndex()
    with Published(lake).look() as look:
        read(look, index.texts)
        assert [index.texts.known(file) is not None for file in look.files(tasks.TASK).values()][:5] == [True] * 3 + [
            False
        ] * 2


def test_temporary_files_of_superseded_files_are_given_up_and_new_files_are_searched(serve: Serve) -> None:
    client = serve({})
    world = World(client.settings, client.clock)
    world.source()
    world.task("old-1", ago=timedelta(hours=3))
    world.task("new-1", ago=timedelta(minutes=2))
    world.publish()
    published, index = Published(world.lake), tasks.TaskIndex()

    def search(text: str) -> list[str]:
        with published.look() as look:
            return [row["task_key"] for row in index.list_page(look, tasks.TaskFilter(("shop",), text=text), 0, 9)[0]]

    with published.look() as look:
        read(look, index.texts, index.list_rows)
        files = look.files(tasks.TASK)
        held = [
            weakref.ref(made)
            for file in files.values()
            for made in (index.texts.known(file), index.list_rows.known(file))
        ]
    assert search("-1") == ["new-1", "old-1"]
    world.task("new-2", ago=timedelta(minutes=1))
    world.publish()
    assert search("NEW") == ["new-2", "new-1"]  # before texts are made again
    with published.look() as look:
        assert {index.texts.known(file) is None for file in look.files(tasks.TASK).values()} == {False}, "by the search"
        read(look, index.texts, index.list_rows)
        assert {index.texts.known(file) is None for file in look.files(tasks.TASK).values()} == {False}
    assert [one() is None for one in held] == [True, True, False, False]
    assert search("EW-") == ["new-2", "new-1"]
    assert search("-1") == ["new-1", "old-1"]


def test_the_server_reads_ahead_what_searches_need(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from monitoring_pipelines.api import keeper, summaries
    from monitoring_pipelines.api.services import Services

    client = serve({})
    world = World(client.settings, client.clock)
    world.source()
    world.task("a")
    world.publish()
    services = Services.of(client.settings, client.clock)
    monkeypatch.setattr(key_texts, "_INDEXED", 1)
    keeper.go_on(services, threading.Event(), services.published.lake().version)
    with services.published.look() as look:
        for file in look.files(tasks.TASK).values():
            text = summaries.index_of(services).texts.known(file)
            assert text is not None
            assert text.known.grams is not None
            assert summaries.index_of(services).row_facts.known(file) is not None
            assert summaries.index_of(services).list_rows.known(file) is not None
    services.close()


def test_a_row_is_known_by_its_number_in_whatever_order_its_block_was_put_together() -> None:
    made = list_rows.ListRows(2 * list_rows._BLOCK, ["created_at"])
    size = list_rows._BLOCK
    numbers = list(range(2 * size))
    for first in (0, size):
        block = [[n, *(f"{name} {n}" for name in tasks.LISTED)] for n in numbers[first : first + size]]
        for line in block:
            line[1 + tasks.LISTED.index("created_at")] = None
        made.add([zlib.compress(b"\n".join(map(orjson.dumps, reversed(block))))])
    assert [row["task_key"] for row in made.read([1, size, size + 1])] == [f"task_key {n}" for n in (1, size, size + 1)]


def test_rows_kept_for_lists_are_those_of_the_files(lake: Path) -> None:
    with Published(lake).look() as look:
        for key in look.files(tasks.TASK):
            made = list_rows.list_rows(look, key)
            assert made is not None
            listed = look.rows(
                f"SELECT {', '.join(tasks.LISTED)} FROM {look.partition(tasks.TASK, [key], 'file_row_number')} ORDER BY file_row_number"
            )
            assert made.read(range(made.rows)) == listed
            assert all(isinstance(row["created_at"], datetime) for row in listed)


def test_facts_of_rows_are_those_of_the_files(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Published(lake).look() as look:
        kept_facts = Kept(row_facts.row_facts)
        read(look, kept_facts)
        for key, file in look.files(tasks.TASK).items():
            rows = look.tuples(
                "SELECT source_id, endpoint, status, raw_status, outputs > 0 "
                f"FROM {look.partition(tasks.TASK, [key], 'file_row_number')} ORDER BY file_row_number"
            )
            made = kept_facts.known(file)
            assert made is not None
            assert [made.known[number] for number in made.numbers(range(len(rows)))] == rows
            assert made.numbers([]) == []
        monkeypatch.setattr(row_facts, "_MOST", 1)
        few = [row_facts.row_facts(look, key) for key in look.files(tasks.TASK)]
        assert None in few, "more combinations than numbers"


def test_places_of_filters_asked_long_ago_are_forgotten_and_their_pages_stay_right(
    looked: tuple[Look, dict[str, tasks.TaskIndex]], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, _ = looked
    index = tasks.TaskIndex(searches=Searches(SMALL))
    read(look, index.texts, index.row_facts, index.list_rows)
    monkeypatch.setattr(tasks, "_MOST_WITH_PLACES", 2)
    filters = [tasks.TaskFilter(("shop", "yard"), statuses=("succeeded",), text=text) for text in "a1b2"]
    for wanted in filters:
        index.list_page(look, wanted, 0, 5)
    assert [bool(entry.places) for entry in index._counts.values()] == [False, False, True, True]
    for wanted in filters:
        assert index.list_page(look, wanted, 2, 9) == tasks.TaskIndex().list_page(look, wanted, 2, 9)
