"""The sensor that makes the built-in collectors take their turn (E-124).

What belongs here: calling ``collect`` from Dagster's clock. What does not: what is collected (``collect``).
"""

from dagster import DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SkipReason, sensor

from monitoring_pipelines.collect.pace import period_s
from monitoring_pipelines.orchestration.resources import Place

#: Longest an evaluation waits for answers, seconds: a slow target must not hold the daemon's sensor threads.
LONGEST_WAIT_S = 2.0


def build_collect_sensor(place: Place) -> SensorDefinition:
    """Asks targets that are due and samples the product's own processes."""

    @sensor(
        name="collect_sensor",
        minimum_interval_seconds=int(period_s(place.settings)),
        default_status=DefaultSensorStatus.RUNNING,
        description="Probes, scrapes and samples of the product's own processes. Requests no runs: what it collects is "
        "taken in by the next minute tick.",
    )
    def collect_sensor(_context: SensorEvaluationContext) -> SkipReason:
        from monitoring_pipelines.collect.run import once

        done = once(place.settings, place.state.store, place.clock.now(), wait_s=LONGEST_WAIT_S)
        problems = "".join(f"; {target}: {error}" for target, error in done.errors.items())
        waiting = f"; still waiting for {', '.join(done.waiting)}" if done.waiting else ""
        return SkipReason(f"{done.asked} targets asked, {done.rows} rows stored{waiting}{problems}")

    return collect_sensor
