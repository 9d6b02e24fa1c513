"""Types follow names, and every stored entity has the product's bookkeeping (E-002, E-004)."""

from __future__ import annotations

import pytest

from monitoring_pipelines.entities import entities
from monitoring_pipelines.warehouse.connect import Warehouse

BY_ENDING = {
    "_at": "TIMESTAMP", "_from": "TIMESTAMP", "_to": "TIMESTAMP", "_id": "VARCHAR", "_key": "VARCHAR", "_ms": "DECIMAL(20,3)",
    "_s": "DOUBLE", "_seconds": "DOUBLE", "_bytes": "BIGINT", "_mb": "BIGINT", "_n": "BIGINT", "_count": "BIGINT",
    "_no": "BIGINT", "_rate": "DOUBLE", "_pct": "DOUBLE",
}  # fmt: skip
BY_NAME = {
    "at": "TIMESTAMP", "endpoint": "VARCHAR", "target": "VARCHAR", "series": "VARCHAR", "channel": "VARCHAR",
    "concurrency": "BIGINT", "replicas": "BIGINT", "fds": "BIGINT", "objects": "BIGINT", "http_status": "BIGINT",
    "load1": "DOUBLE", "effective_cores": "DOUBLE",
}  # fmt: skip
BOOKKEEPING = {
    "row_id": "BIGINT", "first_seen_at": "TIMESTAMP", "changed_at": "TIMESTAMP", "deleted_at": "TIMESTAMP",
    "deleted_reason": "VARCHAR", "row_hash": "VARCHAR", "anomalies": "VARCHAR[]",
}  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Types of the columns of every raw entity, as a new warehouse has them."""
    with Warehouse(tmp_path_factory.mktemp("entities") / "warehouse.duckdb").writer("test") as con:
        rows = con.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'raw'"
        ).fetchall()
    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        if table in entities():
            tables.setdefault(table, {})[column] = kind
    return tables


def test_the_type_of_a_column_follows_its_name(stored):
    assert stored.keys() == entities().keys()
    wrong = {
        (table, column, kind)
        for table, columns in stored.items()
        for column, kind in columns.items()
        for name, expected in (*BY_NAME.items(), *((end, kind_of) for end, kind_of in BY_ENDING.items()))
        if (column == name or (name.startswith("_") and column.endswith(name) and column != "row_id"))
        and kind != expected
    }
    assert wrong == set()
    assert stored["ingest_counter"]["value"] == "DECIMAL(38,6)"


def test_every_entity_has_the_bookkeeping_columns(stored):
    for table, columns in stored.items():
        assert {name: columns.get(name) for name in BOOKKEEPING} == BOOKKEEPING, table
