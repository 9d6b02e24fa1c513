"""Tables of the warehouse that are not statistics: raw rows, marks, dirty keys and bookkeeping.

What belongs here: their DDL, its version, and bringing an older file up to date by adding tables and columns.
What does not: statistics tables (created from their SQL models) and core tables (created by their refresher).

Additions need no version number: whatever a file lacks is added. ``SCHEMA_VERSION`` grows only when the meaning of a
stored value changes, which an older program would misread; it then refuses the file.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from monitoring_pipelines.entities import entities, raw_columns
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.warehouse import counters

if TYPE_CHECKING:
    import duckdb

SCHEMA_VERSION = 1
SCHEMAS = ("raw", "core", "mart", "meta")

# name -> (columns "name TYPE, ...", primary key columns or "")
_TABLES: dict[str, tuple[str, str]] = {
    "meta.extract_mark": (
        (
            "source_id VARCHAR, src_table VARCHAR, entity VARCHAR, strategy VARCHAR, safe_id BIGINT, max_id BIGINT, "
            "holes JSON, time_marks JSON, last_started_at TIMESTAMP, last_success_at TIMESTAMP, last_error VARCHAR, "
            "schema_fingerprint VARCHAR, rows_total BIGINT"
        ),
        "source_id, src_table, entity",
    ),
    # as_of: when the newest fully successful cycle began. raw_from: raw rows are complete from here on (E-901).
    # clock_offset_s: the source's clock minus the product's, measured at clock_at (C-512).
    "meta.source_state": (
        (
            "source_id VARCHAR, as_of TIMESTAMP, closed_through TIMESTAMP, origin TIMESTAMP, last_error VARCHAR, "
            "last_error_at TIMESTAMP, updated_at TIMESTAMP, raw_from TIMESTAMP, last_error_code VARCHAR, "
            "clock_offset_s DOUBLE, clock_at TIMESTAMP, output_closed_through TIMESTAMP"
        ),
        "source_id",
    ),
    "meta.source_setting": (
        (
            "source_id VARCHAR, settle_s DOUBLE, snapshot_interval_s DOUBLE, snapshot_tolerance_s DOUBLE, "
            "clock_skew_max_s DOUBLE, max_duration_h DOUBLE, timeout_mode VARCHAR, timeout_limit_s DOUBLE, "
            "future_tolerance_s DOUBLE, has_task BOOLEAN, has_task_times BOOLEAN, has_task_event BOOLEAN, "
            "has_worker BOOLEAN, has_worker_snapshot BOOLEAN, has_worker_event BOOLEAN, has_cold_start BOOLEAN, "
            "has_endpoint BOOLEAN, has_output BOOLEAN, output_settle_s DOUBLE, has_output_created BOOLEAN, "
            "output_delay_s DOUBLE, is_own BOOLEAN, min_output_bytes BIGINT, status_derived BOOLEAN, "
            "has_output_time BOOLEAN"
        ),
        "source_id",
    ),
    "meta.dirty_task": ("source_id VARCHAR, task_key VARCHAR, marked_at TIMESTAMP", ""),
    "meta.dirty_worker": ("source_id VARCHAR, worker_key VARCHAR, since TIMESTAMP, marked_at TIMESTAMP", ""),
    # from_at and to_at: only the minutes between them changed; NULL: the whole hour.
    "meta.dirty_hour": (
        (
            "source_id VARCHAR, family VARCHAR, hour TIMESTAMP, marked_at TIMESTAMP, reason VARCHAR, "
            "from_at TIMESTAMP, to_at TIMESTAMP"
        ),
        "",
    ),
    # No span of core.<table> that is still open began before this (see open_spans).
    "meta.open_span": ('table_name VARCHAR, "since" TIMESTAMP', ""),
    # Minutes computed without a gap since the origin, and days whose hours changed since they were computed.
    "meta.window_progress": ("source_id VARCHAR, family VARCHAR, computed_through TIMESTAMP", ""),
    "meta.dirty_day": ('source_id VARCHAR, family VARCHAR, "day" TIMESTAMP, marked_at TIMESTAMP', ""),
    # Which families of statistics a source has inputs for (E-510).
    "meta.family_source": ("source_id VARCHAR, family VARCHAR", ""),
    # How often built-in collectors take samples of a process, where that is configured (E-124).
    "meta.sample_interval": ("source_id VARCHAR, name VARCHAR, interval_s DOUBLE", ""),
    # Up to where rows of the state store were moved (E-602).
    "meta.own_mark": ("name VARCHAR, reached_at TIMESTAMP", ""),
    # Attempts to deliver the product's own messages (M-702).
    "raw.notification_attempt": (
        (
            'source_id VARCHAR, notification_id VARCHAR, attempt_no BIGINT, channel VARCHAR, "at" TIMESTAMP, ok BOOLEAN, '
            "latency_ms DECIMAL(20,3), http_status BIGINT, provider_code VARCHAR, error VARCHAR"
        ),
        "",
    ),
    # The limit of a job's runs over time: the first known one holds from the beginning (as E-112).
    "raw.job_sla": ("source_id VARCHAR, job_id VARCHAR, valid_from TIMESTAMP, sla_seconds DOUBLE", ""),
    # Outputs that a repair inserted, known before they are read.
    "meta.repaired_output": ("source_id VARCHAR, output_key VARCHAR, origin VARCHAR, recorded_at TIMESTAMP", ""),
    "meta.pending_instant": ('source_id VARCHAR, entity VARCHAR, "key" VARCHAR, due_at TIMESTAMP', ""),
    # Endpoint names seen, so that a new one is compared with all of them (E-402).
    "meta.known_endpoint": ("source_id VARCHAR, endpoint VARCHAR, first_seen_at TIMESTAMP", ""),
    "meta.reconciliation": (
        (
            'source_id VARCHAR, src_table VARCHAR, entity VARCHAR, "day" DATE, verified_at TIMESTAMP, equal BOOLEAN, '
            "source_rows BIGINT, store_rows BIGINT, ranges BIGINT, ranges_reread BIGINT, rows_reread BIGINT, "
            "rows_deleted BIGINT, detail VARCHAR"
        ),
        "",
    ),
    "meta.window_run": (
        (
            "table_name VARCHAR, window_start TIMESTAMP, window_end TIMESTAMP, computed_at TIMESTAMP, rows BIGINT, "
            "inserted BIGINT, updated BIGINT, unchanged BIGINT, restated BIGINT, seconds DOUBLE"
        ),
        "",
    ),
    # What retention removed, and up to where (E-901, E-902).
    "meta.retention_run": (
        "table_name VARCHAR, source_id VARCHAR, pruned_before TIMESTAMP, rows_removed BIGINT, ran_at TIMESTAMP",
        "",
    ),
    # Changed buckets whose published files do not show it yet (see publish): a row per change, until acknowledged.
    "meta.publish_pending": (
        "change_id VARCHAR, table_name VARCHAR, bucket_from TIMESTAMP, marked_at TIMESTAMP",
        "",
    ),
    # Keys whose published rows must be written again, until ``serving.resolve`` has found their files.
    "meta.publish_task": ("task_hash UBIGINT", ""),
    "meta.publish_job": ("source_id VARCHAR, job_id VARCHAR", ""),
    # Current figures per job (M-502); computed again for jobs with new runs.
    "core.job_figure": (
        (
            "source_id VARCHAR, job_id VARCHAR, success_count BIGINT, failure_count BIGINT, timeout_count BIGINT, "
            "missed_count BIGINT, skipped_count BIGINT, running_count BIGINT, duration_n BIGINT, "
            "total_duration_ms DOUBLE, last_duration_ms DOUBLE, last_status VARCHAR, last_timestamp TIMESTAMP, "
            "last_error VARCHAR, sample_count BIGINT, avg_duration_ms DOUBLE, p50_duration_ms DOUBLE, "
            "p95_duration_ms DOUBLE, p99_duration_ms DOUBLE, min_duration_ms DOUBLE, max_duration_ms DOUBLE, "
            "missed_since_last BIGINT"
        ),
        "",
    ),
    # What runs that retention removed had added to these counters: they never go back (M-502).
    "core.job_past": (
        (
            "source_id VARCHAR, job_id VARCHAR, success_count BIGINT, failure_count BIGINT, timeout_count BIGINT, "
            "missed_count BIGINT, skipped_count BIGINT, duration_n BIGINT, total_duration_ms DOUBLE"
        ),
        "",
    ),
    # What counters count that no stored row tells, or no longer (see counters); rows before until are all in it.
    "meta.counter_past": (
        "counter VARCHAR, source_id VARCHAR, labels VARCHAR[], amount DECIMAL(38,6), until TIMESTAMP",
        "",
    ),
    # One row: which warehouse this is, so that published files of another one are not taken for this one's.
    "meta.identity": ("warehouse_id VARCHAR, created_at TIMESTAMP", ""),
    "raw.anomaly": (
        (
            'source_id VARCHAR, kind VARCHAR, entity VARCHAR, "key" VARCHAR, "at" TIMESTAMP, detail VARCHAR, '
            "first_seen_at TIMESTAMP, count BIGINT"
        ),
        "",
    ),
    "raw.worker_concurrency": (
        "source_id VARCHAR, worker_key VARCHAR, valid_from TIMESTAMP, concurrency BIGINT",
        "",
    ),
    "raw.endpoint_registration": (
        "source_id VARCHAR, endpoint VARCHAR, registered_at TIMESTAMP, unregistered_at TIMESTAMP",
        "",
    ),
}


class WarehouseTooNew(ProductError):
    """The file was written by a newer version of the product."""

    code = "warehouse_too_new"


@cache
def tables() -> dict[str, tuple[tuple[tuple[str, str], ...], str]]:
    """Every fixed table: qualified name -> ((column, DuckDB type), ...), primary key columns or ''."""
    result = {name: (_split(columns), key) for name, (columns, key) in _TABLES.items()}
    for entity in entities().values():
        result[f"raw.{entity.name}"] = (tuple(raw_columns(entity)), "")
    return result


def ensure_schema(con: duckdb.DuckDBPyConnection, now: datetime, program: str = "") -> bool:
    """Create what the file lacks: schemas, tables, columns. Nothing is ever dropped or retyped.

    Args:
        con: An open read-write connection.
        now: Naive UTC instant, stored as the time of the change.
        program: Version of the product, stored for the error a later, older program shows.

    Returns:
        True if something was added.

    Raises:
        WarehouseTooNew: The file's schema version is higher than ``SCHEMA_VERSION``.
        ProductError: A stored column has another type than this version expects.
    """
    if is_current(con):
        return False
    with transaction(con):
        for schema in SCHEMAS:
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        is_counted = _has_table(con, counters.TABLE)
        for name, (columns, key) in tables().items():
            _ensure_table(con, name, columns, key)
        if not is_counted:
            counters.begin(con)
        con.execute(
            "CREATE TABLE IF NOT EXISTS meta.schema_version"
            "(version INTEGER, fingerprint VARCHAR, applied_at TIMESTAMP, program VARCHAR)"
        )
        if not con.execute("SELECT 1 FROM meta.identity").fetchall():
            con.execute("INSERT INTO meta.identity VALUES (?, ?)", [uuid.uuid4().hex, now])
        con.execute(
            "INSERT INTO meta.schema_version VALUES (?, ?, ?, ?)", [SCHEMA_VERSION, fingerprint(), now, program]
        )
    return True


def is_current(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file has exactly the tables and columns of this program.

    Raises:
        WarehouseTooNew: The file's schema version is higher than ``SCHEMA_VERSION``.
    """
    if not _has_table(con, "meta.schema_version"):
        return False
    rows = con.execute("SELECT version, fingerprint, program FROM meta.schema_version ORDER BY rowid").fetchall()
    newest = max((row for row in rows), key=lambda row: row[0], default=None)
    if newest is not None and newest[0] > SCHEMA_VERSION:
        raise WarehouseTooNew(
            f"the warehouse has schema {newest[0]}; this program knows up to {SCHEMA_VERSION}",
            f"use version {newest[2] or 'that wrote it'} of the product or a newer one",
        )
    return bool(rows) and rows[-1][1] == fingerprint()


