"""Which asset every check of the catalogue judges, and under which name (DESIGN §6: checks are predicates).

What belongs here: names and places. What does not: the catalogue (``quality.registry``) and running it
(``catalogue_checks``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster import AssetSpec

from monitoring_pipelines.orchestration.metadata import OWNERS, key_of
from monitoring_pipelines.quality.registry import MONITORING_ERROR, SOURCE_CHECK, Check, Run, checks, configured_inputs

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings

#: Subject → (what its checks judge, tables they read). A subject is an asset that nothing ever materializes: Dagster hides
#: the result of a check as soon as its asset is materialized again, which the tables are every minute.
_SUBJECTS: Mapping[str, tuple[str, Sequence[str]]] = {
    "sources": ("the sources: whether they can be read, and how fast they answer", ("raw.task", "raw.job_run")),
    "tasks": (
        "the tasks of the sources: times, ends, remote ids, and whether rows are what they must be",
        ("raw.task",),
    ),
    "outputs": (
        "the outputs of succeeded tasks: whether they are there, in time, once, and belong to a task",
        ("mart.output_hourly_stats", "raw.task_output", "raw.task"),
    ),
    "attempts": ("attempts: backlog, waits, limits, failures, and whether counters add up", ("core.task_attempt",)),
    "jobs": ("scheduled jobs: whether they run when due, succeed, and keep their limits", ("raw.job_run", "raw.job")),
    "notifications": ("notifications: whether channels deliver", ("raw.notification",)),
    "custom": ("what checks of your own look at", ("raw.task", "raw.task_output", "core.task_attempt")),
}
_GROUP = "quality"
_OUTPUTS, _TASKS, _ATTEMPTS = "quality.outputs", "quality.tasks", "quality.attempts"
_JOBS, _NOTIFICATIONS, _SOURCES = "quality.jobs", "quality.notifications", "quality.sources"
_CUSTOM = "quality.custom"

#: Check id → (name, asset).
_PLACES: Mapping[str, tuple[str, str]] = {
    "missing_outputs": ("outputs_complete", _OUTPUTS),
    "creation_delay": ("outputs_written_in_time", _OUTPUTS),
    "trend": ("completeness_does_not_decline", _OUTPUTS),
    "ratio": ("outputs_per_task_plausible", _OUTPUTS),
    "output_flow": ("outputs_keep_coming", _OUTPUTS),
    "duplicates": ("outputs_unique", _OUTPUTS),
    "orphans": ("outputs_have_a_task", _OUTPUTS),
    "wrong_status": ("outputs_only_of_succeeded_tasks", _OUTPUTS),
    "no_end_time": ("succeeded_tasks_have_an_end", _TASKS),
    "bad_times": ("times_in_order", _TASKS),
    "no_remote_id": ("remote_ids_known", _TASKS),
    "status_mismatch": ("status_as_at_remote", _TASKS),
    "key_length": ("task_keys_fit", _OUTPUTS),
    "source_performance": ("source_answers_in_time", _SOURCES),
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
    "expectations.task": ("expectations", _TASKS),
    "expectations.task_output": ("expectations", _OUTPUTS),
    "expectations.endpoint_stats": ("expectations", "mart.endpoint_hourly_stats"),
    "expectations.output_stats": ("expectations", "mart.output_hourly_stats"),
    "expectations.completeness": ("completeness_expectations", "mart.output_hourly_stats"),
}
#: Checks that also judge partitions: evaluated with them, over their window, when they are computed or filled again.
_OF_PARTITIONS: Mapping[str, tuple[str, ...]] = {
    "missing_outputs": ("mart.output_hourly_stats", "mart.output_daily_stats"),
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
    """A check of the catalogue as an asset check. ``of_partitions``: it belongs to runs of partitions, to no check run."""

    check: Check
    name: str
    table: str
    of_partitions: bool = False


def places(settings: Settings, tables: Collection[str]) -> dict[str, Place]:
    """Checks that apply to the configured sources, custom ones too, by check id; ``<id>@<table>`` for partitions.

    A check whose inputs no source maps has no place: a mark beside an asset could only be wrong, green as well as red.
    A check without an entry above is placed on ``quality/tasks``, under its own id.

    Args:
        settings: Sources and switched-off checks.
        tables: ``layer.table`` of the assets there are.
    """
    found = {SOURCE_CHECK: Place(_READING, "sources_readable", _SOURCES)} if settings.enabled_sources else {}
    for check in checks().values():
        name, asset = _PLACES.get(check.id, (check.id.replace(".", "_"), _TASKS))
        is_there = asset.startswith(f"{_GROUP}.") or asset in tables
        if check.id in _REPORTS or check.id in settings.checks.disabled or not is_there:
            continue
        if _applies(check, settings):
            found[check.id] = Place(check, name, asset)
            for table in _OF_PARTITIONS.get(check.id, ()):
                if table in tables:
                    found[f"{check.id}@{table}"] = Place(check, name, table, of_partitions=True)
    return found | _custom_places(settings)


def _custom_places(settings: Settings) -> dict[str, Place]:
    """Checks of one's own (C-601). Which runs they belong to only they know, unless the configuration says so."""
    from monitoring_pipelines.quality.custom import discover

    every: frozenset[Run] = frozenset({"quick", "full", "deep"})
    found = {}
    for own in discover(settings) if settings.enabled_sources else ():
        title = own.id.removeprefix("custom.")
        runs = frozenset(own.types) or every
        check = Check(own.id, "C-601", own.id, title, title, own.target, (), runs)  # type: ignore[arg-type]
        found[own.id] = Place(check, own.id.replace(".", "_"), _CUSTOM)
    return found


def quality_assets(found: Mapping[str, Place], tables: Collection[str]) -> list[AssetSpec]:
    """The subjects that have a check, downstream of the tables they judge."""
    wanted = {
        place.table.removeprefix(f"{_GROUP}.") for place in found.values() if place.table.startswith(f"{_GROUP}.")
    }
    return [
        AssetSpec(
            [_GROUP, name],
            deps=[key_of(table) for table in read if table in tables],
            description=f"What the checks say about {what}. It holds no rows: its checks are its content, and their "
            "results stay until the next check run.",
            group_name=_GROUP,
            kinds={"duckdb"},
            owners=OWNERS,
        )
        for name, (what, read) in _SUBJECTS.items()
        if name in wanted
    ]


def _applies(check: Check, settings: Settings) -> bool:
    return any(not check.missing_inputs(configured_inputs(source)) for source in settings.enabled_sources)
