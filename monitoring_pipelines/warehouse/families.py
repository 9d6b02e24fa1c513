"""The families of statistics: their tables, and for which sources each of them is computed.

What belongs here: names, tables by grain, which mapped entities feed a family, and the record of active pairs. What does
not: windows (``windows``), the numbers (``dbt_like_sql/mart``).

A family is active for a source once an input of it was mapped or stored (E-510). Without inputs there are no rows, and
nothing is planned or executed for it. Activity never ends: stored history stays and is still rolled up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

#: Source of the product's own jobs, processes and messages (E-001).
SELF = "_self"
ENDPOINT = "endpoint"
OUTPUT = "output"
#: Grain -> the word in the table's name.
GRAIN_WORDS = {"minute": "minute", "hour": "hourly", "day": "daily"}


@dataclass(frozen=True)
class Family:
    """One group of statistics: three tables with the same subject.

    Attributes:
        name: Prefix of its tables.
        subject: Key columns between source_id and the bucket.
        entities: Unified entities any of which makes the family active.
    """

    name: str
    subject: tuple[str, ...]
    entities: tuple[str, ...]

    def table(self, grain: str) -> str:
        """``mart.<family>_<grain>_stats`` of ``minute``, ``hour`` or ``day``."""
        return f"mart.{self.name}_{GRAIN_WORDS[grain]}_stats"

    @property
    def hour_tables(self) -> tuple[str, str]:
        """Tables that an hour partition fills: minutes and hours."""
        return self.table("minute"), self.table("hour")

    @property
    def day_tables(self) -> tuple[str]:
        """The table that a day partition fills."""
        return (self.table("day"),)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            ENDPOINT, ("endpoint",), ("task", "task_event", "worker", "worker_event", "worker_snapshot", "endpoint")
        ),
        Family(OUTPUT, ("endpoint",), ("task_output",)),
        Family("job", ("job_id",), ("job_run",)),
        Family("resource", ("process_id",), ("process_sample",)),
        Family("ingest", ("process_id", "series"), ("ingest_counter",)),
        Family("notification", ("channel",), ("notification",)),
    )
}
HOUR_TABLES: tuple[str, ...] = tuple(table for family in FAMILIES.values() for table in family.hour_tables)
DAY_TABLES: tuple[str, ...] = tuple(table for family in FAMILIES.values() for table in family.day_tables)


def families_of(tables: Iterable[str]) -> list[Family]:
    """The families that own any of the tables, in their order."""
    wanted = set(tables)
    return [family for family in FAMILIES.values() if wanted & {*family.hour_tables, *family.day_tables}]


def activate(con: duckdb.DuckDBPyConnection, source_id: str, entities: Iterable[str]) -> None:
    """Remember that these entities of a source are mapped or stored; call it in the transaction that stores rows."""
    wanted = set(entities)
    names = [family.name for family in FAMILIES.values() if wanted & set(family.entities)]
    con.execute(
        "INSERT INTO meta.family_source SELECT ?, n.name FROM (SELECT unnest(?::VARCHAR[]) AS name) AS n "
        "WHERE NOT EXISTS (SELECT 1 FROM meta.family_source AS f WHERE f.source_id = ? AND f.family = n.name)",
        [source_id, names, source_id],
    )


#: (source_id, family) pairs that are computed. Endpoint statistics follow every source but those the product fills.
ACTIVE = (
    f"(SELECT source_id, '{ENDPOINT}' AS family FROM meta.source_state "
    "WHERE source_id NOT IN (SELECT source_id FROM meta.source_setting WHERE is_own) "
    f"UNION SELECT source_id, family FROM meta.family_source WHERE family <> '{ENDPOINT}')"
)


def active_families(con: duckdb.DuckDBPyConnection) -> list[Family]:
    """Families that are active for any source, in their order."""
    found = {row[0] for row in con.execute(f"SELECT DISTINCT family FROM {ACTIVE}").fetchall()}
    return [family for family in FAMILIES.values() if family.name in found]
