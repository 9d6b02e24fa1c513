"""Which rows of the overlap are read again: those whose digest at the source is not the stored one (E-605 to E-607).

What belongs here: the digests the store knows, asking the source for its own, and the ids that differ. What does not:
which rows a cycle asks for, and reading them (``tail``).

Of the rows that changed lately nearly all were read in an earlier cycle. An id and a digest tell so for a fifth of what
reading and typing the whole row costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from monitoring_pipelines.config.expr_sql import quote_name
from monitoring_pipelines.source.digest import DIGEST_ALIAS, STORE_COLUMN
from monitoring_pipelines.source.lookup import KEYS_PER_QUERY
from monitoring_pipelines.source.select import truth

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.source.select import SelectPlan


def known_digests(
    con: duckdb.DuckDBPyConnection, entity: str, source_id: str, since: datetime
) -> Iterator[tuple[str, int, int]]:
    """(table, row id, digest) of the stored rows of an entity that changed ``since`` (naive UTC).

    Deleted rows are left out: one that is there again is news.
    """
    yield from con.execute(
        f'SELECT src_table, row_id, {STORE_COLUMN} FROM raw."{entity}" WHERE source_id = ? AND deleted_at IS NULL '
        f"AND changed_at >= TIMESTAMP '{since.isoformat(sep=' ')}' AND row_id IS NOT NULL AND {STORE_COLUMN} IS NOT NULL",
        [source_id],
    ).fetchall()


def differing(
    connection: SourceConnection, plan: SelectPlan, condition: str, known: dict[int, int], batch_rows: int
) -> tuple[set[int], set[int]]:
    """Ids of the rows under a condition: all of them, and those whose digest is not the known one.

    A row outside the mapping's ``where`` always differs: columns that decide this need not be in the digest (E-611).

    Raises:
        SourceUnavailable: The query failed.
    """
    digest = plan.field(DIGEST_ALIAS)
    assert digest is not None
    assert plan.row_id_sql is not None
    names = [quote_name(name, plan.dialect) for name in ("row_id", DIGEST_ALIAS)]
    stands = f"case when {truth(plan.where_sql)} = 1 then {digest.sql} end" if plan.where_sql else digest.sql
    sql = f"select {plan.row_id_sql} as {names[0]}, {stands} as {names[1]} from {plan.from_sql} where {condition}"
    asked: set[int] = set()
    changed: set[int] = set()
    for rows in connection.stream(sql, batch_rows):
        asked.update(row[0] for row in rows)
        changed.update(row[0] for row in rows if row[1] is None or known.get(row[0]) != row[1])
    return asked, changed


def by_ids(plan: SelectPlan, ids: Iterable[int]) -> Iterator[str]:
    """Conditions that together select the rows with these ids."""
    ordered = sorted(ids)
    for at in range(0, len(ordered), KEYS_PER_QUERY):
        yield f"{plan.row_id_sql} in ({', '.join(str(i) for i in ordered[at : at + KEYS_PER_QUERY])})"
