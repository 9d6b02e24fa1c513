"""What every step does around its call of the pipeline.

What belongs here: building the pipeline from resources, turning errors into retries or readable failures.
What does not: the work itself (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dagster import AssetCheckExecutionContext, AssetExecutionContext, Failure, OpExecutionContext, RetryRequested

from monitoring_pipelines.errors import ProductError, SourceUnavailable, WarehouseBusy

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.orchestration.resources import SourceResource, WarehouseResource
    from monitoring_pipelines.pipeline import Pipeline

Context = AssetExecutionContext | OpExecutionContext | AssetCheckExecutionContext

#: Pause before the only retry, seconds: long enough for a connection to come back, short against the next tick.
RETRY_AFTER_S = 5


def pipeline_of(context: Context, warehouse: WarehouseResource, source: SourceResource, clock: Clock) -> Pipeline:
    """The pipeline for this step; logs through the step's log."""
    from monitoring_pipelines.pipeline import Pipeline

    return Pipeline(source.settings, warehouse.open(clock), clock, context.log)


@contextmanager
def retry_once(context: AssetExecutionContext | OpExecutionContext) -> Iterator[None]:
    """Retry a step once when the outside world was in the way; fail with a readable reason otherwise.

    A busy warehouse and an unreachable source may be gone in a moment. Everything else (data, configuration, schema
    drift, a full disk) gives the same result again, so it is not repeated.
    """
    try:
        yield
    except (WarehouseBusy, SourceUnavailable) as error:
        if context.retry_number == 0:
            context.log.warning(f"{error.message}; trying again in {RETRY_AFTER_S} s")
            raise RetryRequested(max_retries=1, seconds_to_wait=RETRY_AFTER_S) from error
        raise failure_of(error) from error
    except ProductError as error:
        raise failure_of(error) from error


def failure_of(error: ProductError) -> Failure:
    """What a run says instead of a stack trace: message, cause, what to do."""
    parts = [error.message, error.cause and f"Cause: {error.cause}", error.hint and f"What to do: {error.hint}"]
    return Failure(
        description="\n".join(part for part in parts if part), metadata={"code": error.code}, allow_retries=False
    )
