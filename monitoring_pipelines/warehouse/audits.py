"""Audits: queries that return the rows in which an invariant of the statistics does not hold (M-901 to M-911).

What belongs here: finding and running ``dbt_like_sql/audits/*.sql`` over a window, and the sums of every
family, which follow from its models (M-903).
What does not: alerts and checks made of their results, and the invariants themselves (the SQL files).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.warehouse.families import ENDPOINT, FAMILIES, Family
from monitoring_pipelines.warehouse.sql_models import Model, install_macros, load_model, sql_root, window_parameters

if TYPE_CHECKING:
    import duckdb

#: How many bad rows a result carries; the count is always complete.
SAMPLE_ROWS = 20


@dataclass(frozen=True)
class AuditResult:
    """What one audit found: ``bad_rows`` in all, and the first of them with table, key and reason."""

    rule: str
    name: str
    description: str
    bad_rows: int
    sample: tuple[dict[str, Any], ...] = ()

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
        found += [_sums_add_up(family) for family in FAMILIES.values()]
    return tuple(sorted(found, key=lambda audit: audit.name))


def _sums_add_up(family: Family) -> Model:
    """M-903 of a family: what its models call a sum is one. Maps of counts are compared in total by M-910."""
    parts = []
    for small, large, unit in (("minute", "hour", "hour"), ("hour", "day", "day")):
        fine, coarse = load_model(family.table(small)), load_model(family.table(large))
        summed = [name for name, column in coarse.columns.items() if column.rollup == "sum" and column.unit != "map"]
        shared = {"unit": unit, "small": small, "fine": fine.name, "coarse": coarse.name, "name": family.name}
        parts.append(
            _SUMS.format(
                **shared,
                subject=", ".join(family.subject),
                same=" and ".join(f"f.{name} = c.{name}" for name in ("source_id", *family.subject, "bucket")),
                either=", ".join(f"coalesce(c.{name}, f.{name}) as {name}" for name in family.subject),
                fine_bucket=fine.bucket,
                coarse_bucket=coarse.bucket,
                sums=", ".join(f"sum({name}) as {name}" for name in summed),
                columns=", ".join(summed),
                fine_values=", ".join(f"f.{name}" for name in summed),
                coarse_values=", ".join(f"c.{name}" for name in summed),
            )
        )
    name = "m903_sums_add_up" if family.name == ENDPOINT else f"m903_{family.name}_sums_add_up"
    head = f"/*---\nrule: M-903\nfamily: {family.name}\ndescription: {_SUMS_DESCRIPTION}\n---*/\n"
    return Model(f"audits.{name}", Path(f"{name}.sql"), head + "\nunion all by name\n".join(parts))


_SUMS_DESCRIPTION = "Sums of the minutes are the hour, sums of the hours are the day"
#: A day whose hours changed since is waiting to be computed; so is nothing else.
_SUMS = """
select '{coarse}' as table_name, coalesce(c.source_id, f.source_id) as source_id, {either},
    coalesce(c.bucket, f.bucket) as bucket, 'the {small}s add up to something else' as detail
from (
    select source_id, {subject}, date_trunc('{unit}', {fine_bucket}) as bucket, {sums}
    from {fine}
    where {fine_bucket} >= date_trunc('{unit}', $window_start)
        and {fine_bucket} < date_trunc('{unit}', $window_end - interval 1 microsecond) + interval 1 {unit}
    group by all
) as f
full join (
    select source_id, {subject}, cast({coarse_bucket} as timestamp) as bucket, frozen, {columns}
    from {coarse}
    where {coarse_bucket} >= date_trunc('{unit}', $window_start) and {coarse_bucket} < $window_end
) as c on {same}
where not coalesce(c.frozen, false)
    and row({fine_values}) is distinct from row({coarse_values})
    and ('{unit}' = 'hour' or c.bucket is not null)
    and ('{unit}' = 'hour' or (c.source_id, c.bucket) not in (
        select (source_id, "day") from meta.dirty_day where family = '{name}'
    ))
"""


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
        results.append(AuditResult(rule, audit.table, audit.description, len(rows), sample))
    return results
