"""What the Dagster UI shows about tables: columns, lineage, figures that plot.

What belongs here: translating entities and SQL models into Dagster metadata; where our page is.
What does not: the documentation itself (front matter of the SQL files, ``entities``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetKey,
    DataVersion,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from monitoring_pipelines.entities import Entity, raw_columns

if TYPE_CHECKING:
    from monitoring_pipelines.orchestration.catalog import Table

OWNERS = ["team:monitoring"]
#: The same for every table at all times: Dagster calls a table unsynced as soon as one it reads was written again, which is
#: every minute. Which hours and days must be computed again is known from the rows (M-802), and these are requested.
VERSION = DataVersion("rows")
#: The same for events that are no result of a step.
VERSION_TAGS = {DATA_VERSION_TAG: VERSION.value}

_BOOKKEEPING_DOC = {
    "row_id": "Auto-increment id of the row at the source.",
    "src_table": "Table of the source the row came from (E-505).",
    "first_seen_at": "When the product first saw the row.",
    "changed_at": "When the product last saw a mapped value change (E-603).",
    "deleted_at": "When the product found the row missing at the source (E-610).",
    "deleted_reason": "hard or retention (E-610).",
    "row_hash": "Digest of all mapped values.",
    "anomalies": "Kinds of anomalies found while converting the row (E-007).",
    "key_hash": "Number derived from the key, for fast look-ups.",
    "task_hash": "Number derived from source and task key, for fast look-ups.",
}
_KIND_DOC = {
    "time": "UTC",
    "ms": "milliseconds",
    "bool": "yes or no",
    "json": "JSON",
}
#: Roll-ups that take a column from the same column of the finer table.
_COPIED = {"sum", "max", "min", "last", "worst"}


def entity_metadata(entity: Entity) -> dict[str, Any]:
    """Definition metadata of ``raw/<entity>``."""
    nullable = {c.name: c.nullable for c in entity.columns}
    kinds = {c.name: c.kind for c in entity.columns}
    columns = [
        TableColumn(
            name,
            type_,
            description=_BOOKKEEPING_DOC.get(name) or _KIND_DOC.get(kinds.get(name, "")),
            constraints=TableColumnConstraints(nullable=nullable.get(name, True)),
        )
        for name, type_ in raw_columns(entity)
    ]
    return {"dagster/column_schema": TableSchema(columns), "dagster/table_name": f"raw.{entity.name}"}


def table_metadata(table: Table) -> dict[str, Any]:
    """Definition metadata of an asset filled by a SQL model."""
    columns = [
        TableColumn(
            column.name, column.type, description=f"{column.doc} [{column.unit}]" if column.unit else column.doc
        )
        for column in table.columns
    ]
    return {"dagster/column_schema": TableSchema(columns), "dagster/table_name": table.name, "sql": table.path}


def column_lineage(table: Table, finer: Table) -> TableColumnLineage:
    """Columns that a larger bucket takes from the same column of the finer table, from the model's roll-up rules."""
    upstream = key_of(finer.name)
    there = {column.name for column in finer.columns}
    return TableColumnLineage(
        {
            column.name: [TableColumnDep(upstream, column.name)]
            for column in table.columns
            if column.rollup in _COPIED and column.name in there
        }
    )


def key_of(name: str) -> AssetKey:
    """The asset of a table: ``mart.endpoint_minute_stats`` is ``mart/endpoint_minute_stats``."""
    return AssetKey(name.split("."))


def asset_deps(table: Table, known: Iterable[str]) -> list[AssetKey]:
    """The assets a table is computed from, by the references in its SQL; itself and bookkeeping tables left out."""
    known = set(known)
    return [key_of(ref) for ref in table.refs if ref in known and ref != table.name]


def figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only what is there: numbers stay numbers, so that Dagster plots them; None is left out."""
    return {key: value for key, value in values.items() if value is not None}
