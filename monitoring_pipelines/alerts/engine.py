"""One evaluation of all alerts: check runs, rules, standing, messages (A-0xx to A-3xx).

What belongs here: the order of one tick and what makes it safe to kill. What does not: the parts (``contributions``,
``lifecycle``, ``standing``, ``plan``) and sending (``outbox``).

A tick reads, decides and writes in one transaction. One process evaluates at a time; the lock is the operating system's,
so that a killed process holds it no longer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from monitoring_pipelines.alerts import alertmanager, recovery, self_config
from monitoring_pipelines.alerts.book import Book
from monitoring_pipelines.alerts.configured import ConfiguredChecks, configured_checks
from monitoring_pipelines.alerts.contributions import TICK_TYPES, Contributions
from monitoring_pipelines.alerts.drills import drill_observations
from monitoring_pipelines.alerts.lifecycle import observe
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.alerts.plan import Plan
from monitoring_pipelines.alerts.standing import settle
from monitoring_pipelines.state import checks as stored_runs
from monitoring_pipelines.state import tables
from monitoring_pipelines.state.heartbeats import beat, heartbeat_age
from monitoring_pipelines.state.store import upsert

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.state import StateStore

#: Component whose heartbeat every evaluation writes.
EVALUATOR = "evaluator"
_log = logging.getLogger(__name__)
#: The configuration with which stored results were last gone through, by state store; only time depends on it.
_examined: dict[str, ConfiguredChecks] = {}


@dataclass(frozen=True)
class Evaluation:
    """What one tick did."""

    runs: int = 0
    observations: int = 0
    changed: int = 0
    fired: int = 0
    resolved: int = 0
    #: Another process was evaluating; nothing was done.
    skipped: bool = False
    #: Recovery hooks to be called (A-703).
    executions: Sequence[recovery.Execution] = ()


def tick(pipe: Pipeline, state: StateStore, now: datetime) -> Evaluation:
    """Evaluate everything once (A-201): new check runs, rules, silences, inhibition, due messages.

    Args:
        pipe: Configuration, warehouse and clock.
        state: The state store.
        now: Instant of the evaluation, naive UTC.
    """
    with alone(pipe.settings) as mine:
        if not mine:
            return Evaluation(skipped=True)
        settings = pipe.settings
        done = apply(settings, state, now, _observations(pipe, state, now), configured=configured_checks(settings))
    recovery.execute(pipe.settings, state, done.executions)
    alertmanager.push(pipe.settings, state, now)
    return done


def apply(
    settings: Settings, state: StateStore, now: datetime, observations: Iterable[Observation],
    component: str | None = EVALUATOR, configured: ConfiguredChecks | None = None,
) -> Evaluation:  # fmt: skip
    """The same with given observations, in one transaction.

    Args:
        settings: Routes, silences, channels.
        state: The state store.
        now: Instant of the evaluation.
        observations: What rules say; alerts without one stay as they are.
        component: Whose heartbeat this is; None: nobody's.
        configured: Checks that still run; results of others end. None: all.
    """
    with state.begin() as con:
        seen = [*observations, *self_config.observations(settings), *drill_observations(con, now)]
        seen += recovery.exhausted(con, settings, now)
        book = Book(con, now)
        runs = _take_runs(con, book, settings, now, [one for one in seen if one.type in TICK_TYPES], configured)
        for one in seen:
            if one.type not in TICK_TYPES:
                observe(book, one, settings)
        settle(book, settings, con)
        plan = Plan(book, settings, con)
        plan.run()
        changed = book.write(con)
        executions = recovery.decide(con, settings, recovery.requests(settings, seen, book.firing()), now)
        if component is not None:
            beat(con, component, settings.alerts.tick_s, now)
    if configured is not None:
        _examined[str(state.engine().url)] = configured
    return Evaluation(runs, len(seen), changed, len(book.fired), len(book.resolved), executions=executions)


def _take_runs(
    con: Connection, book: Book, settings: Settings, now: datetime, ticks: Sequence[Observation],
    configured: ConfiguredChecks | None,
) -> int:  # fmt: skip
    """Runs the engine has not seen yet, oldest first, and the tick's own contributions (A-002).

    Results of checks that are gone end when a run comes in, and at the first evaluation with another configuration.
    """
    waiting = stored_runs.not_taken(con)
    is_new = configured is not None and _examined.get(str(con.engine.url)) is not configured
    if not waiting and not ticks and not is_new:
        return 0
    contributions = Contributions(con, None if waiting or is_new else [one.fingerprint for one in ticks])
    for run_id in waiting:
        run = stored_runs.take(con, run_id, now)
        contributions.take(run, run.ended_at or now)
    for one in ticks:
        contributions.take_tick(one, now)
    if configured is not None and (waiting or is_new):
        contributions.retire(configured, now)
    contributions.apply(book, settings)
    contributions.write(con)
    return len(waiting)


def _observations(pipe: Pipeline, state: StateStore, now: datetime) -> list[Observation]:
    """What the rules say; a rule engine that fails must not stop repeats and resolutions of everything else."""
    from monitoring_pipelines.alerts import rules
    from monitoring_pipelines.compensation import interrupted, notices

    try:
        interrupted.find_interrupted(pipe.settings, state, pipe.clock)
        sources = [source.id for source in pipe.sources]
        resumed_at = _resumed(state, now)
        seen = [*rules.evaluate(pipe, state, now), *notices.observations(state, sources)]
        return [_awake(one, now, resumed_at) for one in seen]
    except Exception as error:  # noqa: BLE001 - turned into an alert of its own
        _log.exception("the rules could not be evaluated")
        return [
            Observation(
                "self.check_error", "_self", "true", "high", "high", "self.check_error",
                f"the rules could not be evaluated: {type(error).__name__}: {error}", {"check": "rules"},
            )
        ]  # fmt: skip


def _awake(seen: Observation, now: datetime, resumed_at: datetime | None) -> Observation:
    """Heartbeats as seen by somebody who was away: whoever evaluates is alive, and after a restart of the whole product
    the others get the time in which a living one beats."""
    if seen.type != "self.heartbeat" or seen.condition != "true":
        return seen
    if seen.labels.get("component") == EVALUATOR:
        return replace(seen, condition="false")
    allowed = timedelta(seconds=seen.threshold or 0.0)
    just_back = resumed_at is not None and now - resumed_at <= allowed
    return replace(seen, condition="insufficient_data") if just_back else seen


def _resumed(state: StateStore, now: datetime) -> datetime | None:
    """When evaluations went on after a pause; None: they never paused."""
    mark = "evaluator.resumed"
    with state.begin() as con:
        if heartbeat_age(con, EVALUATOR, now) > 2:
            upsert(con, tables.setting, [{"name": mark, "value": None, "updated_at": now, "updated_by": None}])
        return con.execute(select(tables.setting.c.updated_at).where(tables.setting.c.name == mark)).scalar()


@contextmanager
def alone(settings: Settings) -> Iterator[bool]:
    """Whether this process may evaluate now; held until the block ends or the process dies."""
    import fcntl

    settings.data_path.mkdir(parents=True, exist_ok=True)
    with Path(settings.data_path / "alerts.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
