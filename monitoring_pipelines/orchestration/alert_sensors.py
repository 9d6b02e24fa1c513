"""Sensors of alerting: evaluate every ``alerts.tick_s``, and send messages at their due instant (A-201, A-301).

What belongs here: the two sensors. What does not: rules, life cycle and sending (``alerts``).

The evaluation sends what it made due itself and stays for first messages within the group wait. The notification sensor
looks every ten seconds and stays in its tick while a message is about to be due, so that nothing but Dagster keeps time.
"""

from collections.abc import Sequence

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.orchestration.resources import SourceResource, StateResource, WarehouseResource

#: Dagster starts this sensor every ten seconds or five later: who looks so far ahead misses no due instant.
AHEAD_S = 18.0
#: A tick ends well before Dagster gives it up (60 s).
MOST_S = 40.0
LOOK_EVERY_S = 10


def build_alert_sensors(settings: Settings) -> Sequence[SensorDefinition]:
    """Both sensors, running by default."""

    @sensor(
        name="alert_sensor",
        minimum_interval_seconds=max(int(settings.alerts.tick_s), 1),
        default_status=DefaultSensorStatus.RUNNING,
        description="Takes in check runs, evaluates the rules, and plans messages. Starts no run.",
    )
    def alert_sensor(
        context: SensorEvaluationContext,
        warehouse: WarehouseResource,
        source: ResourceParam[SourceResource],
        state: ResourceParam[StateResource],
        clock: ResourceParam[Clock],
    ) -> SkipReason:
        from monitoring_pipelines.alerts import duty, engine
        from monitoring_pipelines.pipeline import Pipeline

        duty.sign_of_life(state.store, clock.now())  # this sensor sends too
        pipe = Pipeline(source.settings, warehouse.open(clock), clock, context.log)
        done = engine.tick(pipe, state.store, clock.now())
        wait = min(source.settings.alerts.group_wait_s + 1, 20.0)
        sent = duty.stand_by(source.settings, state.store, clock, ahead_s=wait, most_s=wait)
        if done.skipped:
            return SkipReason("another process is evaluating")
        return SkipReason(
            f"{done.observations} observations, {done.runs} check runs, {done.fired} fired, {done.resolved} resolved, "
            f"{sent.sent} sent, {sent.failed} failed"
        )

    @sensor(
        name="notification_sensor",
        minimum_interval_seconds=LOOK_EVERY_S,
        default_status=DefaultSensorStatus.RUNNING,
        description="Sends messages at their due instant: first ones, retries, those deferred by quiet hours or rates. "
        "Also pings the dead man's switch. Starts no run.",
    )
    def notification_sensor(
        context: SensorEvaluationContext,
        source: ResourceParam[SourceResource],
        state: ResourceParam[StateResource],
        clock: ResourceParam[Clock],
    ) -> SkipReason:
        from monitoring_pipelines.alerts import deadman, duty

        sent = duty.stand_by(source.settings, state.store, clock, ahead_s=AHEAD_S, most_s=MOST_S)
        ping = deadman.ping(source.settings, state.store, clock)
        told = f"; dead man's switch: {ping}" if ping else ""
        return SkipReason(f"{sent.sent} sent, {sent.failed} failed{told}")

    return [alert_sensor, notification_sensor]
