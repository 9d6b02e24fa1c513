"""Which asset every check of the catalogue judges, and under which name (DESIGN §6: checks are predicates).

What belongs here: names and places. What does not: the catalogue (``quality.registry``) and running it
(``catalogue_checks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring_pipelines.quality.registry import MONITORING_ERROR, SOURCE_CHECK, Check, checks, configured_inputs

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

_OUTPUTS = ("mart.output_hourly_stats", "raw.task_output", "raw.task")
_OUTPUT_ROWS = ("raw.task_output", "raw.task")
_TASKS = ("raw.task",)
_ATTEMPTS = ("core.task_attempt", "raw.task")
_JOBS = ("mart.job_hourly_stats", "raw.job_run", "raw.job")
_NOTIFICATIONS = ("mart.notification_hourly_stats", "raw.notification")

#: Check id → (name, tables in order of preference: the first that is an asset is judged).
_PLACES: Mapping[str, tuple[str, Sequence[str]]] = {
    "missing_outputs": ("outputs_complete", _OUTPUTS),
    "creation_delay": ("outputs_written_in_time", _OUTPUTS),
    "trend": ("completeness_does_not_decline", _OUTPUTS),
    "ratio": ("outputs_per_task_plausible", _OUTPUTS),
    "output_flow": ("outputs_keep_coming", _OUTPUTS),
    "duplicates": ("outputs_unique", _OUTPUT_ROWS),
    "orphans": ("outputs_have_a_task", _OUTPUT_ROWS),
    "wrong_status": ("outputs_only_of_succeeded_tasks", _OUTPUT_ROWS),
    "no_end_time": ("succeeded_tasks_have_an_end", _TASKS),
    "bad_times": ("times_in_order", _TASKS),
    "no_remote_id": ("remote_ids_known", _TASKS),
    "status_mismatch": ("status_as_at_remote", _TASKS),
    "key_length": ("task_keys_fit", _OUTPUT_ROWS),
    "source_performance": ("source_answers_in_time", _TASKS),
    "tasks.invariants": ("attempts_add_up", _ATTEMPTS),
    "tasks.backlog": ("backlog_within_limit", _ATTEMPTS),
    "tasks.queue_wait": ("queue_wait_within_limit", _ATTEMPTS),
    "tasks.long_running": ("attempts_end_in_time", _ATTEMPTS),
    "tasks.failure_rate": ("failure_rate_within_limit", _ATTEMPTS),
    "tasks.success_rate": ("success_rate_within_limit", _ATTEMPTS),
    "tasks.timeouts": ("attempts_within_their_limit", _ATTEMPTS),
    "jobs.failing": ("jobs_succeed", _JOBS),
    "jobs.duration_over_sla": ("jobs_within_sla", _JOBS),
    "jobs.missed": ("jobs_run_when_due", _JOBS),
    "jobs.never_ran": ("jobs_have_run", _JOBS),
    "jobs.failure_rate": ("job_failures_within_limit", _JOBS),
    "notify.channel_down": ("channels_deliver", _NOTIFICATIONS),
    "notify.failure_ratio": ("delivery_failures_within_limit", _NOTIFICATIONS),
    "expectations.task": ("expectations", ("raw.task",)),
    "expectations.task_output": ("expectations", ("raw.task_output",)),
    "expectations.endpoint_stats": ("expectations", ("mart.endpoint_hourly_stats",)),
    "expectations.output_stats": ("expectations", ("mart.output_hourly_stats",)),
    "expectations.completeness": ("completeness_expectations", ("mart.output_hourly_stats",)),
}
#: Reports: they answer a question and judge nothing.
_REPORTS = frozenset({"change_point", "tasks.slots"})
#: Reading the sources is the first thing every run does, and its first answer (C-025).
_READING = Check(
    SOURCE_CHECK, "C-025", MONITORING_ERROR, "Every source can be read", "数据源可读", "", (),
    frozenset({"quick", "full", "deep"}), "high",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A check of the catalogue as an asset check."""

    check: Check
    name: str
    table: str


def places(settings: Settings, tables: Sequence[str]) -> dict[str, Place]:
    """Checks that apply to the configured sources, by check id.

    A check whose inputs no source maps has no place: a mark beside an asset could only be wrong, green as well as red.
    A check without an entry above is placed on the first entity it reads, under its own id.

    Args:
        settings: Sources and switched-off checks.
        tables: ``layer.table`` of the assets there are; the first raw one is where reading is judged.
    """
    first = next((table for table in tables if table.startswith("raw.")), None)
    found = {SOURCE_CHECK: Place(_READING, "sources_readable", first)} if first else {}
    for check in checks().values():
        name, preferred = _PLACES.get(check.id, (check.id.replace(".", "_"), [_first_entity(check)]))
        table = next((table for table in preferred if table in tables), None)
        if check.id in _REPORTS or check.id in settings.checks.disabled or table is None:
            continue
        if _applies(check, settings):
            found[check.id] = Place(check, name, table)
    return found


def _applies(check: Check, settings: Settings) -> bool:
    return any(not check.missing_inputs(configured_inputs(source)) for source in settings.enabled_sources)


def _first_entity(check: Check) -> str:
    return f"raw.{check.needs[0].split('(')[0]}" if check.needs else "lake.manifest"
