"""SQL files as models: finding them, what they read, their columns, and the tables they fill.

What belongs here: loading ``dbt_like_sql``, references found by DuckDB's own parser, table creation from a model's
columns. What does not: moving windows (``windows``), row tests written in YAML (``sql_cases``), the SQL itself.

A model is one ``SELECT`` in ``dbt_like_sql/<schema>/<table>.sql`` that opens with a block comment holding YAML front
matter. Definitions that several models share are DuckDB macros in ``dbt_like_sql/macros``; in the DuckDB shell
``.read dbt_like_sql/macros/<file>.sql`` comes first, and then every model runs as it stands.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    import duckdb

#: Folder of the SQL files, next to the package in a checkout and inside it in a wheel.
FOLDER = "dbt_like_sql"
#: Folders below it whose files are models; ``audits`` and ``macros`` are read separately.
MODEL_FOLDERS = ("core", "mart")
#: Stands for a window where only types matter; an untyped NULL cannot be planned.
EPOCH = datetime(1970, 1, 1)
GRAINS = ("minute", "hour", "day")
ROLLUPS = ("sum", "recompute", "derived", "max", "min", "last", "worst", "none")


class ModelError(ProductError):
    """A SQL file or a stored table is not what a model requires."""

    code = "sql_model"


@dataclass(frozen=True)
class ColumnDoc:
    """What one column means. ``rollup`` is how a larger bucket gets its value (section 4 of the metrics)."""

    name: str
    doc: str
    rollup: str = "none"
    unit: str | None = None


@dataclass(frozen=True)
class Model:
    """One SQL file that fills one table.

    Attributes:
        name: ``schema.table``, for example ``mart.endpoint_minute_stats``.
        path: Where the file was found.
        sql: The whole file; the front matter is a comment and stays.
    """

    name: str
    path: Path
    sql: str

    @property
    def schema(self) -> str:
        """Schema of the table, which is also the folder of the file."""
        return self.name.split(".")[0]

    @property
    def table(self) -> str:
        """Name of the table without its schema."""
        return self.name.split(".")[1]

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The front matter.

        Raises:
            ModelError: The file has none, or it is no YAML mapping.
        """
        return _front_matter(self.sql, self.path)

    @property
    def description(self) -> str:
        """What one row means."""
        return str(self.meta.get("description", "")).strip()

    @property
    def grain(self) -> str | None:
        """``minute``, ``hour`` or ``day``; None for models that are not cut into windows."""
        return self.meta.get("grain")

    @property
    def family(self) -> str | None:
        """The group of statistics whose dirty buckets this model follows, for example ``endpoint``."""
        return self.meta.get("family")

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that identify a row."""
        return tuple(self.meta.get("key", ()))

    @property
    def bucket(self) -> str:
        """The column that holds the start of the row's bucket: the last of the key.

        Raises:
            ModelError: The model has no key.
        """
        if not self.key:
            raise ModelError(f"{self.name} has no key", f"add `key:` to the front matter of {self.path.name}")
        return self.key[-1]

    @cached_property
    def columns(self) -> dict[str, ColumnDoc]:
        """Documented columns by name, in the order of the file."""
        described = self.meta.get("columns") or {}
        return {
            name: ColumnDoc(name, str(entry.get("doc", "")), entry.get("rollup", "none"), entry.get("unit"))
            for name, entry in described.items()
        }

    @cached_property
    def refs(self) -> frozenset[str]:
        """Tables the model reads, as ``schema.table``; CTE names are not tables, macros count with their bodies.

        Tables read by the steps before the model (temporary, without schema) are named under ``reads``.
        """
        stored = {name for name in references(self.sql) if "." in name}
        return frozenset(stored | set(self.meta.get("reads", ())))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the SQL and of the macros it may use; changes when columns may have changed."""
        text = self.sql + "".join(source.text for source in macro_files().values())
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MacroFile:
    """A file of ``CREATE … MACRO`` statements, run as it stands.

    A file holds either scalar macros only, or exactly one table macro, which is then called like the file.
    """

    path: Path
    text: str

    @cached_property
    def select(self) -> str | None:
        """The SELECT of a table macro; None for a file of scalar macros."""
        found = re.search(r"\bas\s+table\b(.*?);?\s*$", self.text, re.IGNORECASE | re.DOTALL)
        return found.group(1) if found else None


