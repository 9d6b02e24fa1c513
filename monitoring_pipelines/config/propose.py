"""A live schema → a proposed mapping, with how sure the proposal is and why (``mp init``).

What belongs here: recognising presets, matching columns by name and type, guessing status words.
What does not: the YAML text (``propose_text``) and connecting (``source.engine``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.config import rules
from monitoring_pipelines.config.mapping import Notes, resolve_source
from monitoring_pipelines.config.presets import NAMES
from monitoring_pipelines.config.source_schema import SourceSettings, TableMapping
from monitoring_pipelines.entities import entities

if TYPE_CHECKING:
    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.source.inspect import ColumnType, TableInfo

#: A preset is taken from this share of found columns on.
RECOGNISED = 0.6
MAX_TABLES = 500
_NEWEST_ROWS = 10_000


@dataclass(frozen=True)
class ColumnGuess:
    """One proposed column: the source's name, and 0–1 how sure."""

    name: str
    column: str
    confidence: float
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class TableGuess:
    """One proposed table."""

    entity: str
    table: str
    confidence: float
    row_id: str | None = None
    updated_at: str | None = None
    columns: list[ColumnGuess] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass
class PresetMatch:
    """How well a preset fits: found share of columns, and what must be changed for it to work."""

    name: str
    score: float
    #: "entity" or "entity.table.column" that the schema lacks.
    absent_tables: list[tuple[str, str]] = field(default_factory=list)
    absent_columns: list[tuple[str, str, str, str]] = field(default_factory=list)


@dataclass
class Proposal:
    """What ``init`` writes."""

    dialect: str
    tables_seen: list[str]
    presets: list[PresetMatch]
    chosen: PresetMatch | None
    guesses: list[TableGuess]


def preset_source(name: str) -> SourceSettings:
    """The preset alone, as a source."""
    raw = resolve_source({"id": "x", "preset": name, "read_dsn_env": "X"}, 0, Notes())
    return SourceSettings.model_validate(raw)


def propose(connection: SourceConnection, preset: str | None = None) -> Proposal:
    """Read the schema behind ``connection`` and propose a mapping.

    Args:
        connection: Open source connection.
        preset: Take this preset whatever its score.
    """
    from monitoring_pipelines.source.inspect import inspect_tables

    names = table_names(connection)
    infos = inspect_tables(connection, names[:MAX_TABLES])
    matches = sorted((match_preset(name, infos) for name in NAMES), key=lambda m: -m.score)
    chosen = next((m for m in matches if m.name == preset), None)
    if chosen is None and matches[0].score >= RECOGNISED:
        chosen = matches[0]
    guesses = [] if chosen else guess_tables(infos, connection)
    return Proposal(connection.dialect, names, [m for m in matches if m.score > 0.2], chosen, guesses)


def table_names(connection: SourceConnection) -> list[str]:
    """Tables of the DSN's database."""
    if connection.dialect == "sqlite":
        sql = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name"
    else:
        sql = (
            "select table_name from information_schema.tables where table_schema = database() "
            "and table_type = 'BASE TABLE' order by table_name"
        )
    return [row[0].decode() if isinstance(row[0], bytes) else str(row[0]) for row in connection.query(sql)]


# -- presets ----------------------------------------------------------------------------------------------------------


def match_preset(name: str, infos: dict[str, TableInfo]) -> PresetMatch:
    """Share of the preset's columns that the schema has; missing mandatory tables weigh fully."""
    by_name = {table.lower(): info for table, info in infos.items()}
    result = PresetMatch(name, 0.0)
    shares: list[float] = []
    optional_found = 0
    for entity, tables in preset_source(name).tables.items():
        for mapping in tables:
            if mapping.inline is not None:
                continue
            info = by_name.get(mapping.table.lower())
            if info is None:
                if not mapping.optional:
                    shares.append(0.0)
                    result.absent_tables.append((entity, mapping.table))
                continue
            optional_found += mapping.optional
            shares.append(_column_share(entity, mapping, info, result))
    all_optional = all(table.optional for tables in preset_source(name).tables.values() for table in tables)
    if shares and not (all_optional and not optional_found):
        result.score = sum(shares) / len(shares)
    return result


