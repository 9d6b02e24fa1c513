"""Reading many rows fast: source → Arrow batches → DuckDB, in memory that does not grow with the number of rows.

What belongs here: the connectorx reader, its streaming fallback, staging batches in DuckDB.
What does not: which rows are read (``select``, ``reconcile``) and reads that must share one snapshot with others:
connectorx opens a connection of its own, so one read is one statement's view of the data (``engine`` has snapshots).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from monitoring_pipelines.errors import SourceUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

BATCH_ROWS = 50_000
#: Statement limit exceeded: MySQL 3024, MariaDB 1969, and 1317 when the server only says "interrupted".
_TOO_SLOW = re.compile(r"ERROR (3024|1969|1317)\b|max_statement_time exceeded|maximum statement execution time")
_SERVER_ERROR = re.compile(r"ERROR (\d{4}) \((\w+)\): ([^}\n]*)")
#: Servers (host:port/user) where connectorx could not log in although PyMySQL could.
_no_connectorx: set[str] = set()


class QueryTooSlow(SourceUnavailable):
    """The server ended a statement at its time limit; a smaller range may succeed."""

    code = "query_too_slow"


class RowStream(Protocol):
    """An open connection that hands over rows in batches (``engine.SourceConnection``)."""

    def stream(self, sql: str, batch_rows: int = ...) -> Iterator[Sequence[Sequence[Any]]]:
        """Rows of ``sql``, at most ``batch_rows`` at a time."""
        ...


class ArrowRead:
    """Batches of one statement. Iterate once; ``schema`` is known before the first batch."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], reader: str) -> None:
        self.schema = schema
        self.reader = reader
        self._batches = batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches


@contextmanager
def read_arrow(
    dsn: str,
    sql: str,
    *,
    columns: Sequence[tuple[str, str]] | None = None,
    limit_s: float = 30.0,
    batch_rows: int = BATCH_ROWS,
    connection: RowStream | None = None,
    small: bool = False,
) -> Iterator[ArrowRead]:
    """Run ``sql`` and yield its rows as Arrow batches.

    Args:
        dsn: ``mysql://``, ``mariadb://`` or ``sqlite:///``; it appears in no message.
        sql: A SELECT of integers and texts (the transports of ``select``).
        columns: (name, ``BIGINT`` or ``VARCHAR``) of every column (``SelectPlan.stage_columns``); the fallback
            needs it.
        limit_s: Statement limit set at the server, seconds.
        batch_rows: Rows per batch; memory is a few batches.
        connection: An open connection for the streaming fallback. Its statement limit is its own.
        small: Few rows are expected: read them over ``connection`` at once instead of logging in anew.

    Raises:
        QueryTooSlow: The server ended the statement at ``limit_s``.
        SourceUnavailable: Connection, login or statement failed, also in the middle of the batches.
    """
    if _connectorx_can(dsn) and not (small and connection is not None):
        try:
            read = _by_connectorx(dsn, sql, limit_s, batch_rows)
        except _LoginError as error:
            # The caller reached the server by PyMySQL, so this is a login method or TLS demand connectorx lacks.
            log.warning("fast reader cannot log in, reading by PyMySQL instead: %s", error)
            _no_connectorx.add(_place(dsn))
        else:
            yield read
            return
    if connection is None or columns is None:
        raise SourceUnavailable("the fast reader cannot log in to the source", "check the account and its login method")
    yield _by_stream(connection, sql, columns, batch_rows)


class _LoginError(Exception):
    """connectorx did not get a connection."""


def _place(dsn: str) -> str:
    parts = urlsplit(dsn)
    return f"{parts.username}@{parts.hostname}:{parts.port}"


def _connectorx_can(dsn: str) -> bool:
    """Options after ``?`` are TLS files, sockets and the like, which connectorx does not know by PyMySQL's names."""
    parts = urlsplit(dsn)
    return parts.scheme in ("mysql", "mariadb") and not parts.query and _place(dsn) not in _no_connectorx


def _by_connectorx(dsn: str, sql: str, limit_s: float, batch_rows: int) -> ArrowRead:
    try:
        import connectorx
    except ImportError as error:
        raise _LoginError(f"connectorx is not installed ({error})") from None
    # As ``engine`` prepares its sessions. Each limit is a comment on the server that does not know it.
    before = [
        "SET time_zone = '+00:00'",
        "SET sql_mode = ''",
        f"/*M!100100 SET max_statement_time = {limit_s:f} */",
        f"/*!50708 SET @@session.max_execution_time = {int(limit_s * 1000)} */",
    ]
    with _translated():
        reader = connectorx.read_sql(
            re.sub(r"^mariadb://", "mysql://", dsn), sql, return_type="arrow_stream", batch_size=batch_rows,
            pre_execution_query=before,
        )  # fmt: skip
    return ArrowRead(reader.schema, _batches(reader), "connectorx")


def _by_stream(connection: RowStream, sql: str, columns: Sequence[tuple[str, str]], batch_rows: int) -> ArrowRead:
    import pyarrow as pa

    schema = pa.schema([(name, pa.int64() if kind == "BIGINT" else pa.string()) for name, kind in columns])

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in connection.stream(sql, batch_rows):
            if rows:
                arrays = [
                    _array(list(values), field.type)
                    for values, field in zip(zip(*rows, strict=True), schema, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return ArrowRead(schema, batches(), "stream")


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_int64(kind):
        return pa.array([None if value is None else int(value) for value in values], kind)
    return pa.array([value if value is None or type(value) is str else value.decode("utf-8", "replace")
                     if isinstance(value, bytes) else str(value) for value in values], kind)  # fmt: skip


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    while True:
        with _translated():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        if batch.num_rows:
            yield batch


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of connectorx, which are RuntimeErrors at the start and Rust panics later, as errors of the product."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
            raise
        raise _error_of(str(error)) from None


def _error_of(text: str) -> Exception:
    if "timed out waiting for connection" in text:
        return _LoginError(_reason(text))
    if _TOO_SLOW.search(text):
        return QueryTooSlow("the source ended a statement at its time limit", cause=_reason(text))
    return SourceUnavailable(f"reading the source failed: {_reason(text)}")


def _reason(text: str) -> str:
    """The server's own words; nothing else of a driver's message is repeated."""
    found = _SERVER_ERROR.search(text)
    if found:
        return f"{found[1]} ({found[2]}) {found[3].strip()}"
    from monitoring_pipelines.config.secrets import mask

    return mask(text.splitlines()[0][:300])
