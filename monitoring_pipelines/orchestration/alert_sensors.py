"""Sensors of alerting: evaluate every ``alerts.tick_s``, and send messages at their due instant (A-201, A-301).

What belongs here: the two sensors. What does not: rules, life cycle and sending (``alerts``).

The alert sensor evaluates when the last evaluation is ``alerts.tick_s`` old, and at once when a publication or a check run
brought something new: who waited for the next turn would hear of a minute up to 30 s later. It stays in its tick while it
waits for one of these, because a tick costs Dagster fifty times what a look costs. It sends what it made due itself and
stays for first messages within the group wait. The notification sensor looks every twenty seconds and stays in its tick
while a message is about to be due, so that nothing but Dagster keeps time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dagster import (
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from monitoring_pipelines.clock import Clock
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.orchestration.resources import Place, StateResource

#: Dagster starts this sensor every twenty seconds or five later: who looks so far ahead misses no due instant.
AHEAD_S = 28.0
#: A tick ends well before Dagster gives it up (60 s).
MOST_S = 45.0
LOOK_EVERY_S = 20
#: The alert sensor looks so often, and gives its tick back after so long without anything to evaluate: an evaluation comes
#: every ``alerts.tick_s`` anyway, usually 30 s.
NEWS_EVERY_S = 2.0
STAY_S = 32.0


def build_alert_sensors(place: Place) -> Sequence[SensorDefinition]:
    """Both sensors, running by default."""
    settings, state, clock = place.settings, place.state, place.clock

    @sensor(
        name="alert_sensor",
        minimum_interval_seconds=1,  # the next tick begins when this one ends
        default_status=DefaultSensorStatus.RUNNING,
        description="Takes in check runs, evaluates the rules, and plans messages: every alerts.tick_s, and when something "
        "new was published. Starts no run.",
    )
    def alert_sensor(context: SensorEvaluationContext) -> SkipReason:
        from monitoring_pipelines.alerts import duty, engine

        until = time.monotonic() + MOST_S
        duty.sign_of_life(state.store, clock.now())  # this sensor sends too
        look = _next_look(settings, state, clock, _Look.of(context.cursor))
        if look is None:
            return SkipReason("nothing new was published and the last evaluation is recent")
        context.update_cursor(look.text())
        with place.pipeline(context.log) as pipe:
            done = engine.tick(pipe, state.store, look.at)
        wait = max(min(settings.alerts.group_wait_s + 1, until - time.monotonic()), 0.0)
        sent = duty.stand_by(settings, state.store, clock, ahead_s=wait, most_s=wait)
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
    def notification_sensor(_context: SensorEvaluationContext) -> SkipReason:
        from monitoring_pipelines.alerts import deadman, duty

        sent = duty.stand_by(settings, state.store, clock, ahead_s=AHEAD_S, most_s=MOST_S)
        ping = deadman.ping(settings, state.store, clock)
        told = f"; dead man's switch: {ping}" if ping else ""
        return SkipReason(f"{sent.sent} sent, {sent.failed} failed{told}")

    return [alert_sensor, notification_sensor]


@dataclass(frozen=True)
class _Look:
    """What an evaluation saw: when it was, and which publication was the newest (its time of writing, ns; 0: none)."""

    at: datetime
    published: int

    def is_due(self, last: "_Look", tick_s: float) -> bool:
        """Whether something was published since, or the last evaluation is old (or of a clock that was ahead)."""
        return self.published != last.published or not timedelta(0) <= self.at - last.at < timedelta(seconds=tick_s)

    def text(self) -> str:
        """As the sensor's cursor."""
        return f"{self.at.isoformat()} {self.published}"

    @classmethod
    def of(cls, cursor: str | None) -> "_Look | None":
        """From the cursor; None: no evaluation yet, or another version's cursor."""
        try:
            at, published = (cursor or "").split()
            return cls(datetime.fromisoformat(at), int(published))
        except ValueError:
            return None


def _next_look(settings: Settings, state: StateResource, clock: Clock, last: _Look | None) -> _Look | None:
    """Wait for a reason to evaluate; None when there is none within ``STAY_S``."""
    until = time.monotonic() + STAY_S
    while True:
        look = _Look(clock.now(), _published(settings))
        if last is None or look.is_due(last, settings.alerts.tick_s) or _has_new_runs(state):
            return look
        left = until - time.monotonic()
        if left <= 0:
            return None
        due = last.at + timedelta(seconds=settings.alerts.tick_s) - look.at
        time.sleep(min(left, NEWS_EVERY_S, max(due.total_seconds(), 0.05)))


def _published(settings: Settings) -> int:
    from monitoring_pipelines.warehouse.lake import MANIFEST_NAME

    try:
        return (settings.lake_path / MANIFEST_NAME).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _has_new_runs(state: StateResource) -> bool:
    from monitoring_pipelines.state import checks

    with state.store.read() as con:
        return bool(checks.not_taken(con))
