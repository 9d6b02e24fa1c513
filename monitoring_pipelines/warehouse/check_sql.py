"""Running the statements of ``dbt_like_sql/checks``: what checks, rules and row cases read the warehouse with.

What belongs here: finding a statement, the macros it uses, its parameters. What does not: what checks make of the rows
(``quality``), statistics (``sql_models``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.warehouse.sql_models import sql_root

if TYPE_CHECKING:
    import duckdb

#: Table macros that statements share: ``dbt_like_sql/checks/<name>.macro.sql``.
MACROS = ("decided_task", "live_output")


def query(
    con: duckdb.DuckDBPyConnection, name: str, parameters: Mapping[str, Any], *, into: str | None = None
) -> list[dict[str, Any]]:
    """Run ``dbt_like_sql/checks/<name>.sql`` with those of the parameters it uses.

    Args:
        con: The warehouse.
        name: The statement.
        parameters: By name; DuckDB refuses surplus ones, so others are left out.
        into: Keep the rows in this temporary table, and return none.

    Raises:
        FileNotFoundError: There is no such statement.
    """
    sql = statement(name)
    for macro in MACROS:
        if f"{macro}(" in sql:
            con.execute(statement(f"{macro}.macro"))
    used = {key: _bound(value) for key, value in parameters.items() if re.search(rf"\${key}\b", sql)}
    with without_pandas():
        cursor = con.execute(f"CREATE OR REPLACE TEMP TABLE {into} AS {sql}" if into else sql, used)
        names = [column[0] for column in cursor.description or ()]
        return [] if into else [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _bound(value: Any) -> Any:
    """The value as it is bound. A list of numbers goes as the text of one, which ``$name::UBIGINT[]`` reads: of every single
    element DuckDB's client asks whether pandas knows it, 13 µs each while pandas is kept out.
    """
    return str(value) if isinstance(value, list) and value and isinstance(value[0], int) else value


@cache
def statement(name: str) -> str:
    """Text of ``dbt_like_sql/checks/<name>.sql``; FileNotFoundError if there is none."""
    return (sql_root() / "checks" / f"{name}.sql").read_text(encoding="utf-8")
