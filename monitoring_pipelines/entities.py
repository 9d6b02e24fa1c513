"""The unified entities: the one list of names, types and keys that mapping, extraction, storage and DDL share.

What belongs here: facts about entities (E-002, E-004, sections 2.1 to 2.3 of the data dictionary).
What does not: how a source is read (``source``), how rows are stored (``warehouse``), what is computed from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

#: Values of ``task.status`` (E-201).
TASK_STATUSES = ("created", "queued", "running", "succeeded", "failed", "timed_out", "cancelled", "unknown")
FINAL_TASK_STATUSES = ("succeeded", "failed", "timed_out", "cancelled")
#: Values of ``task_event.event_type`` (E-101).
EVENT_TYPES = (
    "created", "queued", "assigned", "started", "completed", "failed", "timeout",
    "cancelled", "orphaned", "requeued", "info",
)  # fmt: skip
FINAL_EVENT_TYPES = ("completed", "failed", "timeout", "cancelled")
RELEASING_EVENT_TYPES = ("orphaned", "requeued")
WORKER_STATUSES = ("starting", "online", "busy", "draining", "offline", "unknown")
WORKER_EVENT_TYPES = (
    "started", "registered", "task_pulled", "task_completed", "offline", "status_change", "failure", "recovery",
)  # fmt: skip
JOB_RUN_OUTCOMES = ("success", "failure", "timeout", "missed", "skipped", "running")
#: Words of an entity's ``open_column`` whose rows may still change (E-606).
OPEN_WORDS: dict[str, tuple[str, ...]] = {
    "task": tuple(word for word in TASK_STATUSES if word not in FINAL_TASK_STATUSES),
    "job_run": ("running",),
    "notification": ("pending", "failed"),
    "worker": tuple(word for word in WORKER_STATUSES if word != "offline"),
}
#: Kinds of ``raw.anomaly`` (E-007).
ANOMALY_KINDS = (
    "late_terminal_event", "duplicate_event", "negative_duration", "absurd_duration", "future_time", "zero_date",
    "time_out_of_range", "ambiguous_time", "unmapped_status", "worker_mismatch", "terminal_without_attempt",
    "event_without_task", "evidence_after_end", "attempt_outside_life", "snapshot_contradiction",
    "duplicate_snapshot", "gpu_not_collected", "queue_wait_mismatch", "case_variant_endpoint",
    "late_beyond_retention", "bad_value",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column of an entity. ``type`` is the DuckDB type; ``kind`` selects how a source value is converted."""

    name: str
    type: str
    kind: str
    nullable: bool
    #: Filled by the product, never mapped from a source column.
    derived: bool = False


@dataclass(frozen=True)
class Entity:
    """One unified entity. ``key`` excludes ``source_id``, which leads every key (E-001)."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    #: Rows of the source may change after they were first seen (decides the extraction strategy).
    mutable: bool
    #: Column that places a row in time: the range column of reconciliation and retention.
    time_column: str | None
    #: Columns whose value says the row may still change (E-606): re-read while not final.
    open_column: str | None = None

    def column(self, name: str) -> Column:
        """Return the column called ``name``; KeyError names entity and column."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name}.{name}")

    @property
    def mappable(self) -> tuple[Column, ...]:
        """Columns a mapping may fill."""
        return tuple(c for c in self.columns if not c.derived and c.name != "source_id")


_INT_NAMES = {
    "row_id", "concurrency", "current_jobs", "replicas", "gpu_count", "max_pending_tasks", "objects", "fds", "fds_max",
    "conns", "threads", "gc_collections", "attempt", "attempts", "occurrences", "total_alerts", "version",
    "http_status", "life_no", "attempt_no",
}  # fmt: skip
_FLOAT_NAMES = {"load1", "load5", "effective_cores"}
_BOOL_NAMES = {"enabled", "up", "valid", "output_expected", "retry_on_failure"}
_JSON_NAMES = {"tcp_by_state", "host_tcp_by_state", "labels", "alert_ids"}


def kind_of(name: str) -> str:
    """Conversion kind of a column name (E-002): time, int, ms, float, decimal, bool, json or text."""
    if name in _BOOL_NAMES or name.startswith("is_"):
        return "bool"
    if name in _JSON_NAMES:
        return "json"
    if name in _FLOAT_NAMES or name.endswith(("_pct", "_rate", "_utilization", "_s", "_seconds")):
        return "float"
    if name in _INT_NAMES or name.endswith(("_bytes", "_mb", "_n", "_count", "_no")):
        return "int"
    if name in ("at", "effective_end") or name.endswith(("_at", "_from", "_to")):
        return "time"
    if name.endswith("_ms"):
        return "ms"
    if name == "value":
        return "decimal"
    return "text"


TYPE_OF_KIND = {
    "time": "TIMESTAMP",
    "text": "VARCHAR",
    "int": "BIGINT",
    "ms": "DECIMAL(20,3)",
    "float": "DOUBLE",
    "decimal": "DECIMAL(38,6)",
    "bool": "BOOLEAN",
    "json": "JSON",
}


def _columns(text: str) -> tuple[Column, ...]:
    """Parse ``name``, ``name?`` (nullable) and ``name!`` / ``name!?`` (derived) into columns."""
    result = [Column("source_id", "VARCHAR", "text", nullable=False)]
    for word in text.split():
        nullable, derived = word.endswith("?"), "!" in word
        name = word.rstrip("?").rstrip("!")
        kind = kind_of(name)
        result.append(Column(name, TYPE_OF_KIND[kind], kind, nullable, derived))
    return tuple(result)


