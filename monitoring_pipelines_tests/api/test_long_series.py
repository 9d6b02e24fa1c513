"""Series of an endpoint over long ranges: made in pieces, the same as at once, and never more than a piece in memory (S-211 to S-213)."""

from __future__ import annotations

import socket
import time
import tracemalloc
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count, pairwise, product
from random import Random
from tempfile import SpooledTemporaryFile
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from monitoring_pipelines.api import long_answers, series
from monitoring_pipelines.api.pieces import Piece
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.published import endpoints
from monitoring_pipelines.published.reader import Published
from monitoring_pipelines.warehouse.connect import transaction
from monitoring_pipelines.warehouse.lake import Lake, partition_span
from monitoring_pipelines.warehouse.publish import mark_everything, mark_for_publish

from .conftest import NOW, Client, Serve
from .world import World

SHOP = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}
PATH = "/api/v1/endpoints/e/stats"
#: What rows hold by the type of the column, where they hold anything; ``h`` differs from row to row and column to column.
VALUES = {
    "BIGINT": "h % 1000", "DECIMAL": "(h % 100000000) / 1000", "DOUBLE": "(h % 1000) / 7", "BOOLEAN": "h % 2 = 0",
    "TIMESTAMP": "TIMESTAMP '2026-02-11 05:00:00' + INTERVAL 500 millisecond * (h % 3)",
}  # fmt: skip
WORDS = {
    "quality": "['exact', 'bridged', 'estimated', NULL][1 + h % 4]", "state": "['closed', 'partial'][1 + h % 2]",
    "execution_time_distribution": """'{"0-500":' || h % 9 || ',"5000+":' || h % 7 || '}'""",
    "exec_hist": """'{"zero":1,"' || h % 400 || '":' || h % 5 || '}'""", "queue_hist": """'{"' || h % 400 || '":2}'""",
}  # fmt: skip


def fill(world: World, grain: endpoints.Grain, source: str, start: datetime, count: int) -> None:
    """Rows with values of every kind for two of three buckets, each fifth value unknown."""
    table, bucket = endpoints.table_of("endpoint", grain), endpoints.COLUMN[grain]
    with world.warehouse.writer("rows") as con, transaction(con):
        values = []
        for name, kind, *_ in con.execute(f"DESCRIBE {table}").fetchall():
            value = WORDS.get(name) or VALUES.get(kind.split("(")[0], "'w' || h % 3")
            value = value.replace("h %", f"(hash(i, '{name}{source}') >> 2)::BIGINT %")
            value = f"CASE WHEN hash(i, '{name}', 0) % 5 > 0 THEN {value} END"
            fixed = {"source_id": f"'{source}'", "endpoint": "'e'", bucket: "bucket", "revision": "2"}
            values.append(fixed.get(name, value))
        con.execute(
            f"INSERT INTO {table} SELECT {', '.join(values)} FROM (SELECT i, TIMESTAMP '{start}' + i * INTERVAL 1 {grain} "
            f"AS bucket FROM range({count}) t(i) WHERE hash(i) % 3 > 0)"
        )


@pytest.fixture
def client(serve: Serve) -> Client:
    """Three days by minutes, sixty by hours and years by days, of two sources."""
    client = serve({"sources": [SHOP, SHOP | {"id": "market"}]})
    world = World(client.settings, client.clock)
    for source in ("shop", "market"):
        world.source(source)
        world.write(("UPDATE meta.source_state SET origin = $o", {"o": NOW - timedelta(days=10)}))
    world.publish()
    for source in ("shop", "market"):
        fill(world, "minute", source, NOW - timedelta(days=3), 3 * 24 * 60 + 2)
        fill(world, "hour", source, NOW - timedelta(days=60), 60 * 24 + 1)
        fill(world, "day", source, datetime(2023, 1, 1), 1137)
    with world.warehouse.writer("mark") as con:
        mark_everything(con, NOW)
    world.publish()
    return client


class Recorded(SpooledTemporaryFile):  # type: ignore[type-arg]
    """Remembers the files that were made."""

    made: list[Recorded]

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.made.append(self)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """Files of answers, of which none is short."""
    Recorded.made = []
    monkeypatch.setattr(long_answers, "SpooledTemporaryFile", Recorded)
    monkeypatch.setattr(long_answers, "MOST_HELD", 1000)
    return Recorded.made


def all_closed(files: list[Recorded]) -> bool:
    """Whether all files were closed, which the server does after the client has seen the end."""
    deadline = time.monotonic() + 20
    while not all(file.closed for file in files) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(files) and all(file.closed for file in files)


