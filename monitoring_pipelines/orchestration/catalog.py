"""What the code location must know about the SQL files, without parsing them in every run.

What belongs here: descriptions, references, column types and documentation of all models and audits, computed once and
kept in ``catalog.json`` beside this file. What does not: the SQL files and their loader (``warehouse.sql_models``).

Every run loads the code location, and parsing 40 queries costs it more than half a CPU-second. The file carries a
digest of the SQL files; while it fits, the file is used, otherwise everything is computed. After a change of SQL:
``python -m monitoring_pipelines.orchestration.catalog``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

STORED = Path(__file__).with_name("catalog.json")
#: Folders of SQL that fills no table: queries of checks and batches of expectation suites.
_QUERIES = ("checks", "expectations", "rules")


@dataclass(frozen=True)
class Column:
    """One column of a table; ``type`` is DuckDB's."""

    name: str
    type: str
    doc: str
    rollup: str
    unit: str | None


@dataclass(frozen=True)
class Table:
    """One table filled by a SQL model. ``refs`` are the tables it reads, as ``schema.table``."""

    name: str
    description: str
    grain: str | None
    refs: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def path(self) -> str:
        """The SQL file."""
        return f"dbt_like_sql/{self.name.replace('.', '/')}.sql"


@dataclass(frozen=True)
class Audit:
    """One query that returns bad rows."""

    rule: str
    name: str
    description: str
    family: str


@dataclass(frozen=True)
class Catalog:
    """All models by name, and all audits."""

    tables: dict[str, Table]
    audits: tuple[Audit, ...]


@cache
def load_catalog() -> Catalog:
    """The catalog of the installed SQL files."""
    try:
        stored = json.loads(STORED.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored = {}
    return _decode(stored if stored.get("digest") == digest() else compute())


def digest() -> str:
    """A digest of the names and texts of the SQL files the catalog is made of; queries of ``_QUERIES`` are not."""
    from monitoring_pipelines.warehouse.sql_models import sql_root

    root = sql_root()
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*.sql") if path.parent.name not in _QUERIES):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def compute() -> dict[str, Any]:
    """The catalog as JSON, from the SQL files and an empty in-memory database."""
    from monitoring_pipelines.lean import without_pandas
    from monitoring_pipelines.warehouse.audits import load_audits
    from monitoring_pipelines.warehouse.families import ENDPOINT
    from monitoring_pipelines.warehouse.sql_models import load_models

    with without_pandas():
        types = _types()
        tables = [
            Table(
                model.name,
                " ".join(model.description.split()),
                model.grain,
                tuple(sorted(model.refs)),
                _columns(types[model.name], model.columns),
            )
            for model in load_models().values()
        ]
    audits = [
        Audit(str(audit.meta["rule"]), audit.table, audit.description, audit.family or ENDPOINT)
        for audit in load_audits()
    ]
    stored = {
        "digest": digest(),
        "tables": [asdict(table) for table in tables],
        "audits": [asdict(audit) for audit in audits],
    }
    return cast(dict[str, Any], json.loads(json.dumps(stored)))


def _types() -> dict[str, list[tuple[str, str]]]:
    """Columns of all tables of a fresh warehouse."""
    from datetime import datetime

    import duckdb

    from monitoring_pipelines.warehouse.core_tables import ensure_core
    from monitoring_pipelines.warehouse.schema import ensure_schema
    from monitoring_pipelines.warehouse.windows import prepare

    with duckdb.connect(":memory:") as con:
        ensure_schema(con, datetime(2000, 1, 1))
        ensure_core(con)
        prepare(con)
        rows = con.execute(
            "SELECT schema_name || '.' || table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE schema_name IN ('core', 'mart') ORDER BY table_oid, column_index"
        ).fetchall()
    types: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in rows:
        types.setdefault(table, []).append((column, kind))
    return types


#: Columns that the window runner adds to every statistics table (M-803, M-804).
_HISTORY = {
    "revision": "1 for the first version of the row, one more with every restatement",
    "first_closed_at": "When the row was first complete",
    "restated_at": "When a complete row last changed; NULL if never",
    "frozen": "Raw rows of this bucket are gone: late rows no longer change it",
}


def _columns(types: list[tuple[str, str]], docs: dict[str, Any]) -> tuple[Column, ...]:
    columns = []
    for name, kind in types:
        doc = docs.get(name)
        if doc is None:
            columns.append(Column(name, kind, _HISTORY.get(name, ""), "none", None))
        else:
            columns.append(Column(name, kind, doc.doc, doc.rollup, doc.unit))
    return tuple(columns)


def _decode(stored: dict[str, Any]) -> Catalog:
    tables = [
        Table(
            table["name"],
            table["description"],
            table["grain"],
            tuple(table["refs"]),
            tuple(Column(**column) for column in table["columns"]),
        )
        for table in stored["tables"]
    ]
    return Catalog({table.name: table for table in tables}, tuple(Audit(**audit) for audit in stored["audits"]))


if __name__ == "__main__":
    STORED.write_text(json.dumps(compute(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