#: Product bookkeeping on every raw table (E-004). ``src_table`` keeps row ids of several tables apart (E-505);
#: ``key_hash`` is ``md5_number_lower(concat_ws(chr(31), source_id, key...))`` and makes look-ups by key cheap.
#: ``src_digest`` was computed by the source's server when the row was read (``source.digest``): comparing its sum with
#: the server's present one proves a range equal without reading it (E-609).
BOOKKEEPING = (
    ("row_id", "BIGINT"),
    ("src_table", "VARCHAR"),
    ("first_seen_at", "TIMESTAMP"),
    ("changed_at", "TIMESTAMP"),
    ("deleted_at", "TIMESTAMP"),
    ("deleted_reason", "VARCHAR"),
    ("row_hash", "VARCHAR"),
    ("anomalies", "VARCHAR[]"),
    ("key_hash", "UBIGINT"),
    ("src_digest", "BIGINT"),
)

_ENTITIES = (
    Entity(
        "task", ("task_key",),
        _columns(
            "task_key endpoint status raw_status? remote_id? worker_key? owner_key? created_at? queued_at? started_at? "
            "ended_at? updated_at? deadline_at? error_message? content_hash? output_expected is_deleted! "
            "status_seen_at!? effective_end!?"
        ),
        mutable=True, time_column="created_at", open_column="status",
    ),
    Entity(
        "task_event", ("event_key",),
        _columns(
            "event_key task_key endpoint? event_type raw_type at worker_key? error_message? src_queue_wait_ms? "
            "src_execution_ms? src_total_ms?"
        ),
        mutable=False, time_column="at",
    ),
    Entity(
        "task_output", ("output_key",),
        _columns(
            "output_key task_key node_key? name? uri? canonical_uri!? natural_key!? media_type? size_bytes? version? "
            "created_at? updated_at? is_deleted! origin! valid!"
        ),
        mutable=True, time_column="created_at",
    ),
    Entity(
        "endpoint", ("endpoint",),
        _columns(
            "endpoint status registered_at? unregistered_at? replicas? gpu_count? task_timeout_s? max_pending_tasks?"
        ),
        mutable=True, time_column=None,
    ),
    Entity(
        "worker", ("worker_key",),
        _columns(
            "worker_key life_no! endpoint status concurrency current_jobs? created_at? pod_created_at? pod_started_at? "
            "ready_at? terminated_at? cold_start_ms? last_heartbeat_at? last_task_at? failure_type? failure_reason?"
        ),
        mutable=True, time_column="created_at", open_column="status",
    ),
    Entity(
        "worker_event", ("event_key",),
        _columns("event_key worker_key endpoint? event_type at task_key? old_status? new_status? cold_start_ms?"),
        mutable=False, time_column="at",
    ),
    Entity(
        "worker_snapshot", ("snapshot_key",),
        _columns(
            "snapshot_key worker_key endpoint? at is_idle? current_task_key? gpu_utilization? gpu_memory_used_mb? "
            "gpu_memory_total_mb? cpu_utilization? memory_used_mb? memory_total_mb? origin! polled_status!? "
            "heartbeat_at!?"
        ),
        mutable=False, time_column="at",
    ),
    Entity(
        "job", ("job_id",),
        _columns(
            "job_id name? owner? category? description? schedule? enabled risk_level sla_seconds? retry_on_failure? "
            "dependencies? updated_at?"
        ),
        mutable=True, time_column=None,
    ),
    Entity(
        "job_run", ("run_key",),
        _columns(
            "run_key job_id scheduled_at? started_at? ended_at? duration_ms? outcome error_message? attempt? trigger "
            "result_error?"
        ),
        mutable=True, time_column="started_at", open_column="outcome",
    ),
    Entity(
        "process_sample", ("process_id", "at"),
        _columns(
            "process_id at rss_bytes? vms_bytes? mem_pct? objects? cpu_pct? effective_cores? load1? load5? fds? "
            "fds_max? conns? tcp_by_state? host_tcp_by_state? threads? gc_collections? host_mem_available_bytes? "
            "uptime_s? scope"
        ),
        mutable=False, time_column="at",
    ),
    Entity(
        "probe_result", ("target", "at"),
        _columns("target at kind up http_status? latency_ms? health_state? uptime_s?"),
        mutable=False, time_column="at",
    ),
    Entity(
        "ingest_counter", ("process_id", "series", "at", "kind"),
        _columns("process_id series at kind value labels?"),
        mutable=False, time_column="at",
    ),
    Entity(
        "notification", ("notification_id",),
        _columns(
            "notification_id alert_ids? channel target? state attempts? next_retry_at? created_at? sent_at? latency_ms? "
            "provider_code? error? kind? reason!? final_at!?"
        ),
        mutable=True, time_column="created_at", open_column="state",
    ),
)  # fmt: skip


@cache
def entities() -> dict[str, Entity]:
    """All mappable entities by name, in dependency order."""
    return {entity.name: entity for entity in _ENTITIES}


def raw_columns(entity: Entity) -> list[tuple[str, str]]:
    """(name, DuckDB type) of every column of ``raw.<entity>``, bookkeeping included."""
    own = [(c.name, c.type) for c in entity.columns]
    names = {name for name, _ in own}
    extra = [(n, t) for n, t in BOOKKEEPING if n not in names]
    if "task_key" in names and entity.name in ("task", "task_event", "task_output"):
        # Look-ups of all rows of a task, without comparing long strings over the whole table.
        extra.append(("task_hash", "UBIGINT"))
    return own + extra


def raw_ddl(entity: Entity) -> str:
    """``CREATE TABLE`` of ``raw.<entity>``. No primary key: an index over tens of millions of rows costs more than
    the anti-join by ``key_hash`` that keeps rows unique (E-602).
    """
    body = ", ".join(f'"{name}" {kind}' for name, kind in raw_columns(entity))
    return f'CREATE TABLE IF NOT EXISTS raw."{entity.name}" ({body})'
