"""Bulk reading: what connectorx hands over, its limits, its failures, and the fallback."""

from __future__ import annotations

import pytest

from monitoring_pipelines.errors import SourceUnavailable
from monitoring_pipelines.source.bulk import QueryTooSlow, read_arrow
from monitoring_pipelines_tests.support.mysql_server import TestDatabase

COLUMNS = [("id", "BIGINT"), ("k", "VARCHAR"), ("us", "BIGINT"), ("d", "VARCHAR")]
SQL = (
    "select id, k, coalesce(timestampdiff(microsecond, '1970-01-01', a), case when a is null then null else "
    "-9223372036854775808 end) as us, cast(d as char) as d from t order by id"
)


@pytest.fixture
def filled(mariadb_db: TestDatabase) -> TestDatabase:
    mariadb_db.execute("set sql_mode = ''")
    mariadb_db.execute("create table t (id bigint primary key, k varchar(40), a datetime(6), d decimal(20,3))")
    rows = [(n, f"k{n}", f"2026-02-01 06:00:00.{n:06d}", f"{n}.125") for n in range(1, 1201)]
    rows[4] = (5, None, None, None)
    rows[5] = (6, "é中😀", "0000-00-00", "-0.001")
    mariadb_db.executemany("insert into t values (%s, %s, %s, %s)", rows)
    return mariadb_db


class _Stream:
    """A plain driver connection, as the fallback gets it."""

    def __init__(self, database: TestDatabase) -> None:
        self.database = database

    def stream(self, sql: str, batch_rows: int = 1000):
        rows = self.database.execute(sql)
        for at in range(0, len(rows), batch_rows):
            yield rows[at : at + batch_rows]


def _read(database: TestDatabase, dsn: str, **options) -> tuple[str, list]:
    with read_arrow(dsn, SQL, columns=COLUMNS, batch_rows=500, **options) as read:
        rows = [tuple(row.values()) for batch in read for row in batch.to_pylist()]
        assert len(rows) == 1200
        return read.reader, sorted(rows)


def test_both_readers_hand_over_the_same_rows(filled: TestDatabase) -> None:
    """E-304, E-601: zero dates, NULL, four-byte text and decimals survive both ways of reading."""
    fast, rows = _read(filled, filled.dsn)
    slow, same = _read(filled, filled.dsn + "?charset=utf8mb4", connection=_Stream(filled))
    assert (fast, slow) == ("connectorx", "stream")
    assert rows == same
    assert rows[4] == (5, None, None, None)
    assert rows[5] == (6, "é中😀", -(2**63), "-0.001")
    assert rows[0] == (1, "k1", 1769925600000001, "1.125")


def test_mariadb_scheme_and_empty_results(filled: TestDatabase) -> None:
    """A range without rows still has a schema."""
    with read_arrow(filled.server.dsn(filled.name, "mariadb"), "select id, k from t where id < 0") as read:
        assert read.schema.names == ["id", "k"]
        assert list(read) == []


def test_session_is_utc_and_limited(filled: TestDatabase) -> None:
    """E-301, E-601: the reader's own connection has the zone and the statement limit of every other one."""
    with read_arrow(filled.dsn, "select @@session.time_zone as z", limit_s=7) as read:
        assert [batch.to_pylist() for batch in read] == [[{"z": "+00:00"}]]
    with pytest.raises(QueryTooSlow), read_arrow(filled.dsn, "select sleep(0.01) as s from t", limit_s=0.3) as read:
        list(read)


def test_a_failed_statement_is_an_error_of_the_source_without_secrets(filled: TestDatabase) -> None:
    """E-006, E-613: the message has the server's words and no DSN."""
    with pytest.raises(SourceUnavailable) as caught, read_arrow(filled.dsn, "select nope from t") as read:
        list(read)
    assert "1054" in str(caught.value)
    assert filled.server.password not in str(caught.value)


def test_a_connection_lost_between_batches_is_an_error(filled: TestDatabase) -> None:
    """E-613: a stream that ends early is never taken for a complete one."""
    sql = "select a.id as x, b.id as y, repeat('x', 200) as z from t a, t b"
    with pytest.raises(SourceUnavailable), read_arrow(filled.dsn, sql, batch_rows=500) as read:
        for number, _ in enumerate(read):
            if number == 1:
                for (ident,) in filled.execute(
                    "select id from information_schema.processlist where db = %s and id <> connection_id()",
                    (filled.name,),
                ):
                    filled.execute(f"kill {ident}")
