"""Audits: queries that return the rows in which an invariant of the statistics does not hold (M-901 to M-911).

What belongs here: finding and running ``dbt_like_sql/audits/*.sql`` over a window, those that follow
from the models included (``family_audits``).
What does not: alerts and checks made of their results, and the invariants themselves (the SQL files).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.family_audits import family_audits
from monitoring_pipelines.warehouse.sql_models import Model, install_macros, sql_root, window_parameters

if TYPE_CHECKING:
    import duckdb

#: How many bad rows a result carries; the count is always complete.
SAMPLE_ROWS = 20


#: (table, source, start of the partition).
Place = tuple[str, str, datetime]


@dataclass(frozen=True)
class AuditResult:
    """What one audit found: ``bad_rows`` in all, the first of them with table, key and reason, and how many are where.

    ``places``: (table, source, start of the hour or, in a table of days, of the day) → bad rows there.
    """

    rule: str
    name: str
    description: str
    bad_rows: int
    sample: tuple[dict[str, Any], ...] = ()
    places: Mapping[Place, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the invariant holds everywhere in the window."""
        return self.bad_rows == 0


@cache
def load_audits(root: Path | None = None) -> tuple[Model, ...]:
    """All audits in the order of their names; ``meta`` of each has ``rule`` and ``description``."""
    paths = sorted(((root or sql_root()) / "audits").glob("*.sql"))
    found = [Model(f"audits.{path.stem}", path, path.read_text(encoding="utf-8")) for path in paths]
    if root is None:
        found += family_audits()
    return tuple(sorted(found, key=lambda audit: audit.name))


def run_audits(
    con: duckdb.DuckDBPyConnection,
    start: datetime,
    end: datetime,
    rules: frozenset[str] | None = None,
    names: frozenset[str] | None = None,
) -> list[AuditResult]:
    """Run the audits over the buckets in ``[start, end)``.

    Args:
        con: A connection on which ``windows.prepare`` has run; read-only is enough.
        start: Start of a bucket, naive UTC.
        end: End of a bucket, naive UTC.
        rules: Only these, for example ``{"M-903"}``; None: all.
        names: Only audits with these names; None: all.

    Returns:
        One result per audit, also for those that passed.
    """
    results = []
    for audit in load_audits():
        rule = str(audit.meta["rule"])
        if (rules is not None and rule not in rules) or (names is not None and audit.table not in names):
            continue
        install_macros(con, audit.sql)
        cursor = con.execute(audit.sql, window_parameters(audit.sql, start, end))
        headers = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchall()
        sample = tuple(dict(zip(headers, row, strict=True)) for row in rows[:SAMPLE_ROWS])
        places = Counter(_place(dict(zip(headers, row, strict=True))) for row in rows)
        results.append(AuditResult(rule, audit.table, audit.description, len(rows), sample, places))
    return results


def _place(row: Mapping[str, Any]) -> Place:
    return row["table_name"], row["source_id"], row["bucket"].replace(minute=0, second=0, microsecond=0)
