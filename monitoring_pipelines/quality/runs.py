"""One check run: extract, reconcile, check every source, store, write the result line (C-020 to C-028).

What belongs here: the order of a run, windows, overlap, and what one failing source or check may stop. What does not:
rules (``quality.checks``), schedules and catching up (``orchestration``), alerts made of the result (``alerts``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.errors import ProductError, SourceUnavailable, UsageError, WarehouseBusy
from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.quality import registry
from monitoring_pipelines.quality.context import CheckContext, Lookup, Session
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun, Finding, RunStatus, RunType
from monitoring_pipelines.quality.registry import MONITORING_ERROR, SOURCE_CHECK, Check
from monitoring_pipelines.state import checks as stored
from monitoring_pipelines.state.ids import new_id
from monitoring_pipelines.warehouse.connect import WarehouseMissing
from monitoring_pipelines.warehouse.lock import FairLock, LockTimeout

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import SourceSettings
    from monitoring_pipelines.config.schema_alerts import Thresholds
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.state import StateStore

log = logging.getLogger(__name__)

HOURS_BACK_MOST = 720
#: Types of scheduled runs; what else is called a run (report) stores its results in another way.
TYPES: tuple[RunType, ...] = ("quick", "full", "deep")
Say = Callable[[str], None]


class CheckRunning(WarehouseBusy):
    """A run of this type is going on; two never overlap (C-021)."""

    code = "check_running"


@dataclass
class _Work:
    """What a run knows while it goes on."""

    pipe: Pipeline
    state: StateStore
    run: CheckRun
    thresholds: Thresholds
    say: Say
    failed: dict[str, str] = field(default_factory=dict)
    query_seconds: dict[str, dict[str, float]] = field(default_factory=dict)


def execute(
    pipe: Pipeline,
    state: StateStore,
    run_type: RunType,
    *,
    due_at: datetime | None = None,
    trigger: str = "manual",
    hours_back: int | None = None,
    sources: Iterable[str] | None = None,
    say: Say | None = None,
    run_id: str | None = None,
    dagster_run_id: str | None = None,
) -> CheckRun:
    """Run the checks of a type over all sources and store what they found.

    Args:
        pipe: Configuration, warehouse, clock.
        state: Where the run is stored.
        run_type: ``quick``, ``full`` or ``deep``.
        due_at: Due time of a scheduled run, naive UTC; the window ends there (C-020). None: now.
        trigger: ``schedule``, ``catchup``, ``manual``, ``api`` or ``asset_check``.
        hours_back: Length of the window, 1 to 720; only for quick and full (S-411). None: as configured.
        sources: Only these; None: all enabled ones.
        say: Called with a line of progress now and then.
        run_id: Id of the run, given by whoever wants to know it before the run is stored; None: a new one.
        dagster_run_id: The run of Dagster that makes it, for the link from its page.

    Returns:
        The stored run. A scheduled run that would overlap another of its type has status ``skipped`` (C-021).

    Raises:
        CheckRunning: A run that is not scheduled would overlap.
        UsageError: Bad type or window.
        StateUnavailable: Nothing can be stored; nothing was done.
    """
    from monitoring_pipelines.quality import thresholds

    hours = window_hours(pipe, run_type, hours_back)
    now = pipe.clock.now()
    window_to = due_at or now
    started = CheckRun(
        run_id or new_id(now),
        run_type,
        trigger,
        "running",
        window_to,
        now,
        None,
        window_to - timedelta(hours=hours),
        window_to,
        hours,
        dagster_run_id=dagster_run_id,
    )
    wanted = _wanted(pipe, sources)
    try:
        with lock_of(pipe, run_type).held(f"{run_type} check", 0.0):
            run = stored.start(state, started)
            work = _Work(pipe, state, run, thresholds.effective(pipe.settings, state), say or _silent)
            try:
                run = _checked(work, wanted)
            except BaseException as error:
                reason = _text(error) if isinstance(error, Exception) else "the run was interrupted"
                stored.finish(state, replace(run, status="error", ended_at=pipe.clock.now(), error=reason))
                raise
            stored.finish(state, run)
    except LockTimeout as error:
        if trigger in ("schedule", "catchup"):
            reason = f"another {run_type} check was still running"
            return stored.record_unexecuted(
                state,
                run_type,
                "skipped",
                window_to,
                now,
                trigger=trigger,
                reason=reason,
                dagster_run_id=dagster_run_id,
            )
        raise CheckRunning(f"a {run_type} check is already running ({error.holder})") from error
    _write_files(pipe, run)
    return run


def window_hours(pipe: Pipeline, run_type: RunType, hours_back: int | None) -> int:
    """Hours of a run's window (S-411); UsageError for a type or number that makes no sense."""
    checks = pipe.settings.checks
    configured = {"quick": checks.quick.hours, "full": checks.full.hours, "deep": checks.deep.hours}
    if run_type not in configured:
        raise UsageError(f"unknown check type {run_type!r}", "quick, full or deep")
    if hours_back is None:
        return configured[run_type]
    if run_type == "deep":
        raise UsageError("hours_back is not for deep checks", "leave it out, or run a full check")
    if isinstance(hours_back, bool) or not isinstance(hours_back, int) or not 1 <= hours_back <= HOURS_BACK_MOST:
        raise UsageError(f"hours_back must be a whole number from 1 to {HOURS_BACK_MOST}, not {hours_back!r}")
    return hours_back


