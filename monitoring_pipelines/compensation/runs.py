"""Apply and resume: which tasks, in which order, in which pace, and when to stop (R-402…R-411).

What belongs here: the run around ``apply``: refusals, lock, batches, stop rules, lost connections, saved state.
What does not: the statements of one task (``apply``), what follows a run (``after``).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation import gate
from monitoring_pipelines.compensation.apply import (
    CONSTRAINT_ERRORS,
    CommitUnknown,
    Outcome,
    RunFacts,
    TaskApplier,
    insert_of,
)
from monitoring_pipelines.compensation.interrupted import end_interrupted
from monitoring_pipelines.compensation.journal import (
    JournalIds,
    JournalRow,
    MysqlJournal,
    WalJournal,
    open_journal,
    reconcile,
)
from monitoring_pipelines.compensation.model import (
    ALREADY_PRESENT,
    COMMITTED,
    FAILED,
    NOT_REACHED,
    ProposedRow,
    RepairLocked,
    RepairRefused,
    RunCounters,
    Task,
)
from monitoring_pipelines.compensation.plan import rules_of
from monitoring_pipelines.compensation.rows import at_apply
from monitoring_pipelines.compensation.session import (
    AccessDenied,
    ConnectionLost,
    Session,
    Statement,
    StatementFailed,
    TryAgain,
    open_session,
    says_read_only,
    source_lock,
    take_lock,
)
from monitoring_pipelines.compensation.stored import OutputReader, TaskReader
from monitoring_pipelines.compensation.target import Target, inspect_target, output_mapping
from monitoring_pipelines.compensation.throttle import Throttle
from monitoring_pipelines.compensation.validation import refused_tasks
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state import repair as store
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings

log = logging.getLogger(__name__)
#: A task is tried this often after a deadlock, lock wait timeout or lost connection (R-409).
TASK_TRIES = 3
#: The share rule needs at least this many tasks of a batch (R-409).
_SHARE_LEAST = 5
#: Tries to reconnect, with a growing pause.
_RECONNECTS = 5
Progress = Callable[[int, int, dict[str, Any]], None]


class RunStopped(Exception):
    """A stop rule ends the run; what is done stays. ``state`` is paused or failed."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state, self.reason = state, reason