@cache
def fingerprint() -> str:
    """A digest of version, tables, columns and types."""
    return hashlib.sha256(repr((SCHEMA_VERSION, sorted(tables().items()))).encode()).hexdigest()[:16]


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """All or nothing: commit at the end of the block, roll back on any exception, ``KeyboardInterrupt`` included."""
    con.execute("BEGIN TRANSACTION")
    try:
        yield con
    except BaseException as error:
        _roll_back(con, error)
        raise
    con.execute("COMMIT")


def _roll_back(con: duckdb.DuckDBPyConnection, error: BaseException) -> None:
    """Roll back; when that fails too, the connection is unusable and closing it undoes the work as well."""
    import duckdb

    try:
        con.execute("ROLLBACK")
    except duckdb.Error as second:
        error.add_note(f"roll back failed as well: {second}")


def _has_table(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = con.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", name.split(".")
    ).fetchone()
    return bool(found and found[0])


def _ensure_table(con: duckdb.DuckDBPyConnection, name: str, columns: tuple[tuple[str, str], ...], key: str) -> None:
    body = ", ".join(f'"{column}" {kind}' for column, kind in columns)
    primary = f", PRIMARY KEY ({key})" if key else ""
    con.execute(f"CREATE TABLE IF NOT EXISTS {name} ({body}{primary})")
    schema, table = name.split(".")
    stored = dict(
        con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?",
            [schema, table],
        ).fetchall()
    )
    for column, kind in columns:
        if column not in stored:
            con.execute(f'ALTER TABLE {name} ADD COLUMN "{column}" {kind}')
        elif stored[column] != kind:
            raise ProductError(
                f"{name}.{column} is {stored[column]} in the warehouse, {kind} in this program",
                "the file was changed by hand or by another program; move it away and load it again",
            )


def _split(text: str) -> tuple[tuple[str, str], ...]:
    """``'a INT, "b" TEXT'`` as pairs of name and type."""
    pairs = (word.strip().split(" ", 1) for word in text.split(", "))
    return tuple((name.strip('"'), kind) for name, kind in pairs)
