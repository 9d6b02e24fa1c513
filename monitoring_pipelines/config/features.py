"""Which features a mapping can serve, and which answer ``not_applicable`` (E-510).

What belongs here: the table of E-510 as code. What does not: the features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring_pipelines.config.source_schema import SourceSettings


@dataclass(frozen=True)
class Feature:
    """One row of E-510 for one source."""

    name: str
    on: bool
    #: What is missing, when off.
    needs: str


class Mapped:
    """What is mapped and, where the live schema was read, present: entity → unified columns."""

    def __init__(self, source: SourceSettings, present: dict[str, set[str]] | None = None) -> None:
        self.source = source
        self.columns = present if present is not None else mapped_columns(source)

    def has(self, entity: str, *columns: str) -> bool:
        """Whether ``entity`` is mapped with all of ``columns``."""
        return entity in self.columns and set(columns) <= self.columns[entity]

    def any_of(self, entity: str, *columns: str) -> bool:
        """Whether ``entity`` is mapped with at least one of ``columns``."""
        return bool(self.columns.get(entity, set()) & set(columns))


def mapped_columns(source: SourceSettings) -> dict[str, set[str]]:
    """Entity → unified columns that the configuration maps."""
    return {
        name: {column for table in tables for column in table.columns}
        for name, tables in source.tables.items()
        if tables
    }


_OUTPUTS = "task(task_key, status, created_at or ended_at) and task_output(task_key) or inline"
_RULES: tuple[tuple[str, str, Callable[[Mapped], bool]], ...] = (
    (
        "completeness, trend, split",
        _OUTPUTS,
        lambda m: m.has("task", "task_key", "status") and m.any_of("task", "created_at", "ended_at")
        and m.has("task_output", "task_key"),
    ),
    ("output delay", f"{_OUTPUTS}, task_output.created_at", lambda m: m.has("task", "status")
     and m.has("task_output", "task_key", "created_at")),
    (
        "endpoint counts and durations",
        "task_event, or task(created_at, started_at, ended_at, status)",
        lambda m: m.has("task_event") or m.has("task", "created_at", "started_at", "ended_at", "status"),
    ),
    ("retries, orphaning, first event wins", "task_event", lambda m: m.has("task_event")),
    (
        "worker figures",
        "worker(ready_at or terminated_at or last_heartbeat_at) or worker_snapshot",
        lambda m: m.any_of("worker", "ready_at", "terminated_at", "last_heartbeat_at") or m.has("worker_snapshot"),
    ),
    ("GPU, snapshot coverage", "worker_snapshot", lambda m: m.has("worker_snapshot")),
    ("cold starts", "worker.cold_start_ms", lambda m: m.has("worker", "cold_start_ms")),
    ("job statistics", "job_run", lambda m: m.has("job_run")),
    ("resource rules", "process_sample", lambda m: m.has("process_sample")),
    ("ingest rules", "ingest_counter", lambda m: m.has("ingest_counter")),
    ("target rules", "probe_result", lambda m: m.has("probe_result")),
    ("notification statistics", "notification", lambda m: m.has("notification")),
    (
        "repair",
        "an output table, repair_dsn_env and a recoverer",
        lambda m: any(t.inline is None for t in m.source.mapped("task_output"))
        and bool(m.source.repair_dsn_env or m.source.repair_dsn_file),
    ),
)  # fmt: skip


def features(source: SourceSettings, present: dict[str, set[str]] | None = None) -> list[Feature]:
    """Every row of E-510 for ``source``.

    Args:
        source: The source.
        present: Entity → unified columns found in the live schema; None = trust the mapping.
    """
    mapped = Mapped(source, present)
    return [Feature(name, rule(mapped), needs) for name, needs, rule in _RULES]
