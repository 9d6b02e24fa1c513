"""Pages of the lists in the state store, in each of their orders (S-103, S-804).

What belongs here: ordering, cutting, and reading only the rows that are shown. What does not: which rows, and what they can be
ordered by (the module of each list).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, func, select

from monitoring_pipelines.state.rows import Row, dicts

#: What a list can be ordered by: name → column, or an expression that is never NULL.
Orders = Mapping[str, ColumnElement[Any]]
#: Rows read by one statement.
BATCH = 2000


def order_by(orders: Orders, sort: str | None, *usual: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """The order that ``sort`` names, equal ones in the usual order of the list; without it the usual one alone.

    Args:
        orders: What the list can be ordered by.
        sort: One of their names, with ``-`` before it descending. NULL is last both ways, as in ``api.params.ordered``.
        usual: The usual order; it leaves no two rows equal.
    """
    if sort is None:
        return list(usual)
    chosen = orders[sort.removeprefix("-")]
    unknown = [chosen.is_(None)] if isinstance(chosen, Column) and chosen.nullable else []
    return [*unknown, chosen.desc() if sort.startswith("-") else chosen.asc(), *usual]


def count(con: Connection, key: Column[Any], where: Sequence[ColumnElement[bool]]) -> int:
    """How many rows of the key's table match."""
    return int(con.execute(select(func.count()).select_from(key.table).where(*where)).scalar_one())


def keys_of(
    con: Connection, key: Column[Any], where: Sequence[ColumnElement[bool]], order: Sequence[ColumnElement[Any]],
    limit: int | None = None, offset: int = 0,
) -> list[Any]:  # fmt: skip
    """Keys of the rows that match, in order."""
    query = select(key).where(*where).order_by(*order)
    return list(con.execute(query if limit is None else query.limit(limit).offset(offset)).scalars())


def rows_of(
    con: Connection, key: Column[Any], keys: Sequence[Any], where: Sequence[ColumnElement[bool]] = ()
) -> list[Row]:
    """Rows by their keys, in the order of these; unknown ones are left out.

    Args:
        con: A connection.
        key: The key's column.
        keys: The wanted ones.
        where: What else makes them unique, where the table has more key columns.
    """
    rows: dict[Any, Row] = {}
    for start in range(0, len(keys), BATCH):  # every key is a parameter, and databases take only so many
        wanted = select(key.table).where(*where, key.in_(keys[start : start + BATCH]))
        rows |= {row[key.name]: row for row in dicts(con, wanted)}
    return [rows[one] for one in keys if one in rows]


def cut(
    con: Connection, key: Column[Any], where: Sequence[ColumnElement[bool]], order: Sequence[ColumnElement[Any]],
    limit: int | None, offset: int = 0,
) -> list[Row]:  # fmt: skip
    """Rows ``offset`` to ``offset + limit`` of those that match.

    Their keys are read first: a database that sorts whole rows moves megabytes for a page of them.
    """
    apart = where if len(key.table.primary_key.columns) > 1 else ()
    return rows_of(con, key, keys_of(con, key, where, order, limit, offset), apart)
