"""What the product knows of itself, read from its state store like a source: runs of its own jobs, messages, samples,
and which outputs repair wrote.

What belongs here: which rows are moved, and moving them and the marks in one transaction (E-602, E-124). What does not:
writing those rows (``state``, ``collect``, ``alerts``), and statistics, which see them like mapped rows.

Runs and messages belong to the source ``_self`` (E-001), samples of collectors to the source they were collected for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.entities import Entity, entities, raw_columns
from monitoring_pipelines.source.convert import Staged
from monitoring_pipelines.warehouse.families import SELF, activate
from monitoring_pipelines.warehouse.family_marks import mark_minutes
from monitoring_pipelines.warehouse.ingest import apply_batch, hash_sql, key_hash_sql, key_text_sql, row_hash_sql
from monitoring_pipelines.warehouse.schema import transaction

if TYPE_CHECKING:
    import duckdb
    from sqlalchemy import Connection

    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.state.store import StateStore
    from monitoring_pipelines.warehouse.connect import Warehouse

log = logging.getLogger(__name__)

#: Rows of the state store become visible out of order while transactions of several processes commit.
OVERLAP = timedelta(minutes=10)
#: Collected rows moved in one transaction, and how many such rounds a cycle makes.
BATCH, ROUNDS = 20_000, 20
#: Where the rows came from, as ``src_table``.
STATE = "state"
_OPEN = "('pending', 'failed')"


@dataclass
class Moved:
    """Rows moved in one cycle, by entity: new and changed ones."""

    rows: dict[str, int] = field(default_factory=dict)

    def add(self, entity: str, count: int) -> None:
        """Count rows."""
        self.rows[entity] = self.rows.get(entity, 0) + count


def move_own_rows(settings: Settings, warehouse: Warehouse, clock: Clock, store: StateStore | None = None) -> Moved:
    """Move what the state store has gained since the last cycle into the raw tables.

    Safe to repeat and to kill: rows are upserted by key, and a crash before the state store knows that collected rows
    were moved moves them again.

    Args:
        settings: Where the state store is, and which sources are read from elsewhere.
        warehouse: The store of raw rows.
        clock: Instant of the cycle.
        store: Another state store than the configured one, for tests.

    Raises:
        StateUnavailable: It cannot be opened; nothing was changed.
    """
    from monitoring_pipelines.source.own_repairs import tell_repairs
    from monitoring_pipelines.state.store import StateStore

    moved = Moved()
    state = store or StateStore.of(settings)
    if _is_missing(state):
        return moved
    read_elsewhere = {source.id for source in settings.sources if source.enabled}
    for number in range(ROUNDS):
        now = clock.now()
        with state.read() as con:
            collected = _collected(con)
            with warehouse.writer("own rows", small=True) as own:
                with transaction(own):
                    if number == 0:
                        _move_runs(own, con, now, moved)
                        _move_notifications(own, con, now, moved)
                        _store_intervals(own, settings)
                    _move_collected(own, collected, now, moved)
                    known = {SELF, *(row[1] for row in collected)} - read_elsewhere
                    _advance(own, settings, known | _known(own) - read_elsewhere, now)
                if number == 0:
                    _set_mark(own, "repair_run", tell_repairs(own, con, settings, _since(own, "repair_run"), now), now)
        _mark_moved(state, [row[0] for row in collected], now)
        if len(collected) < BATCH:
            break
    return moved


def _is_missing(state: StateStore) -> bool:
    """An SQLite file that nobody has written yet holds nothing to move."""
    name = state.url.database
    return state.dialect == "sqlite" and bool(name) and name != ":memory:" and not Path(str(name)).exists()


# -- runs and messages -------------------------------------------------------------------------------------------------


def _move_runs(own: duckdb.DuckDBPyConnection, con: Connection, now: datetime, moved: Moved) -> None:
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import self_job_run as t

    rows = [dict(row._mapping) for row in con.execute(select(t).where(t.c.changed_at >= _since(own, "job_run")))]
    moved.add("job_run", store_rows(own, "job_run", SELF, rows, now))
    _set_mark(own, "job_run", [row["changed_at"] for row in rows], now)


def _move_notifications(own: duckdb.DuckDBPyConnection, con: Connection, now: datetime, moved: Moved) -> None:
    """New messages, and those that were not final; attempts are found through their message.

    They are the product's own rows whatever source their alert is about (E-001).
    """
    from sqlalchemy import or_, select

    from monitoring_pipelines.state.tables import notification as t
    from monitoring_pipelines.state.tables import notification_attempt as attempt

    open_ids = [
        row[0]
        for row in own.execute(
            f"SELECT notification_id FROM raw.notification WHERE src_table = '{STATE}' AND state IN {_OPEN}"
        ).fetchall()
    ]
    wanted = or_(t.c.created_at >= _since(own, "notification"), t.c.notification_id.in_(open_ids))
    rows = [dict(row._mapping) for row in con.execute(select(t).where(wanted))]
    moved.add("notification", store_rows(own, "notification", SELF, rows, now))
    attempts = []
    for part in _parts([row["notification_id"] for row in rows], 500):
        found = con.execute(select(attempt).where(attempt.c.notification_id.in_(part)))
        attempts += [dict(row._mapping) | {"source_id": SELF} for row in found]
    _store_attempts(own, attempts, now)
    _set_mark(own, "notification", [row["created_at"] for row in rows], now)


def _store_attempts(own: duckdb.DuckDBPyConnection, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Attempts never change once they are made: what is stored stays."""
    if not rows:
        return
    columns = {
        "source_id": "VARCHAR", "notification_id": "VARCHAR", "attempt_no": "BIGINT", "channel": "VARCHAR",
        "at": "TIMESTAMP", "ok": "BOOLEAN", "latency_ms": "DECIMAL(20,3)", "http_status": "BIGINT",
        "provider_code": "VARCHAR", "error": "VARCHAR",
    }  # fmt: skip
    _load(own, "own_attempt", columns, rows)
    own.execute(
        "DELETE FROM own_attempt USING raw.notification_attempt AS a WHERE a.source_id = own_attempt.source_id "
        "AND a.notification_id = own_attempt.notification_id AND a.attempt_no = own_attempt.attempt_no"
    )
    for (source_id,) in own.execute("SELECT DISTINCT source_id FROM own_attempt").fetchall():
        spans = f'SELECT "at" AS from_at, "at" AS to_at FROM own_attempt WHERE source_id = \'{source_id}\''
        mark_minutes(own, source_id, "notification", spans, now, "attempt")
    own.execute("INSERT INTO raw.notification_attempt BY NAME SELECT * FROM own_attempt")