def _column_share(entity: str, mapping: TableMapping, info: TableInfo, result: PresetMatch) -> float:
    wanted = mapping.source_columns()
    found = {c for c in wanted if c.lower() in info.columns}
    for unified, column in mapping.columns.items():
        for name in sorted(column.source_columns() - found):
            if column.required:
                result.absent_columns.append((entity, mapping.table, unified, name))
    return len(found) / len(wanted) if wanted else 0.0


# -- matching by name and type ----------------------------------------------------------------------------------------

_TABLE_WORDS = {
    "task": r"task|job|request|order|work_?item|text|prompt|generation",
    "task_event": r"(task|job)_?(event|log|histor)|events?$",
    "task_output": r"output|result|artifact|audio|image|file|product",
    "worker": r"worker|node|pod|executor|instance",
    "worker_snapshot": r"snapshot|worker_?(metric|resource|stat)",
    "endpoint": r"endpoint|model|queue|service",
    "job": r"(job|task)_?config|schedule|cron",
    "job_run": r"(job|task)_?(run|execution)|execution",
    "notification": r"notif|alert_?(send|log)",
}
_NEVER_TABLE = r"user|role|permission|migration|session|token|setting|dict|alembic|django|audit"
#: Unified column → pattern of its usual names, best first (``|`` separates steps of confidence with ``~``).
_COLUMN_WORDS: dict[str, str] = {
    "task_key": "task_id~task_uuid|task_no|uuid~job_id|request_id|text_id~id",
    "event_key": "event_id~uuid~id",
    "output_key": "output_id~uuid~id",
    "worker_key": "worker_id~node_id|pod_name|executor_id|hostname~worker|instance_id",
    "snapshot_key": "snapshot_id~id",
    "job_id": "job_id~task_id~id",
    "run_key": "run_id|execution_id~uuid~id",
    "notification_id": "notification_id~id",
    "endpoint": "endpoint~endpoint_id|queue|queue_name|model|model_name~workflow_id|task_type|type|app|service",
    "status": "status~state|task_status~phase",
    "outcome": "outcome|status~result|state",
    "state": "status~state",
    "event_type": "event_type~event|type|action~status",
    "created_at": "created_at~create_time|created_time|gmt_create|created|submitted_at|submit_time~ctime|insert_time",
    "queued_at": "queued_at~enqueued_at|queue_time",
    "started_at": "started_at~start_time|begin_time|started~begin|begin_at",
    "ended_at": "ended_at|completed_at|finished_at~end_time|finish_time|complete_time|completed_time|done_at~ended",
    "updated_at": "updated_at~update_time|updated_time|gmt_modified|modified_at|modified~mtime",
    "deadline_at": "deadline_at|timeout_at~deadline|expire_at",
    "scheduled_at": "scheduled_at~schedule_time|due_at",
    "sent_at": "sent_at~send_time",
    "at": "event_time|snapshot_at|occurred_at~created_at|timestamp|create_time~time|ts|at",
    "ready_at": "ready_at|pod_ready_at~online_at|registered_at",
    "terminated_at": "terminated_at~stopped_at|offline_at|deleted_at",
    "last_heartbeat_at": "last_heartbeat|last_heartbeat_at~heartbeat_at|heartbeat",
    "registered_at": "registered_at~created_at",
    "remote_id": "remote_id|runninghub_task_id~external_id|third_task_id|vendor_task_id",
    "owner_key": "user_id|owner_id~owner|account_id|creator",
    "error_message": "error_message|error_msg~error|fail_reason|err_msg|message",
    "node_key": "node_id~version_num|node",
    "name": "name|filename|file_name~title|task_name|job_name",
    "uri": "file_url|url|uri~oss_object_key|object_key|path|file_path~link",
    "media_type": "media_type|mime_type|file_type~content_type|format",
    "size_bytes": "size_bytes|file_size~size|bytes|length",
    "version": "version~version_num",
    "concurrency": "concurrency~max_concurrency|slots",
    "current_jobs": "current_jobs~running_jobs",
    "cold_start_ms": "cold_start_ms|cold_start_duration_ms",
    "replicas": "replicas",
    "gpu_count": "gpu_count~gpus",
    "max_pending_tasks": "max_pending_tasks",
    "task_timeout_s": "task_timeout_s|task_timeout~timeout",
    "is_idle": "is_idle~idle",
    "current_task_key": "current_task_id",
    "gpu_utilization": "gpu_utilization~gpu_util|gpu_usage",
    "gpu_memory_used_mb": "gpu_memory_used_mb",
    "gpu_memory_total_mb": "gpu_memory_total_mb",
    "cpu_utilization": "cpu_utilization~cpu_usage|cpu_percent",
    "memory_used_mb": "memory_used_mb",
    "memory_total_mb": "memory_total_mb",
    "duration_ms": "duration_ms~elapsed_ms",
    "attempt": "attempt~retry_no",
    "attempts": "attempts",
    "channel": "channel|notify_channel",
    "schedule": "schedule|cron|cron_expr",
    "enabled": "enabled|is_enabled",
    "owner": "owner",
    "category": "category",
}
#: Keys for which a row number is as good as any.
_SURROGATES = {"event_key", "output_key", "snapshot_key", "run_key", "notification_id"}
_STEPS = (0.95, 0.75, 0.5, 0.3)
_TEMPORAL = {"datetime", "timestamp", "date"}
_NUMBER = {"tinyint", "smallint", "mediumint", "int", "integer", "bigint", "decimal", "numeric", "float", "double",
           "real"}  # fmt: skip