def lock_of(pipe: Pipeline, run_type: str) -> FairLock:
    """The lock that keeps runs of one type from overlapping, in whatever process they run."""
    return FairLock(pipe.warehouse.path.with_name(f"check-{run_type}.lock.d"))


def is_running(pipe: Pipeline, run_type: str) -> bool:
    """Whether a run of the type is going on."""
    return lock_of(pipe, run_type).holder() is not None


def evaluate(
    pipe: Pipeline, state: StateStore, check_ids: Iterable[str], *, hours: int = 1, sources: Iterable[str] | None = None,
    window: tuple[datetime, datetime] | None = None,
) -> list[CheckOutcome]:  # fmt: skip
    """Single checks as of now over the last hours or ``window``, without extracting, storing or asking the source;
    names that are no checks are left out.

    For the alert tick (C-107), for rules that look at the store (C-311 to C-350) and for checks of partitions.
    """
    from monitoring_pipelines.quality import custom, thresholds

    now = pipe.clock.now()
    start, end = window or (now - timedelta(hours=hours), now)
    length = round((end - start) / timedelta(hours=1))
    run = CheckRun(new_id(now), "manual", "tick", "running", now, now, None, start, end, length)
    work = _Work(pipe, state, run, thresholds.effective(pipe.settings, state), _silent)
    known = registry.checks()
    names = [name for name in check_ids if name not in pipe.settings.checks.disabled]
    wanted = [known[name] for name in names if name in known]
    done: list[CheckOutcome] = []
    for source in [*_wanted(pipe, sources), *([_itself()] if sources is None else [])]:
        done += _source_outcomes(work, source, wanted, ask=False)
    own = [check for check in custom.discover(pipe.settings) if check.id in names]
    readable = [source.id for source in _wanted(pipe, sources)]
    for check in own if readable else ():
        done += custom.run(check, pipe, replace(run, type="full"), readable)
    return done


def _itself() -> SourceSettings:
    """The product as a source of jobs and notifications (S-702); it has no tables to read."""
    from monitoring_pipelines.config.schema import SourceSettings

    return SourceSettings.model_construct(id=stored.SELF, tables={})


def _checked(work: _Work, sources: list[SourceSettings]) -> CheckRun:
    """The finished run."""
    pipe, run = work.pipe, work.run
    _extract(work, sources)
    if run.type != "quick":
        for source in sources:
            if source.id not in work.failed:
                _reconcile(work, source)
    checks = pipe.settings.checks
    extended = checks.full.extended if run.type == "full" else True
    wanted = registry.checks_of(run.type, extended=extended, disabled=checks.disabled)  # type: ignore[arg-type]
    outcomes: list[CheckOutcome] = []
    for source in sources:
        outcomes += _source_outcomes(work, source, wanted, ask=True)
    outcomes += _custom_outcomes(work, sources)
    found = any(outcome.findings for outcome in outcomes)
    status: RunStatus = "error" if work.failed else "issues_detected" if found else "healthy"
    return replace(
        run, status=status, ended_at=pipe.clock.now(), outcomes=tuple(outcomes), failed_sources=dict(work.failed)
    )