RANGES = [
    ("minute", "2026-02-08T06:00:00", "2026-02-11T06:05:00", 400),
    ("minute", "2026-02-09T07:13:31", "2026-02-09T22:01:07", 97),
    ("hour", "2025-12-01", "2026-02-11T09:00:00", 97),
    ("day", "0001-01-01", "9999-12-31", 300),
    ("day", "2026-02-01", "2026-02-12", 1),
]


def test_an_answer_in_pieces_is_byte_for_byte_that_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    spelt = count(1)

    def ask(query: str, piece: int, most_held: int, encoding: str, **headers: str) -> requests.Response:
        monkeypatch.setattr(series, "MOST_ROWS", piece)
        monkeypatch.setattr(long_answers, "MOST_HELD", most_held)
        query += "&" * next(spelt)  # the same question in other words, so that no remembered answer comes back
        return client.request("GET", f"{PATH}?{query}", headers={"Accept-Encoding": encoding, **headers})

    for (grain, start, end, piece), filled, source in product(RANGES, ("false", "true"), ("shop", "market")):
        query = f"granularity={grain}&from={start}&to={end}&fill={filled}&source={source}"
        once = ask(query, 10**6, 10**9, "identity")
        found = once.json()["data"]
        assert len(found["rows"]) == found["summary"]["n"] > 2
        buckets = [row["stat_date" if grain == "day" else f"stat_{grain}"] for row in found["rows"]]
        assert buckets == sorted(set(buckets))
        sums = [row["execution_sum_ms"] for row in found["rows"] if row["execution_sum_ms"] is not None]
        assert Decimal(str(found["summary"]["execution_sum_ms"])) == sum(Decimal(str(value)) for value in sums)
        assert {row["source"] for row in found["rows"]} == ({"stored", "none"} if filled == "true" else {"stored"})
        for most_held, encoding in ((1000, "identity"), (1000, "gzip"), (10**9, "gzip")):
            again = ask(query, piece, most_held, encoding)
            assert again.content == once.content
            assert again.headers["etag"] == once.headers["etag"]
            assert again.headers["vary"] == "Accept-Encoding"
            assert again.headers.get("content-encoding") == (None if encoding == "identity" else "gzip")
            if encoding == "identity":
                assert int(again.headers["content-length"]) == len(once.content)
        known = ask(query, piece, 1000, "gzip, identity", **{"If-None-Match": once.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")


def test_every_sum_is_of_whole_numbers_or_decimals_so_that_pieces_add_up_exactly(client: Client) -> None:
    with Published(client.settings.lake_path).look() as look:
        for grain in endpoints.LENGTH:
            kinds = dict(look.manifest.tables[endpoints.table_of("endpoint", grain)].columns)
            summed = {kinds[name].split("(")[0] for name in kinds if endpoints.rollup_of().get(name) == "sum"}
            assert summed == {"BIGINT", "DECIMAL", "JSON"}


def test_units_cover_a_range_without_gaps_and_name_the_files_of_their_rows(client: Client) -> None:
    with Published(client.settings.lake_path).look() as look:
        for grain in endpoints.LENGTH:
            files = look.files(endpoints.table_of("endpoint", grain))
            for start, end in (
                (datetime.min, datetime.max),
                (NOW - timedelta(hours=30, minutes=7), NOW - timedelta(hours=2, seconds=1)),
            ):
                units = endpoints.units(look, "shop", grain, start, end)
                assert all(before.end == after.start for before, after in pairwise(units))
                assert all((unit.end - unit.start == endpoints.UNIT[grain]) != unit.is_cut for unit in units)
                assert all((unit.start - datetime.min) % endpoints.UNIT[grain] == timedelta() for unit in units[1:])
                if start > datetime.min:
                    assert (units[0].start, units[-1].end) == (start, end)
                else:
                    assert units[0].start <= NOW - timedelta(days=3)
                    assert units[-1].end > NOW
                    assert {file for unit in units for file in unit.files} == set(files.values())
                for unit in units:
                    spans = {file: partition_span(key) for key, file in files.items()}
                    there = {
                        file for file, span in spans.items() if span and span[0] < unit.end and unit.start < span[1]
                    }
                    assert there <= set(unit.files)
                    assert unit.whole[0] <= unit.start < unit.end <= unit.whole[1]


def text_of(services: Services, grain: endpoints.Grain, start: datetime, end: datetime, *, fill: bool = False) -> bytes:
    """Rows and summary of the endpoint as JSON."""
    with services.published.look() as look:
        parts = series.Series(look, "shop", "e", grain, fill=fill).parts(
            services, b'{"x":{"rows":[],"summary":null}}', start, end
        )
        return b"".join(part.text() if isinstance(part, Piece) else part for part in parts)


def test_what_was_made_ahead_is_answered_without_reading_a_file(client: Client) -> None:
    services, fresh = (Services.of(client.settings, client.clock) for _ in range(2))
    ranges: list[tuple[endpoints.Grain, datetime, datetime]] = [
        ("minute", datetime(2026, 2, 10), datetime(2026, 2, 11, 6)),
        ("minute", datetime(2026, 2, 10, 22, 13, 1), datetime(2026, 2, 11, 5, 44, 59)),
        ("minute", datetime(2026, 2, 11, 4, 30), datetime(2026, 2, 11, 6, 30)),
        ("minute", datetime(2026, 2, 11, 6, 1), datetime(2026, 2, 11, 6, 2)),
        ("hour", datetime(2026, 1, 11), datetime(2026, 2, 11)), ("hour", datetime(2026, 1, 31, 7), datetime(2026, 2, 5, 11)),
        ("hour", datetime(2026, 2, 10, 5, 59), datetime(2026, 2, 11, 6)), ("hour", datetime(2026, 2, 11), datetime(2026, 2, 13)),
    ]  # fmt: skip
    chance = Random(7)
    cut: list[tuple[endpoints.Grain, datetime]] = [("minute", datetime(2026, 2, 10)), ("hour", datetime(2026, 1, 11))]
    for grain, first in cut * 12:
        cuts = sorted(first + (NOW + timedelta(hours=1) - first) * chance.random() for _ in range(2))
        ranges.append((grain, cuts[0], cuts[1]))
    wanted = [text_of(fresh, *asked) for asked in ranges]
    assert len(list(series.ahead(services))) == 12, "of two sources thirty hours in four steps and a month in two"
    assert list(series.ahead(services)) == []
    lake = Lake(client.settings.lake_path)
    for grain, _ in cut:
        for entry in lake.manifest.tables[endpoints.table_of("endpoint", grain)].partitions.values():
            (lake.path / entry.file).unlink()
    assert [text_of(services, *asked) for asked in ranges] == wanted
    assert sum(b'"e"' in text for text in wanted) > 25
    for one in (services, fresh):
        one.close()


@pytest.mark.parametrize("grain", ["minute", "hour", "day"])
def test_some_columns_of_rows_are_the_same_from_pieces_and_from_files(client: Client, grain: endpoints.Grain) -> None:
    services = Services.of(client.settings, client.clock)
    chance = Random(5)
    columns = ("tasks_completed", "avg_execution_ms", "exec_hist", "restated_at", "quality")
    step = endpoints.LENGTH[grain]
    with services.published.look() as look:
        table = look.columns(endpoints.table_of("endpoint", grain))
        assert {*columns} <= {*table}
        spans = [sorted(NOW + step * chance.randrange(-40, 3) for _ in range(2)) for _ in range(8)]
        asked = [(look, "shop", "e", grain, start, end) for start, end in spans]
        read = [series.rows_of(services, *one, columns) for one in asked]
        one = series.Series(look, "shop", "e", grain, fill=False)
        assert one.kept_rows(services, spans[0][0], NOW) is None
        list(one.make(services, NOW - 40 * step, NOW + 3 * step))
        assert one.kept_rows(services, spans[0][0], NOW) is not None
        assert [series.rows_of(services, *one, columns) for one in asked] == read
        assert {row["source"] for rows in read for row in rows} == {"stored", "none"}
    services.close()


@pytest.mark.parametrize("which", [0, -1])
def test_a_row_that_comes_late_is_in_the_next_answer(client: Client, which: int) -> None:
    """In an hour that is over and in the one that has begun, both of which had their piece."""
    world = World(client.settings, client.clock)
    query = f"{PATH}?source=shop&granularity=minute&from=2026-02-10T19:00:00&to=2026-02-11T07:00:00"
    for fill in ("false", "true"):
        before = client.get(f"{query}&fill={fill}").json()["data"]
        at = datetime.fromisoformat([row for row in before["rows"] if row["source"] == "stored"][which]["stat_minute"])
        at = at.replace(tzinfo=None)
        changed_row = "SET tasks_submitted = coalesce(tasks_submitted, 0) + 7000, revision = 9"
        with world.warehouse.writer("late") as con, transaction(con):
            con.execute(
                f"UPDATE mart.endpoint_minute_stats {changed_row} WHERE stat_minute = ? AND source_id = 'shop'", [at]
            )
            mark_for_publish(con, "mart.endpoint_minute_stats", [at], NOW)
        world.publish()
        after = client.get(f"{query}&fill={fill}").json()["data"]
        changed = [new for old, new in zip(before["rows"], after["rows"], strict=True) if old != new]
        assert [(row["stat_minute"], row["revision"]) for row in changed] == [(f"{at.isoformat()}Z", 9)]
        assert after["summary"]["tasks_submitted"] == before["summary"]["tasks_submitted"] + 7000


def test_a_piece_replaces_that_of_the_same_hour_and_no_other(client: Client) -> None:
    world, services = World(client.settings, client.clock), Services.of(client.settings, client.clock)
    list(series.ahead(services))
    con = series._store(services)._con
    before = dict(con.execute("SELECT what, key FROM piece").fetchall())
    at = NOW - timedelta(minutes=90)
    with world.warehouse.writer("late") as writer, transaction(writer):
        writer.execute(
            "UPDATE mart.endpoint_minute_stats SET revision = 9 WHERE date_trunc('hour', stat_minute) = date_trunc('hour', ?)",
            [at],
        )
        mark_for_publish(writer, "mart.endpoint_minute_stats", [at], NOW)
    world.publish()
    list(series.ahead(services))
    after = dict(con.execute("SELECT what, key FROM piece").fetchall())
    assert after.keys() == before.keys()
    assert sum(after[what] != key for what, key in before.items()) == 2, "that hour of both sources"
    services.close()


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_memory_does_not_grow_with_the_length_of_an_answer(
    client: Client, files: list[Recorded], encoding: str
) -> None:
    def peak(hours: int, source: str = "shop") -> tuple[int, int]:
        """Bytes held at most while a series of so many hours is answered, and its length."""
        start = (NOW - timedelta(hours=hours)).isoformat()
        query = f"granularity=minute&fill=true&source={source}&from={start}&to={NOW.isoformat()}"
        tracemalloc.start()
        try:
            with client.session.get(
                f"{client.url}{PATH}?{query}", headers={"Accept-Encoding": encoding}, stream=True, timeout=60
            ) as answer:
                length = sum(map(len, answer.iter_content(1 << 14)))
            return tracemalloc.get_traced_memory()[1], length
        finally:
            tracemalloc.stop()

    peak(11)
    short, short_length = peak(12, "market")
    long, long_length = peak(72)
    assert long_length > 5 * short_length
    assert long < 1.5 * short
    kept, kept_length = peak(73)
    assert kept_length > long_length
    assert kept < 1.5 * short


def test_a_client_that_leaves_in_the_middle_leaves_nothing_open(client: Client, files: list[Recorded]) -> None:
    query = "granularity=minute&fill=true&source=shop&from=2026-02-08T06:00:00&to=2026-02-11T06:00:00"
    for _ in range(3):
        address = urlsplit(client.url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(f"GET {PATH}?{query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert all_closed(files)
    assert client.get(f"{PATH}?{query}").status_code == 200, "the turn was given back"


def test_what_fails_while_pieces_are_made_is_an_error_and_no_part_of_an_answer(
    client: Client, files: list[Recorded], caplog: pytest.LogCaptureFixture
) -> None:
    query = "granularity=minute&source=shop&from=2026-02-08T06:00:00&to="
    lake = Lake(client.settings.lake_path)
    (lake.path / lake.manifest.tables["mart.endpoint_minute_stats"].partitions["2026-02-11T05"].file).unlink()
    for _ in range(2):
        answer = client.request("GET", f"{PATH}?{query}2026-02-11T06:00:00", headers={"Connection": "close"})
        assert (answer.status_code, answer.json()["message"]) == (500, "internal error")
        assert "etag" not in answer.headers
    assert f"{PATH} failed" in caplog.text
    assert all_closed(files)
    assert client.get(f"{PATH}?{query}2026-02-10T06:00:00").status_code == 200, "the turn was given back"


def test_what_fails_while_an_answer_is_sent_breaks_the_connection_and_is_logged(
    client: Client, files: list[Recorded], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorded):
        reads = 0

        def read(self, *given: int) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise OSError("the disk is gone")
            return super().read(10_000)

    monkeypatch.setattr(long_answers, "SpooledTemporaryFile", Broken)
    query = "granularity=minute&source=shop&from=2026-02-08T06:00:00&to=2026-02-11T06:00:00"
    with pytest.raises(requests.RequestException):
        client.request("GET", f"{PATH}?{query}", headers={"Accept-Encoding": "gzip"})
    assert "the disk is gone" in caplog.text
    assert all_closed(files)