_BOOLEAN = {"tinyint", "bit", "bool", "boolean", "smallint", "int", "integer"}
_PAYLOAD = {"json", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob"}

#: Unified status → words that mean it (compared in lower case, without separators).
_STATUS_WORDS = {
    "succeeded": "success succeeded succeed completed complete done finished finish ok",
    "failed": "failed fail failure error errored exception",
    "timed_out": "timeout timedout expired",
    "cancelled": "cancelled canceled stopped aborted killed revoked",
    "running": "running processing inprogress started executing working active",
    "queued": "queued pending waiting inqueue enqueued scheduled retry retrying",
    "created": "created ready new init initial draft submitted",
}


def guess_tables(infos: dict[str, TableInfo], connection: SourceConnection) -> list[TableGuess]:
    """The best table for each entity that the schema seems to hold; the task table decides the rest."""
    result: list[TableGuess] = []
    used: set[str] = set()
    for entity in ("task", "task_event", "task_output", "worker", "worker_snapshot", "endpoint", "job_run"):
        candidates = [
            guess
            for table, info in infos.items()
            if table not in used and (guess := _guess_table(entity, table, info)) is not None
        ]
        best = max(candidates, key=lambda g: g.confidence, default=None)
        if best is not None and best.confidence >= (0.35 if entity == "task" else 0.55):
            _status_words(best, connection)
            result.append(best)
            used.add(best.table)
    return result


def _guess_table(entity: str, table: str, info: TableInfo) -> TableGuess | None:
    lower = table.lower()
    if re.search(_NEVER_TABLE, lower) or not re.search(_TABLE_WORDS[entity], lower):
        return None
    guess = TableGuess(entity, table, 0.0)
    guess.row_id = next((c.name for c in info.columns.values() if c.auto_increment), None)
    taken: set[str] = set()
    for column in entities()[entity].mappable:
        found = _guess_column(column.name, column.kind, info, taken)
        if found is not None:
            guess.columns.append(found)
            if found.name not in (*entities()[entity].key, "version", "node_key"):
                taken.add(found.column)
    names = {c.name: c.confidence for c in guess.columns}
    guess.missing = [n for n in rules.REQUIRED[entity] if n not in names]
    updated = next((c.column for c in guess.columns if c.name == "updated_at"), None)
    guess.updated_at = updated if info.indexed(updated) else None
    needed = rules.REQUIRED[entity]
    certain = sum(names.get(n, 0.0) for n in needed) / len(needed)
    whole = bool(re.fullmatch(rf"({_TABLE_WORDS[entity]})s?", lower))
    guess.confidence = round(certain * (1.0 if whole else 0.85), 2) if len(guess.missing) <= len(needed) // 2 else 0.0
    return guess


def _guess_column(name: str, kind: str, info: TableInfo, taken: set[str]) -> ColumnGuess | None:
    words = _COLUMN_WORDS.get(name)
    if words is None:
        return None
    for step, alternatives in zip(_STEPS, words.split("~"), strict=False):
        for alternative in alternatives.split("|"):
            found = info.columns.get(alternative)
            if found is not None and found.name not in taken and (fit := _type_fit(kind, found)) > 0:
                sure = 0.7 if found.auto_increment and name in _SURROGATES else step
                return ColumnGuess(name, found.name, round(sure * fit, 2), _options(name, kind, found))
    return None


def _type_fit(kind: str, column: ColumnType) -> float:
    base = column.data_type
    if kind == "time":
        return 1.0 if base in _TEMPORAL else 0.8 if base in ("bigint", "double", "decimal") else 0.3
    if kind in ("int", "ms", "float", "decimal"):
        return 1.0 if base in _NUMBER else 0.0
    if kind == "bool":
        return 1.0 if base in _BOOLEAN else 0.0
    return 0.7 if base in _TEMPORAL else 1.0


def _options(name: str, kind: str, column: ColumnType) -> dict[str, Any]:
    """What the long form needs because of the column's type."""
    if kind == "time":
        if column.data_type == "timestamp":
            return {"time": "timestamp"}
        if column.data_type in ("bigint", "decimal", "double", "int"):
            return {"time": "epoch_ms" if column.data_type == "bigint" else "epoch_s"}
        if column.data_type not in _TEMPORAL:
            return {"time": "iso8601"}
    if kind == "text" and (column.data_type in _PAYLOAD or name == "error_message"):
        return {"left": 1000 if name == "uri" else 500}
    if name == "worker_key":
        return {"null_if": [""]}
    return {}


def _status_words(guess: TableGuess, connection: SourceConnection) -> None:
    """Propose a map for the status column from the words in the newest rows (E-202: never more than a proposal)."""
    from monitoring_pipelines.config.expr_sql import quote_name
    from monitoring_pipelines.source.inspect import quote_table

    for at, column in enumerate(guess.columns):
        if (guess.entity, column.name) != ("task", "status"):
            continue
        quoted = quote_name(column.column, connection.dialect)
        order = f" order by {quote_name(guess.row_id, connection.dialect)} desc" if guess.row_id else ""
        inner = (
            f"select {quoted} as word from {quote_table(guess.table, connection.dialect)}{order} limit {_NEWEST_ROWS}"
        )
        rows = connection.query(f"select word, count(*) from ({inner}) as newest group by word order by 2 desc")
        words = {str(word): unified_word(str(word)) for word, _ in rows[:40] if word is not None}
        guess.columns[at] = ColumnGuess(column.name, column.column, column.confidence, {"map": words})


def unified_word(word: str) -> str | None:
    """The unified status a source's word most likely means, None if it is not a usual word."""
    plain = re.sub(r"[^a-z]", "", word.lower().removeprefix("task_"))
    return next((status for status, words in _STATUS_WORDS.items() if plain in words.split()), None)
