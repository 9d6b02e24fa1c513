"""Since when spans that are still open began, so that looking for them need not pass over all history.

What belongs here: keeping that instant, and telling it to queries. What does not: the spans themselves (``core_tables``).

DuckDB skips storage by the smallest and largest value of a column, but not by "is NULL": ten million ended attempts cost
as much as a minute's statistics each time the few open ones are looked for. The kept instant is never later than the
begin of any open span of any source; it moves back when rows are written and forth when a refresh begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

#: Begin and end of a span, by table.
SPANS = {"core.task_attempt": ("started_at", "ended_at"), "core.task_wait": ("from_at", "to_at")}
_NEVER = "TIMESTAMP 'infinity'"
_ALWAYS = "TIMESTAMP '-infinity'"


def since(con: duckdb.DuckDBPyConnection, table: str) -> str:
    """A condition with a constant that holds for every open span of ``table``; ``true`` when nothing is known."""
    row = con.execute(
        f'SELECT "since"::VARCHAR FROM meta.open_span WHERE table_name = ? AND "since" > {_ALWAYS}', [table]
    ).fetchone()
    return f"{SPANS[table][0]} >= TIMESTAMP '{row[0]}'" if row else "true"


def reach_back(con: duckdb.DuckDBPyConnection, table: str, written: str) -> None:
    """Rows were written to ``table``, in the same transaction; ``written`` has them."""
    begin, end = SPANS[table]
    con.execute(
        f'UPDATE meta.open_span SET "since" = n.begun FROM (SELECT min(coalesce({begin}, {_ALWAYS})) AS begun '
        f'FROM {written} WHERE {end} IS NULL) AS n WHERE table_name = ? AND n.begun < "since"',
        [table],
    )


def tighten(con: duckdb.DuckDBPyConnection) -> None:
    """Take the begin of the oldest span that is still open; inside a transaction."""
    for table, (begin, end) in SPANS.items():
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE oldest_open AS SELECT coalesce(min(coalesce({begin}, {_ALWAYS})), {_NEVER}) "
            f'AS "since" FROM {table} WHERE {end} IS NULL AND {since(con, table)}'
        )
        con.execute("DELETE FROM meta.open_span WHERE table_name = ?", [table])
        con.execute('INSERT INTO meta.open_span SELECT ?, "since" FROM oldest_open', [table])


def tell(con: duckdb.DuckDBPyConnection) -> None:
    """Let the macros of this connection know: variables ``open_since_<table>``; those who are not told look everywhere."""
    for table, known in con.execute('SELECT table_name, "since"::VARCHAR FROM meta.open_span').fetchall():
        con.execute(f"SET VARIABLE open_since_{table.split('.')[1]} = TIMESTAMP '{known}'")
