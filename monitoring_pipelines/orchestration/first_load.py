"""The first load of a source that is added beside others: a job of its own, so that their ticks need not wait (E-506).

What belongs here: the job and its op. What does not: loading (``source.tail``, ``source.reconcile``) and when it is
requested (``sensors``).
"""

from dagster import OpExecutionContext, ResourceParam, in_process_executor, job, op

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.orchestration.resources import SourceResource, WarehouseResource
from monitoring_pipelines.orchestration.steps import pipeline_of, retry_once

#: Tag that names the source to load.
SOURCE_TAG = "source"


@op(description="Load the history of the source named by the run's tag `source`, then derive its core rows.")
def first_load(
    context: OpExecutionContext,
    warehouse: WarehouseResource,
    source: ResourceParam[SourceResource],
    clock: ResourceParam[Clock],
) -> None:
    """One extraction cycle; the first one of a source loads what the source still has, day by day."""
    from monitoring_pipelines import pipeline

    pipe = pipeline_of(context, warehouse, source, clock)
    with retry_once(context):
        wanted = context.run.tags.get(SOURCE_TAG, "")
        if wanted not in {known.id for known in pipe.sources}:
            raise UsageError(f"no source is called {wanted!r}", f"start the job with the tag {SOURCE_TAG}=<id>")
        pipeline.extract(pipe, [wanted])
        pipeline.refresh_core(pipe)


@job(
    name="first_load_job",
    description="Load the history of one new source. Requested by first_load_sensor.",
    tags={"type": "first_load"},
    executor_def=in_process_executor,
)
def first_load_job() -> None:
    """The only op."""
    first_load()
