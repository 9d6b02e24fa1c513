"""What became of the product's own jobs: runs, due times that were missed, heartbeats (S-702, C-023, C-501).

What belongs here: reading Dagster's runs into ``self_job_run``. What does not: which due times are missed
(``quality.calendar``), where rows go (``state.self_jobs``) and when this happens (``check_sensors``).

Dagster's own run-status sensors handle five runs an evaluation, so a storm of failures would take minutes. Here all runs
that changed since the last evaluation are read at once; writing a run again changes nothing (S-703).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.storage.tags import SCHEDULE_NAME_TAG, SCHEDULED_EXECUTION_TIME_TAG, SENSOR_NAME_TAG

from monitoring_pipelines.self_jobs import ProductJob

if TYPE_CHECKING:
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines.state.self_jobs import JobRun, Outcome, Trigger

#: Tags of runs that this product starts.
TRIGGER_TAG = "trigger"
DUE_TAG = "due_at"
#: The first evaluation looks this far back; every later one a little further than the last one it saw.
FIRST_LOOK = timedelta(days=2)
OVERLAP = timedelta(seconds=5)
PAGE = 500
_UNFINISHED = {
    DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING, DagsterRunStatus.MANAGED,
}  # fmt: skip
_TOO_LONG = "Exceeded maximum runtime"


@dataclass
class Synced:
    """What an evaluation read: runs written, those that failed, and how far Dagster's runs are known now."""

    runs: list[JobRun] = field(default_factory=list)
    cursor: float = 0.0

    @property
    def failed(self) -> list[JobRun]:
        """Runs that ended badly."""
        return [run for run in self.runs if run.outcome in ("failure", "timeout")]


def sync(
    instance: DagsterInstance, state: StateStore, jobs: Mapping[str, ProductJob], now: datetime, cursor: float | None
) -> Synced:
    """Write every run of a product job that changed since ``cursor``, and the heartbeats of those that ended.

    Args:
        instance: Dagster.
        state: Where rows go.
        jobs: The registry; runs of other jobs (ad-hoc materializations) are left out.
        now: The product's clock.
        cursor: Update time of the newest run seen, seconds since 1970; None: look ``FIRST_LOOK`` back.
    """
    from monitoring_pipelines.state import self_jobs

    records, newest = _changed(instance, cursor)
    done = Synced([_row(instance, r) for r in records if r.dagster_run.job_name in jobs], newest)
    lost = _unknown_runs(instance, state, {run.run_key for run in done.runs})
    self_jobs.store(state, [*done.runs, *lost], now)
    _beat(state, jobs, done.runs, now)
    return done


def due_of(run: DagsterRun) -> datetime | None:
    """The instant a run was due at, naive UTC; None for runs nobody scheduled."""
    text = run.tags.get(DUE_TAG) or run.tags.get(SCHEDULED_EXECUTION_TIME_TAG)
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


def trigger_of(run: DagsterRun) -> Trigger:
    """Who started a run: the clockwork, the catching up after downtime, or a person."""
    given = run.tags.get(TRIGGER_TAG)
    if given == "catchup":
        return "catchup"
    automatic = SCHEDULE_NAME_TAG in run.tags or SENSOR_NAME_TAG in run.tags
    return "schedule" if automatic else "manual"


def _changed(instance: DagsterInstance, cursor: float | None) -> tuple[list[RunRecord], float]:
    """(runs that changed after the cursor, oldest change first; the new cursor)."""
    if cursor is None:
        # The epoch of Dagster's own clock: its run storage knows no other.
        from dagster._time import get_current_timestamp

        cursor = get_current_timestamp() - FIRST_LOOK.total_seconds()
    after = datetime.fromtimestamp(cursor, UTC) - OVERLAP
    found: dict[str, RunRecord] = {}
    while True:
        page = instance.get_run_records(
            RunsFilter(updated_after=after), limit=PAGE, order_by="update_timestamp", ascending=True
        )
        fresh = [record for record in page if record.dagster_run.run_id not in found]
        found |= {record.dagster_run.run_id: record for record in page}
        if len(page) < PAGE or not fresh:
            break
        after = page[-1].update_timestamp.replace(tzinfo=UTC)
    newest = max((r.update_timestamp.replace(tzinfo=UTC).timestamp() for r in found.values()), default=cursor)
    return list(found.values()), max(newest, cursor)


def _row(instance: DagsterInstance, record: RunRecord) -> JobRun:
    from monitoring_pipelines.state.self_jobs import JobRun

    run = record.dagster_run
    outcome, error = _outcome(instance, run)
    started, ended = _instant(record.start_time), _instant(record.end_time)
    return JobRun(run.run_id, run.job_name, outcome, trigger_of(run), due_of(run), started or ended, ended, error)


def _outcome(instance: DagsterInstance, run: DagsterRun) -> tuple[Outcome, str | None]:
    if run.status in _UNFINISHED:
        return "running", None
    if run.status == DagsterRunStatus.SUCCESS:
        return "success", None
    if run.status == DagsterRunStatus.CANCELED:
        return "failure", "the run was canceled"
    message = error_of(instance, run.run_id)
    return ("timeout" if _TOO_LONG in message else "failure"), message


def error_of(instance: DagsterInstance, run_id: str) -> str:
    """Why a run failed, in the words of the step that failed first, else of Dagster; secrets are masked (E-006)."""
    from monitoring_pipelines.config.secrets import mask

    wanted = {DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run_id, of_type=wanted):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == DagsterEventType.STEP_FAILURE:
            failure = event.step_failure_data
            described = failure.user_failure_data.description if failure.user_failure_data else None
            text = described or (failure.error.message if failure.error else event.message)
        else:
            text = event.message
        return mask(f"{event.step_key}: {text}" if event.step_key else text or "the run failed").strip()
    return "the run failed"


def _unknown_runs(instance: DagsterInstance, state: StateStore, seen: set[str]) -> list[JobRun]:
    """Runs that are stored as running but that Dagster has forgotten (deleted by hand): they will never end."""
    from monitoring_pipelines.state import self_jobs

    with state.read() as con:
        open_runs = [key for key in self_jobs.unfinished(con) if key not in seen]
        stored = {run.run_key: run for run in self_jobs.by_key(con, open_runs)}
    if not stored:
        return []
    known = {record.dagster_run.run_id: record for record in instance.get_run_records(RunsFilter(run_ids=open_runs))}
    ended = [_row(instance, record) for record in known.values() if record.dagster_run.status not in _UNFINISHED]
    gone = [self_jobs.ended(run, "the run was deleted") for key, run in stored.items() if key not in known]
    return ended + gone


def _beat(state: StateStore, jobs: Mapping[str, ProductJob], runs: Iterable[JobRun], now: datetime) -> None:
    """Components whose work has run to its end are alive (C-501); a lost or endless run proves nothing.

    A tick that fails did read the sources, which is its first component; what comes after that did not happen.
    """
    from monitoring_pipelines.state.heartbeats import beat

    alive: dict[str, ProductJob] = {}
    for run in runs:
        if run.started_at and run.outcome in ("success", "failure"):
            components = jobs[run.job_id].components
            alive |= dict.fromkeys(components if run.outcome == "success" else components[:1], jobs[run.job_id])
    if not alive:
        return
    with state.begin() as con:
        for component, job in alive.items():
            beat(con, component, job.period_s(now) or 60.0, now)


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