# -- samples -----------------------------------------------------------------------------------------------------------


def _collected(con: Connection) -> list[tuple[int, str, str, dict[str, Any]]]:
    """(seq, source_id, entity, values) of rows that were not moved, oldest first."""
    from sqlalchemy import select

    from monitoring_pipelines.state.tables import collected as t

    query = select(t.c.seq, t.c.source_id, t.c.entity, t.c.row).where(t.c.moved_at.is_(None)).order_by(t.c.seq)
    return [(row[0], row[1], row[2], row[3]) for row in con.execute(query.limit(BATCH))]


def _move_collected(
    own: duckdb.DuckDBPyConnection, rows: Sequence[tuple[int, str, str, dict[str, Any]]], now: datetime, moved: Moved
) -> None:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _, source_id, entity, values in rows:
        groups.setdefault((entity, source_id), []).append(values)
    for (entity, source_id), found in sorted(groups.items()):
        moved.add(entity, store_rows(own, entity, source_id, found, now))


def _mark_moved(state: StateStore, numbers: Sequence[int], now: datetime) -> None:
    from sqlalchemy import update

    from monitoring_pipelines.state.tables import collected as t

    if not numbers:
        return
    with state.begin() as con:
        for part in _parts(numbers, 500):
            con.execute(update(t).where(t.c.seq.in_(part)).values(moved_at=now))


# -- storing -----------------------------------------------------------------------------------------------------------


def store_rows(
    con: duckdb.DuckDBPyConnection, entity: str, source_id: str, rows: Sequence[Mapping[str, Any]], now: datetime
) -> int:
    """Upsert rows of one entity by its key, as extraction does with rows of a source (E-602, E-603).

    Args:
        con: Writer connection inside a transaction.
        entity: Unified name.
        source_id: The source they belong to.
        rows: Values by unified column; other names are ignored, missing ones are NULL.
        now: Instant of the cycle.

    Returns:
        Rows inserted or changed.
    """
    if not rows:
        return 0
    known = entities()[entity]
    rows = [{"scope": "process", **row} for row in rows] if entity == "process_sample" else rows
    own = {column.name: column.type for column in known.columns if column.name != "source_id"}
    _load(con, "own_typed", own, rows)
    con.execute(f"CREATE OR REPLACE TEMP TABLE own_row AS {_staging(known)}", {"source": source_id})
    activate(con, source_id, [entity])
    result = apply_batch(con, Staged(entity, source_id, STATE, "own_row", rows=len(rows), read_at=now), now)
    return result.inserted + result.updated