@cache
def sql_root() -> Path:
    """The folder with the SQL files.

    Raises:
        ModelError: It is neither in the installed package nor next to it.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / FOLDER, package.parent / FOLDER):
        if candidate.is_dir():
            return candidate
    raise ModelError(f"{FOLDER} was not found next to {package.name}", "install the product again")


def load_models(root: Path | None = None) -> dict[str, Model]:
    """All models by ``schema.table``, sorted by name.

    Args:
        root: Another folder than the installed one, for tests.
    """
    base = root or sql_root()
    return dict(_models_in(base)) if root else dict(_installed_models())


def load_model(name: str) -> Model:
    """The installed model called ``schema.table``.

    Raises:
        ModelError: There is none.
    """
    models = _installed_models()
    if name not in models:
        raise ModelError(f"there is no model {name}", f"known: {', '.join(models)}")
    return models[name]


@cache
def _installed_models() -> Mapping[str, Model]:
    return dict(_models_in(sql_root()))


def _models_in(base: Path) -> Iterator[tuple[str, Model]]:
    for folder in MODEL_FOLDERS:
        for path in sorted((base / folder).glob("*.sql")):
            name = f"{folder}.{path.stem}"
            yield name, Model(name, path, path.read_text(encoding="utf-8"))


@cache
def macro_files() -> dict[str, MacroFile]:
    """Shared macro files by name without suffix."""
    return {p.stem: MacroFile(p, p.read_text(encoding="utf-8")) for p in sorted((sql_root() / "macros").glob("*.sql"))}


#: Macro files that were created on a connection to stay there.
_installed: WeakKeyDictionary[duckdb.DuckDBPyConnection, set[str]] = WeakKeyDictionary()


def install_macros(con: duckdb.DuckDBPyConnection, sql: str = "", *, remember: bool = False) -> None:
    """Create the shared macros as temporary macros of this connection; the warehouse file is not touched.

    Args:
        con: Any connection, read-only ones included.
        sql: The query about to run. Table macros read tables, so only those it uses are created.
        remember: Later calls on this connection need not create them again. Only outside a transaction, because a
            roll-back takes macros away.
    """
    files = macro_files()
    there = _installed.get(con, set())
    scalar = [name for name, source in files.items() if source.select is None]
    used = list(reversed(_table_macros(sql))) if sql else []
    for name in (*scalar, *used):
        if name not in there:
            con.execute(files[name].text)
    if remember:
        _installed[con] = there | {*scalar, *used}


def references(sql: str) -> frozenset[str]:
    """Tables a query reads, found by DuckDB's parser, looking through the shared table macros.

    Args:
        sql: One ``SELECT``; parameters such as ``$window_start`` are allowed.

    Raises:
        ModelError: DuckDB cannot parse it as a SELECT.
    """
    bodies = [macro_files()[name].select or "" for name in _table_macros(sql)]
    return frozenset().union(*(_tables_in(text) for text in (sql, *bodies)))


@cache
def _table_macros(sql: str) -> list[str]:
    """Names of the table macros a query uses, directly or through others; every one before those it uses.

    Looking for ``name(`` in the text is enough: naming one too many is harmless, and parsing a large query for the
    first time costs a process 0.4 s.
    """
    bodies = {name: source.select for name, source in macro_files().items() if source.select is not None}
    order: list[str] = []
    pending = [sql]
    while pending:
        text = pending.pop()
        for name in (name for name in bodies if re.search(rf"\b{name}\s*\(", text)):
            order = [known for known in order if known != name] + [name]
            pending.append(bodies[name] or "")
    return order


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A connection without data that only parses."""
    import duckdb

    return duckdb.connect(":memory:")


def _syntax_tree(sql: str) -> dict[str, Any]:
    row = _parser().cursor().execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    if tree.get("error"):
        raise ModelError(f"not a SELECT: {tree.get('error_message')}", "a model is exactly one SELECT statement")
    return tree


@cache
def _tables_in(sql: str) -> frozenset[str]:
    """Tables of a query. A CTE hides only tables that are named without a schema."""
    tables: set[str] = set()
    ctes: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for child in node:
                visit(child)
        elif isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                schema, table = node.get("schema_name"), node["table_name"]
                tables.add(f"{schema}.{table}" if schema else table)
            for entry in (node.get("cte_map") or {}).get("map", ()):
                ctes.add(entry["key"])
            for child in node.values():
                visit(child)

    visit(_syntax_tree(sql))
    return frozenset(tables - ctes)


def column_types(con: duckdb.DuckDBPyConnection, model: Model) -> list[tuple[str, str]]:
    """(name, DuckDB type) of the model's result, from planning it; no row is read.

    Raises:
        duckdb.Error: A table the model reads does not exist here.
    """
    install_macros(con, model.sql)
    cursor = con.execute(f"DESCRIBE SELECT * FROM (\n{model.sql}\n)", window_parameters(model.sql, EPOCH, EPOCH))
    return [(row[0], row[1]) for row in cursor.fetchall()]


def window_parameters(sql: str, start: datetime, end: datetime) -> dict[str, datetime]:
    """The parameters among ``window_start`` and ``window_end`` that the text uses; DuckDB rejects surplus ones."""
    return {name: value for name, value in (("window_start", start), ("window_end", end)) if f"${name}" in sql}


def ensure_table(con: duckdb.DuckDBPyConnection, model: Model, extra: tuple[tuple[str, str], ...] = ()) -> list[str]:
    """Create the model's table, or add the columns it lacks. Nothing is dropped or retyped.

    A comment on the table keeps the fingerprint of the model, so that an unchanged one costs a single look-up.

    Args:
        con: Read-write connection; all tables the model reads exist.
        model: The model.
        extra: (name, type) of columns the runner fills itself.

    Returns:
        Names of added columns; empty if the table was up to date.

    Raises:
        ModelError: A stored column has another type than the model now yields.
    """
    mark = _table_mark(model, extra)
    row = con.execute(
        "SELECT comment FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = ? AND table_name = ?",
        [model.schema, model.table],
    ).fetchone()
    if row and row[0] == mark:
        return []
    wanted = [*column_types(con, model), *extra]
    body = ", ".join(f'"{name}" {kind}' for name, kind in wanted)
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {model.schema}")
    con.execute(f'CREATE TABLE IF NOT EXISTS {model.schema}."{model.table}" ({body})')
    added = _add_columns(con, model, wanted)
    con.execute(f"COMMENT ON TABLE {model.schema}.\"{model.table}\" IS '{mark}'")
    return added


def stale_models(
    con: duckdb.DuckDBPyConnection, models: Sequence[Model], extra: tuple[tuple[str, str], ...] = ()
) -> list[Model]:
    """The models whose tables are missing or of another version; one look-up for all of them."""
    rows = con.execute(
        "SELECT schema_name || '.' || table_name, comment FROM duckdb_tables() "
        "WHERE database_name = current_database() AND comment IS NOT NULL"
    ).fetchall()
    known = dict(rows)
    return [model for model in models if known.get(model.name) != _table_mark(model, extra)]


def _table_mark(model: Model, extra: tuple[tuple[str, str], ...]) -> str:
    """The comment of a table that has exactly the columns the model yields."""
    return hashlib.sha256(f"{model.fingerprint}{extra}".encode()).hexdigest()[:16]


def _add_columns(con: duckdb.DuckDBPyConnection, model: Model, wanted: list[tuple[str, str]]) -> list[str]:
    stored = dict(
        con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() "
            "AND schema_name = ? AND table_name = ?",
            [model.schema, model.table],
        ).fetchall()
    )
    added = []
    for name, kind in wanted:
        if name not in stored:
            con.execute(f'ALTER TABLE {model.schema}."{model.table}" ADD COLUMN "{name}" {kind}')
            added.append(name)
        elif stored[name] != kind:
            raise ModelError(
                f"{model.name}.{name} is {stored[name]} in the warehouse, {kind} in this program",
                "columns are only ever added; give the new meaning a new name",
            )
    return added


def _front_matter(sql: str, path: Path) -> dict[str, Any]:
    """The YAML in the block comment that opens the file; ``---`` lines around it are optional."""
    import yaml

    text = sql.lstrip()
    end = text.find("*/")
    if not text.startswith("/*") or end < 0:
        raise ModelError(f"{path.name} does not open with a block comment", "add /* with YAML front matter */")
    lines = [line for line in text[2:end].splitlines() if line.strip() not in ("---", "")]
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        meta = yaml.load("\n".join(lines), Loader=loader)  # noqa: S506 - a safe loader, in C where it exists
    except yaml.YAMLError as error:
        raise ModelError(f"{path.name}: front matter is no YAML", str(error)) from error
    if not isinstance(meta, dict):
        raise ModelError(f"{path.name}: front matter is no mapping", "write `description: …` and so on")
    return meta
