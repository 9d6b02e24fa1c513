"""Schema drift: what was there and is gone, or changed into something else (E-701, E-702).

What belongs here: comparing the columns a mapping reads with those of the last cycle. What does not: raising alerts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.errors import SchemaDrift

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import SourceSettings, TableMapping
    from monitoring_pipelines.source.inspect import TableInfo
    from monitoring_pipelines.source.marks import Mark
    from monitoring_pipelines.source.select import SelectPlan

_FAMILIES = {
    "time": ("date", "datetime", "timestamp"),
    "number": (
        "tinyint", "smallint", "mediumint", "int", "integer", "bigint", "decimal", "numeric", "float", "double", "real",
        "bit", "boolean", "bool",
    ),
    "text": ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json", "uuid"),
}  # fmt: skip


def family(data_type: str) -> str:
    """``time``, ``number``, ``text``, or the type itself."""
    base = data_type.lower().partition("(")[0].strip()
    return next((name for name, types in _FAMILIES.items() if base in types), base)


def missing_table(source: SourceSettings, mapping: TableMapping, mark: Mark | None) -> None:
    """Judge a table that is not there: an optional one that never was is not mapped.

    Raises:
        SchemaDrift: It existed before, or it is required.
    """
    if mapping.optional and mark is None:
        return
    what = "has disappeared" if mark is not None else "does not exist"
    raise SchemaDrift(
        f"{source.id}: table {mapping.table} ({mapping.entity}) {what}",
        "restore it, or change the mapping and run `mp validate`; when it returns, the gap is read by itself",
    )


def columns_read(plan: SelectPlan, info: TableInfo) -> dict[str, str]:
    """The fingerprint: type and nullability of every column the plan reads."""
    return {
        name: f"{info.columns[name].column_type}{'' if info.columns[name].nullable else ' not null'}"
        for name in plan.used_columns
        if name in info.columns
    }


def check(source: SourceSettings, plan: SelectPlan, info: TableInfo, mark: Mark | None) -> dict[str, str]:
    """The fingerprint of now, after comparing it with the one of the last cycle.

    Raises:
        SchemaDrift: A column that was read is gone, or is of another kind.
    """
    now = columns_read(plan, info)
    for name, before in (mark.columns if mark is not None else {}).items():
        if name not in info.columns:
            raise SchemaDrift(
                f"{source.id}: column {plan.table}.{name} ({plan.entity}) has disappeared",
                "restore it, or remove it from the mapping; when it returns, the gap is read by itself",
            )
        if name in now and family(before) != family(now[name]):
            raise SchemaDrift(
                f"{source.id}: column {plan.table}.{name} was {before} and is now {now[name]}",
                "change the mapping to the new type and run `mp validate`",
            )
    return now
