"""Rows of the state store as dictionaries.

What belongs here: reading them. What does not: which ones.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select

Row = dict[str, Any]


def dicts(con: Connection, query: Select[Any]) -> list[Row]:
    """What the query finds, by name of column. Mappings of SQLAlchemy build their keys anew for each row: five times the time."""
    result = con.execute(query)
    names = list(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]
