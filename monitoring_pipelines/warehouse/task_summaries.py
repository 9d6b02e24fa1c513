"""Small tables beside every file of ``core.task``: what lists, counters and completeness need without reading tasks.

What belongs here: the statements that make them from the rows of one file. What does not: writing files (``publish``)
and answering from them (``published``).

Each is computed from a published file, so it cannot differ from it; it has the same partitions and is replaced with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

GROUP = "core.task_group"
QUARTER = "core.task_quarter"
MISSING = "core.task_missing"
PLACE = "core.task_place"
APART = "core.task_apart"

_NEWER = ", PARQUET_VERSION v2"
#: Options of files that are read now and then; the second version's encodings make files of tasks 40 % smaller.
SMALL = f", COMPRESSION zstd{_NEWER}"
#: Narrow columns of a task; the nested ones belong to one task's page.
LISTED = (
    "source_id", "task_key", "endpoint", "status", "raw_status", "remote_id", "worker_key", "owner_key",
    "created_at", "queued_at", "started_at", "ended_at", "effective_end", "updated_at", "deadline_at", "error_message",
    "output_expected", "is_deleted", "deleted_at", "outputs", "attempts", "late_events",
)  # fmt: skip
#: Sums over attempts that counters need.
SUMS = (
    "attempts", "open_attempts", "completed", "failed", "timed_out", "cancelled", "lost", "late_events",
    "execution_n", "execution_sum_ms",
)  # fmt: skip
#: A source's own deletion hides a task from lists (E-611); a row that only vanished is history.
VISIBLE = "NOT is_deleted"
#: Tasks completeness looks at (C-101), besides source and window.
JUDGED = (
    f"{VISIBLE} AND output_expected AND effective_end IS NOT NULL "
    "AND (deleted_at IS NULL OR deleted_reason = 'retention') "
    "AND status IN ('succeeded', 'failed', 'timed_out', 'cancelled')"
)
#: Columns of ``figures``.
FIGURES = (
    "total_tasks", "success_tasks", "pending_settle", "tasks_with_outputs", "total_outputs", "distinct_outputs",
    "invalid_outputs", "no_end_time",
)  # fmt: skip
#: Columns of a task that ``JUDGED`` and ``figures`` look at.
COUNTED = (
    "source_id", "status", "ended_at", "effective_end", "output_expected", "is_deleted", "deleted_at", "deleted_reason",
    "outputs", "distinct_outputs", "outputs_invalid",
)  # fmt: skip
_SUCCEEDED = "status = 'succeeded'"
#: Tasks people look for, which are few: those that did not succeed and those that lack an output.
_APART = f"(NOT ({_SUCCEEDED}) OR (output_expected AND outputs = 0))"


@dataclass(frozen=True)
class Summary:
    """One table. ``select`` holds ``{rows}``, a file's tasks; ``options`` go to COPY."""

    name: str
    select: str
    options: str = SMALL

    def query(self, rows: str) -> str:
        """Its rows for the tasks that ``rows`` yields, always in the same order."""
        return self.select.replace("{rows}", rows)


def figures(settled: str | None = None) -> str:
    """Columns that count judged tasks (C-102); ``settled``: the condition of a settled one, None when all are."""
    counted = _SUCCEEDED if settled is None else f"{_SUCCEEDED} AND {settled}"
    pending = "0" if settled is None else f"count(*) FILTER ({_SUCCEEDED} AND NOT {settled})"
    return (
        f"count(*) AS total_tasks, count(*) FILTER ({counted}) AS success_tasks, {pending} AS pending_settle, "
        f"count(*) FILTER ({counted} AND outputs > 0) AS tasks_with_outputs, "
        f"coalesce(sum(outputs) FILTER ({counted}), 0)::BIGINT AS total_outputs, "
        f"coalesce(sum(distinct_outputs) FILTER ({counted}), 0)::BIGINT AS distinct_outputs, "
        f"coalesce(sum(outputs_invalid) FILTER ({counted}), 0)::BIGINT AS invalid_outputs, "
        f"count(*) FILTER ({_SUCCEEDED} AND ended_at IS NULL) AS no_end_time"
    )


SUMMARIES: dict[str, Summary] = {
    summary.name: summary
    for summary in (
        Summary(
            GROUP,
            "SELECT source_id, endpoint, status, raw_status, outputs > 0 AS with_output, "
            "deleted_at IS NOT NULL AND deleted_reason IS DISTINCT FROM 'retention' AS gone, "
            f"{_APART} AS apart, count(*) AS n, "
            + ", ".join(f"sum({name}){'' if name == 'execution_sum_ms' else '::BIGINT'} AS {name}" for name in SUMS)
            + ", min(effective_end) AS first_end, max(effective_end) AS last_end "
            f"FROM {{rows}} WHERE {VISIBLE} GROUP BY ALL ORDER BY ALL",
        ),
        Summary(
            QUARTER,
            f'SELECT source_id, time_bucket(INTERVAL 15 MINUTE, effective_end) AS "at", {figures()} '
            f"FROM {{rows}} WHERE {JUDGED} GROUP BY ALL ORDER BY ALL",
        ),
        Summary(
            MISSING,
            "SELECT source_id, task_key, endpoint, effective_end, remote_id, status "
            f"FROM {{rows}} WHERE {JUDGED} AND {_SUCCEEDED} AND outputs = 0 "
            "ORDER BY effective_end DESC, source_id, task_key",
        ),
        # Sorted by hash: a look-up reads one row group in every file.
        Summary(
            PLACE,
            "SELECT task_hash, bucket_at FROM {rows} ORDER BY ALL",
            f", COMPRESSION lz4_raw{_NEWER}, ROW_GROUP_SIZE 16384",
        ),
        # A list of failures reads these rows instead of all; in the order of the list, as the tasks themselves.
        Summary(
            APART,
            f"SELECT bucket_at, {', '.join(LISTED)} FROM {{rows}} WHERE {VISIBLE} AND {_APART} "
            "ORDER BY bucket_at DESC, source_id, task_key",
            f"{SMALL}, ROW_GROUP_SIZE 16384",
        ),
    )
}


def columns_of(
    con: duckdb.DuckDBPyConnection, summary: Summary, tasks: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Columns and types of a summary of tasks with the columns ``tasks``."""
    # Of typed columns, not of the statement that makes tasks: planning that costs as much as copying a thousand of them.
    none = ", ".join(f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in tasks)
    described = con.execute(f"DESCRIBE {summary.query(f'(SELECT {none})')}").fetchall()
    return tuple((row[0], row[1]) for row in described)
