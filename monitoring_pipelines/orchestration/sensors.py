"""Sensors: work that is due because of what the warehouse holds, not because of the time.

What belongs here: turning due hours, days and unverified days into run requests.
What does not: deciding what is due (``pipeline``).
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from monitoring_pipelines.errors import WarehouseBusy
from monitoring_pipelines.orchestration.first_load import SOURCE_TAG
from monitoring_pipelines.orchestration.holding import UNFINISHED
from monitoring_pipelines.orchestration.jobs import Job
from monitoring_pipelines.orchestration.partitions import DAY, HOUR, Partitions, contiguous
from monitoring_pipelines.orchestration.resources import Place
from monitoring_pipelines.partition_keys import day_key, hour_key

if TYPE_CHECKING:
    from monitoring_pipelines.pipeline import Pipeline

Answer = TypeVar("Answer")
#: Requests per evaluation: the rest is still due at the next one.
MOST_REQUESTS = 5
#: Partitions per request, by step.
LONGEST = {HOUR: 168, DAY: 7}
#: The same work is requested again after this long if it is still due, e.g. because its run failed.
REPEAT = timedelta(minutes=15)
CAUSE_TAG = "cause"


def build_sensors(jobs: dict[str, Job], partitions: Partitions, place: Place) -> Sequence[SensorDefinition]:
    """All sensors, running by default."""

    @sensor(
        name="dirty_hours_sensor",
        jobs=[jobs["hourly_stats_job"], jobs["daily_stats_job"]],
        minimum_interval_seconds=60,
        default_status=DefaultSensorStatus.RUNNING,
        description="Requests exactly the hour and day partitions that late rows or downtime left to compute, when "
        "there are more than a minute tick takes along.",
    )
    def dirty_hours_sensor(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        from monitoring_pipelines import pipeline

        backlog = _look(place, context, pipeline.backlog)
        if isinstance(backlog, SkipReason):
            yield backlog
            return
        now = place.clock.now()
        work = (
            ("hourly_stats_job", HOUR, partitions.hourly.start, backlog.hours),
            ("daily_stats_job", DAY, partitions.daily.start, backlog.days),
        )
        answers = [
            answer
            for job, step, first, due in work
            for answer in _requests(context, job, step, [bucket for bucket in due if bucket >= _naive(first)], now)
        ]
        # A tick may give one reason to skip at most, and none next to a request.
        yield from [answer for answer in answers if isinstance(answer, RunRequest)] or answers[:1]

    @sensor(
        name="reconciliation_sensor",
        jobs=[jobs["reconciliation_job"]],
        minimum_interval_seconds=60,
        default_status=DefaultSensorStatus.RUNNING,
        description="Requests the days that were never compared with the source (first load, oldest first) or whose "
        "comparison is older than extract.reconcile_hours (E-609).",
    )
    def reconciliation_sensor(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        from monitoring_pipelines import pipeline

        days = _look(place, context, pipeline.unverified_days)
        if isinstance(days, SkipReason):
            yield days
            return
        first = _naive(partitions.daily.start)
        yield from _requests(
            context, "reconciliation_job", DAY, [day for day in days if day >= first], place.clock.now()
        )

    return [dirty_hours_sensor, reconciliation_sensor, _first_load_sensor(jobs, place)]


def _first_load_sensor(jobs: dict[str, Job], place: Place) -> SensorDefinition:
    beside = len(place.settings.enabled_sources) > 1

    @sensor(
        name="first_load_sensor",
        job=jobs["first_load_job"],
        minimum_interval_seconds=60 if beside else 3600,
        default_status=DefaultSensorStatus.RUNNING,
        description="Requests the first load of sources that were added beside others. The first source of all is "
        "loaded by the minute tick itself.",
    )
    def first_load_sensor(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        from monitoring_pipelines import pipeline

        nothing = SkipReason("no source waits for its first load")
        if not beside:
            yield nothing
            return
        loaded = _look(place, context, pipeline.loaded_sources)
        if isinstance(loaded, SkipReason):
            yield loaded
            return
        new = [known.id for known in place.settings.enabled_sources if loaded and known.id not in loaded]
        if not new:
            yield nothing
        for source_id in new:
            running = RunsFilter(job_name="first_load_job", statuses=UNFINISHED, tags={SOURCE_TAG: source_id})
            if pipeline.is_extracting(place.settings.warehouse_path, source_id) or context.instance.get_runs(
                running, limit=1
            ):
                yield SkipReason(f"{source_id} is being loaded")
                continue
            period = (place.clock.now() - datetime.min) // REPEAT
            yield RunRequest(run_key=f"first_load:{source_id}:{period}", tags={SOURCE_TAG: source_id})

    return first_load_sensor


def _look(
    place: Place, context: SensorEvaluationContext, question: Callable[["Pipeline"], Answer]
) -> Answer | SkipReason:
    """Ask the warehouse; when it is busy or not there yet, say so and ask again at the next evaluation."""
    from monitoring_pipelines.warehouse.connect import WarehouseMissing

    try:
        with place.pipeline(context.log) as pipe:
            return question(pipe)
    except (WarehouseBusy, WarehouseMissing) as error:
        return SkipReason(error.message)


def _requests(
    context: SensorEvaluationContext, job: str, step: timedelta, due: Sequence[datetime], now: datetime
) -> Iterator[RunRequest | SkipReason]:
    """One request per gapless range of due buckets, oldest first (M-802), none while earlier ones are unfinished."""
    if not due:
        yield SkipReason(f"{job}: nothing is due")
        return
    tags = {CAUSE_TAG: "due"}
    unfinished = context.instance.get_runs(RunsFilter(job_name=job, statuses=UNFINISHED, tags=tags), limit=1)
    if unfinished:
        yield SkipReason(f"{job}: {len(due)} partitions are due; run {unfinished[0].run_id} is still working on them")
        return
    key = hour_key if step == HOUR else day_key
    # The period in the run key lets failed work be requested again, and dedupes everything within it.
    period = (now - datetime.min) // REPEAT
    for first, last in contiguous(due, step, LONGEST[step])[:MOST_REQUESTS]:
        range_tags = {ASSET_PARTITION_RANGE_START_TAG: key(first), ASSET_PARTITION_RANGE_END_TAG: key(last)}
        yield RunRequest(run_key=f"{job}:{key(first)}:{key(last)}:{period}", job_name=job, tags={**tags, **range_tags})


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)