def _extract(work: _Work, sources: list[SourceSettings]) -> None:
    """Extract first (C-021), and bring the attempts up to date."""
    from monitoring_pipelines.pipeline import extract, refresh_core

    work.say(f"extracting {', '.join(source.id for source in sources)}")
    done = extract(work.pipe, [source.id for source in sources], strict=False)
    work.failed = dict(done.failed)
    for source_id, cycle in done.cycles.items():
        seconds: dict[str, float] = {}
        for table, read in ((name, read) for (name, _), read in cycle.tables.items()):
            seconds[table] = max(seconds.get(table, 0.0), read.slowest_query_s)
        work.query_seconds[source_id] = seconds
    if done.cycles:
        refresh_core(work.pipe)


@without_pandas()
def _reconcile(work: _Work, source: SourceSettings) -> None:
    """Prove the window's tasks and outputs equal to the source before it is judged (E-608, E-609)."""
    from monitoring_pipelines.source.reconcile import reconcile_day

    pipe, run = work.pipe, work.run
    if run.window_from is None or run.window_to is None:
        return
    day = run.window_from.date()
    try:
        while day <= run.window_to.date():
            for entity in ("task", "task_output"):
                if any(table.inline is None for table in source.mapped(entity)):
                    work.say(f"{source.id}: comparing {entity} of {day} with the source")
                    reconcile_day(pipe.settings, source, pipe.warehouse, pipe.clock, day, entity, pipe.log)
            day += timedelta(days=1)
    except ProductError as error:
        pipe.log.error(f"{source.id}: {error.message}")
        work.failed[source.id] = error.message


def _source_outcomes(work: _Work, source: SourceSettings, wanted: list[Check], *, ask: bool) -> list[CheckOutcome]:
    """Outcomes of all checks of one source, and of reading it."""
    session = Session(work.pipe.warehouse, run_type=work.run.type)
    memo: dict[Any, Any] = {}
    outcomes: list[CheckOutcome] = []
    try:
        mapped = mapped_inputs(source, session)
        as_of = _as_of(session, source.id)
        for check in wanted:
            context = _context(work, source, check, session, mapped, memo, as_of, ask)
            outcomes.append(_one(work, context))
            session.breathe()
    except WarehouseMissing as error:
        work.failed.setdefault(source.id, error.message)
    finally:
        session.close()
    if not ask:
        return outcomes
    return [_source_outcome(work, source, as_of=_as_of_outcomes(outcomes)), *outcomes]


def _custom_outcomes(work: _Work, sources: list[SourceSettings]) -> list[CheckOutcome]:
    """Outcomes of checks of one's own (C-601), over the sources that could be read."""
    from monitoring_pipelines.quality import custom

    readable = [source.id for source in sources if source.id not in work.failed]
    outcomes: list[CheckOutcome] = []
    for check in custom.discover(work.pipe.settings) if readable else ():
        if not check.types or work.run.type in check.types:
            work.say(f"custom check {check.id}")
            outcomes += custom.run(check, work.pipe, work.run, readable)
    return outcomes


def _context(
    work: _Work, source: SourceSettings, check: Check, session: Session, mapped: dict[str, set[str]],
    memo: dict[Any, Any], as_of: datetime | None, ask: bool,
) -> CheckContext:  # fmt: skip
    run, pipe = work.run, work.pipe
    assert run.window_from is not None
    assert run.window_to is not None
    assert run.started_at is not None
    return CheckContext(
        check, pipe.settings, source, work.thresholds, run.started_at, run.window_from, run.window_to, session,
        run_type=run.type, as_of=as_of, lookup=lookup_of(pipe, source) if ask else None, state=work.state, mapped=mapped,
        memo=memo, say_progress=work.say, key_length=_key_length(pipe, source) if ask else None,
        query_seconds=work.query_seconds.get(source.id, {}),
    )  # fmt: skip


def _one(work: _Work, context: CheckContext) -> CheckOutcome:
    """One check, whatever happens in it (C-025, C-026)."""
    check, source = context.check, context.source
    absent = check.missing_inputs(context.mapped)
    if absent:
        return context.outcome("not_applicable", message=f"not mapped: {', '.join(absent)}")
    if source.id in work.failed:
        return _unreadable(work, context, work.failed[source.id])
    work.say(f"{source.id}: {check.id}")
    try:
        return check.load()(context)
    except SourceUnavailable as error:
        work.failed[source.id] = error.message
        return _unreadable(work, context, error.message)
    except Exception as error:
        log.exception("check %s of %s crashed", check.id, source.id)
        context.session.close()
        text = _text(error)
        message = context.say(f"检查 {check.id} 出错：{text}", f"check {check.id} failed: {text}")
        labels = {"check": check.id}
        found = context.finding("high", message, {"check": check.id, "error": text}, (), labels, MONITORING_ERROR)
        return context.outcome("error", [found], message=text)