def _staging(entity: Entity) -> str:
    """``own_typed`` with the bookkeeping and helper columns that ``apply_batch`` expects."""
    made = {
        "row_id": "NULL::BIGINT", "src_table": f"'{STATE}'", "first_seen_at": "NULL::TIMESTAMP",
        "changed_at": "NULL::TIMESTAMP", "deleted_at": "NULL::TIMESTAMP", "deleted_reason": "NULL::VARCHAR",
        "anomalies": "[]::VARCHAR[]", "src_digest": "NULL::BIGINT", "row_hash": row_hash_sql(entity),
        "key_hash": key_hash_sql(entity), "task_hash": hash_sql(["source_id", "task_key"]),
    }  # fmt: skip
    helpers = (
        f'{key_text_sql(entity)} AS "__key", false AS "__deleted", true AS "__inside", false AS "__inline", '
        '[]::TIMESTAMP[] AS "__due", []::STRUCT(kind VARCHAR, detail VARCHAR)[] AS "__details", '
        'NULL::TIMESTAMP AS "__mark"'
    )
    columns = ", ".join(f'{made[name]} AS "{name}"' for name, _ in raw_columns(entity) if name in made)
    return f"SELECT *, {columns}, {helpers} FROM (SELECT $source AS source_id, * FROM own_typed)"


def _load(
    con: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Create the temp table ``name`` with typed columns from Python values, through JSON text."""
    text = json.dumps([{column: _plain(row.get(column)) for column in columns} for row in rows])
    shape = json.dumps([{column: "JSON" if kind == "JSON" else "VARCHAR" for column, kind in columns.items()}])
    casts = ", ".join(f'CAST(r."{column}" AS {kind}) AS "{column}"' for column, kind in columns.items())
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {casts} FROM (SELECT unnest(from_json($rows::JSON, $shape)) AS r)",
        {"rows": text, "shape": shape},
    )


def _plain(value: Any) -> Any:
    """A value as JSON; numbers as text, so that none passes through a float (E-122)."""
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, str | bool | dict | list):
        return value
    return str(value)


# -- marks and the state of own sources --------------------------------------------------------------------------------


def _since(own: duckdb.DuckDBPyConnection, name: str) -> datetime:
    row = own.execute("SELECT max(reached_at) FROM meta.own_mark WHERE name = ?", [name]).fetchone()
    return row[0] - OVERLAP if row and row[0] is not None else datetime(1970, 1, 1)


def _set_mark(own: duckdb.DuckDBPyConnection, name: str, instants: Sequence[datetime], now: datetime) -> None:
    """The greatest instant seen that is not in the future (as E-605)."""
    reached = max((instant for instant in instants if instant <= now), default=None)
    if reached is None:
        return
    own.execute("DELETE FROM meta.own_mark WHERE name = ? AND reached_at <= ?", [name, reached])
    own.execute("INSERT INTO meta.own_mark VALUES (?, ?)", [name, reached])


def _known(own: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in own.execute("SELECT source_id FROM meta.source_setting WHERE is_own").fetchall()}


def _advance(own: duckdb.DuckDBPyConnection, settings: Settings, sources: set[str], now: datetime) -> None:
    """Sources that nothing else reads are as new as this cycle: their minutes close with it (M-801)."""
    for source_id in sorted(sources):
        own.execute("INSERT OR IGNORE INTO meta.source_state (source_id) VALUES (?)", [source_id])
        own.execute(
            "UPDATE meta.source_state SET as_of = greatest(coalesce(as_of, $at::TIMESTAMP), $at::TIMESTAMP), "
            "last_error = NULL, last_error_at = NULL, updated_at = $at::TIMESTAMP WHERE source_id = $source",
            {"at": now, "source": source_id},
        )
        own.execute("DELETE FROM meta.source_setting WHERE source_id = ?", [source_id])
        own.execute(
            "INSERT INTO meta.source_setting (source_id, is_own, settle_s, max_duration_h, output_settle_s) "
            "VALUES (?, true, ?, ?, ?)",
            [source_id, settings.stats.settle_s, settings.stats.max_duration_h, settings.checks.settle_s],
        )


def _store_intervals(own: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """How often scraped processes are sampled; other samples come once a minute."""
    wanted = sorted((s.source, s.process_id or s.target, float(s.interval_s)) for s in settings.scrapes)
    if own.execute("SELECT source_id, name, interval_s FROM meta.sample_interval ORDER BY ALL").fetchall() != wanted:
        own.execute("DELETE FROM meta.sample_interval")
        for row in wanted:
            own.execute("INSERT INTO meta.sample_interval VALUES (?, ?, ?)", row)


def _parts(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