@dataclass
class Applier:
    """What apply and resume need."""

    settings: Settings
    state: StateStore
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def apply(
        self, plan_id: str, actor: str, *, batch_size: int | None = None, rate_per_s: float | None = None,
        progress: Progress | None = None, run_id: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Apply an approved plan.

        Args:
            plan_id: The plan.
            actor: Who does it.
            batch_size: Tasks per batch; None = the plan's.
            rate_per_s: Most tasks per second; None = as fast as the server answers.
            progress: Called after every batch with (tasks done, tasks, counters).
            run_id: Id of the run, when the caller has told it to somebody already.

        Returns:
            The stored row of ``repair_run``.

        Raises:
            RepairRefused: Nothing was written (R-402). RepairLocked: another run works on the source.
        """
        return self._run("apply", plan_id, actor, batch_size, rate_per_s, progress, run_id)

    def resume(self, run_id: str, actor: str, *, progress: Progress | None = None,
               new_run_id: str | None = None) -> dict[str, Any]:  # fmt: skip
        """Go on with the plan of a run that crashed, paused or left failed items (R-408). As ``apply``."""
        with self.state.read() as con:
            earlier = store.get_run(con, run_id)
        if earlier["kind"] not in ("apply", "resume"):
            raise RepairRefused("not_resumable", f"run {run_id} is a {earlier['kind']} run", "start it again instead")
        return self._run("resume", earlier["plan_id"], actor, None, None, progress, new_run_id)

    def _run(
        self, kind: str, plan_id: str, actor: str, batch_size: int | None, rate_per_s: float | None,
        progress: Progress | None, run_id: str | None,
    ) -> dict[str, Any]:  # fmt: skip
        now = self.clock.now()
        with self.state.read() as con:
            plan = store.get_plan(con, plan_id)
        run = {"run_id": run_id or new_id(now), "plan_id": plan_id, "source_id": plan["source_id"], "kind": kind,
               "dry_run": False, "actor": actor, "started_at": now, "state": "running"}  # fmt: skip
        with self.state.begin() as con:
            store.save_run(con, run)
            audit.record(con, now, actor, f"repair.{kind}", run["run_id"], {"plan_id": plan_id})
        work = _Run(self, run, plan, batch_size or plan["batch_size"], rate_per_s, progress)
        try:
            work.go()
        except RepairRefused as error:
            work.end("refused", error.code, plan_state="stale" if error.code == "stale_plan" else None)
            raise
        except RepairLocked:
            work.end("locked", "locked")
            raise
        except RunStopped as stop:
            work.end(stop.state, stop.reason)
        except ProductError as error:
            work.end("failed", error.message)
            raise
        except BaseException as error:
            # Ctrl-C, a cancelled job, a defect: the transaction is undone, and the run must not stay "running".
            work.end("failed" if isinstance(error, Exception) else "paused", f"interrupted: {type(error).__name__}")
            raise
        else:
            work.end("finished", None)
        with self.state.read() as con:
            return store.get_run(con, run["run_id"])


@dataclass
class _Run:
    """One apply or resume run."""

    applier: Applier
    run: dict[str, Any]
    plan: dict[str, Any]
    batch_size: int
    rate_per_s: float | None
    progress: Progress | None
    counters: RunCounters = field(default_factory=RunCounters)
    began: float = 0.0
    wrote: bool = False
    _transient_in_a_row: int = 0
    _outcomes: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    _journal_rows: list[JournalRow] = field(default_factory=list)
    #: Committed tasks of the batch and their rows, until they are counted again.
    _to_recount: dict[str, list[JournalRow]] = field(default_factory=dict)

    def go(self) -> None:
        """Refusals, then batches."""
        self.began = self.applier.monotonic()
        settings, state = self.applier.settings, self.applier.state
        source = settings.source(self.plan["source_id"])
        with state.read() as con:
            everything = store.get_items(con, self.plan["plan_id"])
            approval, runs = store.get_approval(con, self.plan["plan_id"]), store.list_runs(con, self.plan["plan_id"])
            placeholders = frozenset(store.placeholder_keys(con, source.id))
        gate.refuse_plan(settings, source, self.plan, approval, everything, runs, self.applier.clock.now())
        items = [item for item in everything if item["class"] == "eligible"]
        self.counters.eligible = len(items)
        self.counters.rows_planned = sum(len(item["rows"]) for item in items)
        dsn = source.repair_dsn()
        if dsn is None:
            raise RepairRefused(
                "repair_dsn_missing", f"{source.id}: no repair account is configured", "name it: repair_dsn_env: …"
            )
        assert approval is not None
        used = self.run["kind"] == "apply" and approval["used_by_run"] is not None
        with _Connection(self, source, dsn, items, placeholders) as connection:
            done = connection.committed_tasks()
            with state.begin() as con:
                store.use_approval(con, self.plan["plan_id"], self.run["run_id"])
            self._batches(connection, items, done, used)

    def _batches(
        self, connection: _Connection, items: list[dict[str, Any]], done: dict[str, list[JournalRow]], used: bool
    ) -> None:
        """All items, a batch at a time; those after a stop are not reached (R-410)."""
        throttle = Throttle(
            self.applier.settings, connection.source, self.applier.sleep, self.rate_per_s,
            lambda reason: self._waits(position, len(items), reason),
        )  # fmt: skip
        position = 0
        try:
            self._go_on(throttle.until_calm(connection.session))
            while position < len(items):
                batch = items[position : position + self.batch_size]
                failed = 0
                try:
                    for item in batch:
                        throttle.task(self.applier.monotonic)
                        outcome = self._item(connection, item, done, used)
                        self._take(item, outcome)
                        position += 1
                        failed += outcome.state == FAILED and outcome.reason != "state_changed"
                        self._stop_if_transient(outcome)
                finally:
                    self._recount(connection)
                self._save()
                if self.progress is not None:
                    self.progress(position, len(items), self.counters.as_dict())
                if len(batch) >= _SHARE_LEAST and failed > self.applier.settings.repair.max_failed_share * len(batch):
                    raise RunStopped("paused", f"{failed} of {len(batch)} tasks of a batch failed")
                if position < len(items):
                    self._go_on(throttle.between_batches(connection.session))
        finally:
            self.counters.waited_s = throttle.waited_s
            for item in items[position:]:
                self._outcomes[item["seq"]] = (NOT_REACHED, None)
            self.counters.not_reached += len(items) - position

    @staticmethod
    def _go_on(reason: str | None) -> None:
        if reason is not None:
            raise RunStopped("paused", reason)

    def _waits(self, done: int, total: int, reason: str | None) -> None:
        """Show why the run waits, wherever a running run is looked at; None: it goes on."""
        with self.applier.state.begin() as con:
            store.update_run(con, self.run["run_id"], reason=None if reason is None else f"waits: {reason}")
        if self.progress is not None:
            self.progress(done, total, self.counters.as_dict() | ({} if reason is None else {"waits": reason}))

    def _item(
        self, connection: _Connection, item: dict[str, Any], done: dict[str, list[JournalRow]], used: bool
    ) -> Outcome:
        """One task. What an earlier run of the plan committed is known from the journal, not from memory (R-408)."""
        task = _task_of(item)
        if task.task_key in done:
            if item["run_state"] != COMMITTED:  # it crashed between COMMIT and the recount of R-405 (7)
                self._to_recount[task.task_key] = done[task.task_key]
            return Outcome(ALREADY_PRESENT, "already_done")
        if used:
            return Outcome(NOT_REACHED, "approval_used")
        return connection.apply(task, [ProposedRow.from_dict(row) for row in item["rows"]])

    def _take(self, item: dict[str, Any], outcome: Outcome) -> None:
        """Count one outcome (R-410, R-411)."""
        counters = self.counters
        counters.rows_skipped_existing += outcome.skipped
        self._journal_rows += outcome.inserted
        stored = (outcome.state, outcome.reason)
        if outcome.state == COMMITTED:
            self._to_recount[item["task_key"]] = outcome.inserted
            counters.tasks_committed += 1
            counters.rows_inserted += len(outcome.inserted)
        elif outcome.state == ALREADY_PRESENT:
            counters.already_present += 1
            if outcome.reason == "already_done":
                counters.already_done += 1
                stored = (COMMITTED, None)
        elif outcome.state == FAILED:
            counters.failed[(outcome.reason or "db_error").partition(":")[0]] += 1
        else:
            counters.not_reached += 1
            stored = (item["run_state"], item["run_reason"])
        self._outcomes[item["seq"]] = stored

    def _recount(self, connection: _Connection) -> None:
        """Count the outputs of the batch's committed tasks again (R-405 (7)), and settle what is there twice."""
        if self._to_recount:
            reverted, duplicates = connection.settle_duplicates(self._to_recount)
            self.counters.rows_self_reverted += len(reverted)
            self.counters.duplicates_reported += duplicates
            self._journal_rows += reverted
            self._to_recount = {}

    def _stop_if_transient(self, outcome: Outcome) -> None:
        if outcome.state == FAILED and (outcome.reason or "").startswith("transient_error"):
            self._transient_in_a_row += 1
            if self._transient_in_a_row >= self.applier.settings.repair.max_consecutive_transient:
                raise RunStopped("paused", f"{self._transient_in_a_row} transient errors in a row: {outcome.reason}")
        else:
            self._transient_in_a_row = 0

    def _save(self) -> None:
        """The checkpoint after a batch: outcomes, mirrored journal, counters (R-404)."""
        self.counters.duration_s = self.applier.monotonic() - self.began
        with self.applier.state.begin() as con:
            store.save_outcomes(con, self.plan["plan_id"], self._outcomes)
            store.mirror(con, [row.record() for row in self._journal_rows])
            store.update_run(con, self.run["run_id"], counters=self.counters.as_dict())
        self._outcomes, self._journal_rows = {}, []

    def end(self, state: str, reason: str | None, plan_state: str | None = None) -> None:
        """Store how the run ended, and the state of the plan that follows from it."""
        self._save()
        now = self.applier.clock.now()
        with self.applier.state.begin() as con:
            store.update_run(con, self.run["run_id"], state=state, reason=reason, ended_at=now)
            new = plan_state if plan_state and self.plan["state"] in ("ready", "approved") else None
            if state in ("finished", "paused", "failed"):
                new = self._plan_state(con, state)
            if new is not None:
                store.update_plan(con, self.plan["plan_id"], state=new)
            audit.record(
                con, now, self.run["actor"], f"repair.{self.run['kind']}.{state}", self.run["run_id"],
                {"reason": reason, "counters": self.counters.as_dict()},
            )  # fmt: skip

    def _plan_state(self, con: Any, run_state: str) -> str | None:
        items = store.get_items(con, self.plan["plan_id"], "eligible")
        states = Counter(item["run_state"] for item in items)
        if states[COMMITTED] + states[ALREADY_PRESENT] == len(items):
            return "applied"
        if run_state == "paused":
            return "paused"
        return "partially_applied" if self.wrote or states[COMMITTED] or run_state == "finished" else None


class _Connection:
    """The repair connection of a run: opened, checked, locked, and opened again when it is lost."""

    def __init__(
        self, run: _Run, source: SourceSettings, dsn: str, items: Sequence[dict[str, Any]],
        placeholders: frozenset[str],
    ) -> None:  # fmt: skip
        self.run, self.source, self._dsn, self._items = run, source, dsn, items
        self._placeholders = placeholders
        self._stack = ExitStack()
        self.session: Session
        self._applier: TaskApplier

    def __enter__(self) -> _Connection:
        with ExitStack() as stack:
            settings = self.run.applier.settings
            self.session = open_session(self._dsn, settings)
            stack.callback(lambda: self.session.close())
            self.session.refuse_read_only()
            stack.enter_context(source_lock(self.session, settings, self.source.id))
            # Whoever has the lock knows that earlier runs that say "running" are dead.
            now = self.run.applier.clock.now()
            end_interrupted(self.run.applier.state, self.source.id, now, older_than=now, but=self.run.run["run_id"])
            self._prepare(first=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _prepare(self, first: bool) -> None:
        """Look at the table, open the journal, build the readers."""
        run, session, settings = self.run, self.session, self.run.applier.settings
        target = inspect_target(session, settings, self.source)
        if first:
            gate.refuse_schema(run.plan, target)
        journal = open_journal(session, settings, self.source.id)
        tasks = {m.table: TaskReader(session, self.source, m) for m in self.source.mapped("task")}
        outputs = OutputReader(session, self.source, output_mapping(self.source), target, settings.repair.keep_query)
        if isinstance(journal, WalJournal):
            reconcile(journal, session, target, outputs)
        if first and self._items:
            self._ask_privileges(target, tasks, outputs, journal)
        facts = RunFacts(run.run["run_id"], run.plan["plan_id"], self.source.id, run.run["actor"])
        ids, refused = (JournalIds(), self._judge(target)) if first else (self._applier.ids, self._applier.refused)
        self._applier = TaskApplier(
            session, journal, target, tasks, outputs, facts, run.applier.clock, run.plan["mode"] == "only_if_empty",
            self._placeholders, refused, ids,
        )  # fmt: skip

    def _judge(self, target: Target) -> dict[str, str]:
        """Tasks with rows that may not be inserted (R-405 (3)); nothing was written yet."""
        rows = [(item["task_key"], ProposedRow.from_dict(row)) for item in self._items for row in item["rows"]]
        return refused_tasks(rows, target, rules_of(self.run.applier.settings))

    def _ask_privileges(
        self, target: Target, tasks: dict[str, TaskReader], outputs: OutputReader, journal: MysqlJournal | WalJournal
    ) -> None:
        task, session = _task_of(self._items[0]), self.session
        row = ProposedRow.from_dict(self._items[0]["rows"][0])
        sql, args = insert_of(target, at_apply(row.values, self.run.applier.clock.now(), target))
        asks: list[Statement] = [
            (f"{tasks[task.table].sql(task.task_key)} and 1 = 0{session.for_update}", None),
            (f"{outputs.sql([task.task_key])} and 1 = 0{session.for_share}", None),
            (f"EXPLAIN {sql}", args),
        ]
        if isinstance(journal, MysqlJournal):
            asks.append((journal.probe, None))
        gate.refuse_privileges(session, asks)

    def committed_tasks(self) -> dict[str, list[JournalRow]]:
        """Insert rows by task that earlier runs of the plan committed, from the journal (R-408)."""
        found: dict[str, list[JournalRow]] = {}
        rows = self._applier.journal.rows(plan_id=self.run.plan["plan_id"])
        with self.run.applier.state.begin() as con:
            store.mirror(con, [row.record() for row in rows])
        for row in rows:
            if row.op == "insert":
                found.setdefault(row.task_key, []).append(row)
        return found

    def apply(self, task: Task, rows: list[ProposedRow]) -> Outcome:
        """One task with retries; every error that concerns this task alone becomes its outcome (R-405, R-409)."""
        reason = ""
        for _ in range(TASK_TRIES):
            try:
                outcome = self._applier.apply(task, rows)
            except CommitUnknown as unknown:
                known = self._after_lost_commit(unknown)
                if known is None:
                    reason = "the connection was lost"
                    continue
                outcome = known
            except TryAgain as error:
                reason = error.message
                continue
            except ConnectionLost as error:
                reason = error.message
                self._reconnect()
                continue
            except AccessDenied as error:
                raise RunStopped("failed", f"the repair account lacks a right: {error.message}") from error
            except StatementFailed as error:
                if says_read_only(error):
                    raise RunStopped("paused", f"the server became read-only: {error.message}") from error
                kind = "constraint" if error.number in CONSTRAINT_ERRORS else "db_error"
                return Outcome(FAILED, f"{kind}: {error.message}"[:500])
            self.run.wrote = self.run.wrote or outcome.state == COMMITTED
            return outcome
        return Outcome(FAILED, f"transient_error: {reason}"[:500])

    def _after_lost_commit(self, unknown: CommitUnknown) -> Outcome | None:
        """The COMMIT was sent and its answer lost: the journal knows (R-408); None = it did not happen."""
        self._reconnect()
        journal = self._applier.journal
        if isinstance(journal, WalJournal):
            known = {row.journal_id for row in journal.rows(run_id=self.run.run["run_id"])}
            happened = unknown.rows[0].journal_id in known  # reconciled when the connection was opened again
        else:
            happened = journal.is_committed(unknown.rows)
        return Outcome(COMMITTED, inserted=unknown.rows, skipped=unknown.skipped) if happened else None

    def settle_duplicates(self, committed: dict[str, list[JournalRow]]) -> tuple[list[JournalRow], int]:
        """Recount after COMMIT, and remove our own later duplicates if we may (R-405 (7), R-406).

        Args:
            committed: Inserted rows by task.

        Returns:
            Journal rows of removals, and the number of duplicates that stay.
        """
        auto = self.run.applier.settings.repair.self_revert == "auto"
        reverted: list[JournalRow] = []
        for _ in range(TASK_TRIES):
            try:
                later, stay = self._applier.recount(committed)
                for entry in later:
                    removal = self._applier.self_revert(entry) if auto else None
                    if removal is None:
                        stay += 1
                    else:
                        reverted.append(removal)
            except TryAgain:
                continue
            except ConnectionLost:
                self._reconnect()
                continue
            return reverted, stay
        raise RunStopped("paused", "committed tasks could not be counted again")

    def _reconnect(self) -> None:
        """A new connection with the lock; RunStopped when the server stays away or somebody else took the lock."""
        with self._stopping():
            self.session.close()
            for attempt in range(_RECONNECTS):
                try:
                    self.session = open_session(self._dsn, self.run.applier.settings)
                    break
                except ProductError:
                    if attempt == _RECONNECTS - 1:
                        raise
                    self.run.applier.sleep(0.2 * 2**attempt)
            # The server may need a moment to notice that the old connection, which holds the lock, is gone.
            take_lock(self.session, self.source.id, max(1, round(self.run.applier.settings.repair.lock_wait_s)))
            self._prepare(first=False)

    @staticmethod
    @contextmanager
    def _stopping() -> Iterator[None]:
        try:
            yield
        except ProductError as error:
            raise RunStopped(
                "paused", f"the connection was lost and could not be opened again: {error.message}"
            ) from error


def _task_of(item: dict[str, Any]) -> Task:
    snapshot = item["task"]
    end = snapshot["effective_end"]
    return Task(
        item["task_key"], snapshot["table"], snapshot["status"], snapshot["raw_status"], snapshot["remote_id"],
        datetime.fromisoformat(end.rstrip("Z")) if end else None, snapshot["endpoint"],
    )  # fmt: skip