def _unreadable(work: _Work, context: CheckContext, reason: str) -> CheckOutcome:
    """The outcome of a check whose source could not be read: the last good figures, marked stale (C-025)."""
    known = stored.believed(
        work.state, context.check.id, context.source.id, run_type=work.run.type, answers_only=True
    )  # fmt: skip
    metrics = known.outcome.metrics if known else {}
    as_of = known.outcome.as_of if known else None
    return context.outcome("error", metrics=metrics, as_of=as_of, stale=True, health="unknown", message=reason)


def _source_outcome(work: _Work, source: SourceSettings, as_of: datetime | None) -> CheckOutcome:
    """Whether the source could be read; the finding ``monitoring_error`` if not (C-025)."""
    run = work.run
    reason = work.failed.get(source.id)
    if reason is None:
        return CheckOutcome(source.id, SOURCE_CHECK, "passed", run.window_from, run.window_to, as_of=as_of)
    chinese = work.pipe.settings.language == "zh-CN"
    message = f"数据源 {source.id} 无法读取：{reason}" if chinese else f"source {source.id} cannot be read: {reason}"
    assert run.started_at is not None
    found = Finding(source.id, SOURCE_CHECK, MONITORING_ERROR, "high", message, run.started_at, {"error": reason})
    return CheckOutcome(
        source.id, SOURCE_CHECK, "error", run.window_from, run.window_to, "high", "unknown",
        findings=(found,), as_of=as_of, stale=True, message=reason,
    )  # fmt: skip


def mapped_inputs(source: SourceSettings, session: Session) -> dict[str, set[str]]:
    """Entity → unified columns that are mapped and, where the table is optional, were found at the source (E-702)."""
    if source.id == stored.SELF:
        return {"job": set(), "job_run": set(), "notification": {"channel"}}
    read = "SELECT DISTINCT entity FROM meta.extract_mark WHERE source_id = ? AND last_success_at IS NOT NULL"
    seen = {row[0] for row in session.query(read, [source.id])}
    mapped = registry.configured_inputs(source)
    if not seen:
        return mapped
    optional = {name for name in mapped if all(table.optional for table in source.mapped(name))}
    return {name: columns for name, columns in mapped.items() if name not in optional or name in seen}


def _as_of(session: Session, source_id: str) -> datetime | None:
    rows = session.query("SELECT as_of FROM meta.source_state WHERE source_id = ?", [source_id])
    return rows[0][0] if rows else None


def _as_of_outcomes(outcomes: list[CheckOutcome]) -> datetime | None:
    return max((outcome.as_of for outcome in outcomes if outcome.as_of is not None), default=None)


def lookup_of(pipe: Pipeline, source: SourceSettings) -> Lookup:
    """Asking the source for single tasks (E-612)."""

    def ask(keys: Any) -> Any:
        from monitoring_pipelines.source.lookup import lookup_tasks

        return lookup_tasks(pipe.settings, source, keys, pipe.clock)

    return ask


def _key_length(pipe: Pipeline, source: SourceSettings) -> Callable[[], int | None]:
    def ask() -> int | None:
        from monitoring_pipelines.source.lookup import task_key_length

        return task_key_length(pipe.settings, source)

    return ask


def _wanted(pipe: Pipeline, sources: Iterable[str] | None) -> list[SourceSettings]:
    if sources is None:
        return pipe.sources
    return [pipe.settings.source(name) for name in sources]


def _write_files(pipe: Pipeline, run: CheckRun) -> None:
    """Result line and error file; the stored run stands when the disk does not take them."""
    from monitoring_pipelines.quality import files

    try:
        files.write_result(pipe.settings, run)
        files.write_errors(pipe.settings, run)
    except OSError as error:
        pipe.log.error(f"the result file of run {run.run_id} could not be written: {error}")


def _text(error: BaseException) -> str:
    from monitoring_pipelines.config.secrets import mask

    text = error.message if isinstance(error, ProductError) else f"{type(error).__name__}: {error}"
    return mask(text)[:500]


def _silent(_text: str) -> None:
    return
