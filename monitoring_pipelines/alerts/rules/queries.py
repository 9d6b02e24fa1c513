"""Queries of rules: the files of ``dbt_like_sql/rules``.

What belongs here: reading and running them. What does not: judging their rows (the family modules).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.sql_models import sql_root

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]


@cache
def _text(name: str) -> tuple[str, frozenset[str]]:
    text = (sql_root() / "rules" / f"{name}.sql").read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return text, frozenset(re.findall(r"\$(\w+)", code))


def rows(con: duckdb.DuckDBPyConnection, name: str, **parameters: Any) -> list[Row]:
    """Rows of a query by column name; parameters the file does not use are left out."""
    text, used = _text(name)
    cursor = con.execute(text, {key: value for key, value in parameters.items() if key in used})
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
