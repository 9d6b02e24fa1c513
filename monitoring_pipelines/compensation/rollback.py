"""Undoing a repair by its journal: delete exactly what was inserted, if it is still exactly that (R-701…R-705).

What belongs here: the statements of a rollback and their order. What does not: a rollback of a rollback: make a plan.

Per row: read the whole row under the journaled primary key with a lock, compare its hash with the one taken after the
insert, delete it by primary key, journal the deletion with the before image. One task per transaction.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from monitoring_pipelines.compensation.apply import RunFacts, delete_row, read_row, removal_of
from monitoring_pipelines.compensation.interrupted import end_interrupted
from monitoring_pipelines.compensation.journal import (
    Journal,
    JournalIds,
    JournalRow,
    WalJournal,
    image_hash,
    open_journal,
    reconcile,
)
from monitoring_pipelines.compensation.model import RepairLocked, RepairRefused, RowOutcome
from monitoring_pipelines.compensation.session import (
    ConnectionLost,
    Referenced,
    Session,
    TryAgain,
    open_session,
    source_lock,
)
from monitoring_pipelines.compensation.stored import OutputReader
from monitoring_pipelines.compensation.target import Reference, Target, inspect_target, output_mapping, references
from monitoring_pipelines.config.expr_sql import quote_name
from monitoring_pipelines.errors import ProductError, UsageError
from monitoring_pipelines.source.inspect import quote_table
from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state import repair as store
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings

OUTCOMES = get_args(RowOutcome)
DELETED, MODIFIED, ABSENT, BLOCKED = OUTCOMES
TASK_TRIES = 3
Progress = Callable[[int, int, dict[str, Any]], None]


@dataclass
class RollbackResult:
    """Outcome per journal row, newest first."""

    rows: list[tuple[JournalRow, str]] = field(default_factory=list)
    removals: list[JournalRow] = field(default_factory=list)

    def counters(self) -> dict[str, Any]:
        """Counters with the check of their sum (R-705)."""
        counts = Counter(outcome for _, outcome in self.rows)
        figures: dict[str, Any] = {name: counts[name] for name in OUTCOMES}
        return {"rows_journaled": len(self.rows), **figures, "adds_up": sum(figures.values()) == len(self.rows)}

    def details(self) -> list[dict[str, Any]]:
        """One entry per row, for dry runs and reports."""
        return [
            {"task_key": row.task_key, "pk": dict(row.pk), "natural_key": row.natural_key, "outcome": outcome}
            for row, outcome in self.rows
        ]


@dataclass
class Rollbacker:
    """What a rollback needs."""

    settings: Settings
    state: StateStore
    clock: Clock
    sleep: Callable[[float], None] = time.sleep

    def rollback(
        self, actor: str, *, run_id: str | None = None, plan_id: str | None = None,
        task_ids: Sequence[str] | None = None, dry_run: bool = False, progress: Progress | None = None,
        new_run_id: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Roll back what a run or a whole plan inserted (R-701).

        Args:
            actor: Who does it.
            run_id: Only the rows of this apply or resume run.
            plan_id: All rows of this plan; one of the two is needed.
            task_ids: Only rows of these tasks.
            dry_run: Say what would happen to each row, in a read-only transaction.
            progress: Called after every task with (rows done, rows, counters).
            new_run_id: Id of the rollback run, when the caller has told it to somebody already.

        Returns:
            The stored row of ``repair_run``; ``verification.rows`` has the outcome per row.

        Raises:
            RepairLocked: Another run works on the source. SourceUnavailable: The server cannot be reached.
        """
        if task_ids is not None and not task_ids:
            raise UsageError("the list of task ids is empty", "leave it out to roll back all tasks")
        with self.state.read() as con:
            if run_id is not None:
                plan_id = store.get_run(con, run_id)["plan_id"]
            if plan_id is None:
                raise UsageError("a rollback needs a run or a plan")
            plan = store.get_plan(con, plan_id)
        now = self.clock.now()
        run = {
            "run_id": new_run_id or new_id(now), "plan_id": plan_id, "source_id": plan["source_id"],
            "kind": "rollback", "dry_run": dry_run, "actor": actor, "started_at": now, "state": "running",
        }  # fmt: skip
        selection = {"run_id": run_id, "task_ids": list(task_ids) if task_ids is not None else None}
        with self.state.begin() as con:
            store.save_run(con, run)
            audit.record(con, now, actor, "repair.rollback", run["run_id"], {"plan_id": plan_id, "dry_run": dry_run})
        result = RollbackResult()
        try:
            self._work(run, plan_id, run_id, task_ids, result, progress)
        except (RepairRefused, RepairLocked) as error:
            self._end(run, "locked" if isinstance(error, RepairLocked) else "refused", error.code, result, selection)
            raise
        except ProductError as error:
            self._end(run, "failed", error.message, result, selection)
            raise
        except BaseException as error:
            state = "failed" if isinstance(error, Exception) else "paused"
            self._end(run, state, f"interrupted: {type(error).__name__}", result, selection)
            raise
        self._end(run, "finished", None, result, selection)
        with self.state.read() as con:
            return store.get_run(con, run["run_id"])

    def _work(
        self, run: dict[str, Any], plan_id: str, run_id: str | None, task_ids: Sequence[str] | None,
        result: RollbackResult, progress: Progress | None,
    ) -> None:  # fmt: skip
        source = self.settings.source(run["source_id"])
        dsn = source.rollback_dsn()
        if dsn is None:
            raise RepairRefused(
                "repair_dsn_missing",
                f"{source.id}: no repair account is configured",
                "set `repair_dsn_env` of the source",
            )
        with ExitStack() as stack:
            session = open_session(dsn, self.settings, read_only=run["dry_run"])
            stack.callback(session.close)
            if not run["dry_run"]:
                session.refuse_read_only()
                stack.enter_context(source_lock(session, self.settings, source.id))
                now = self.clock.now()
                end_interrupted(self.state, source.id, now, older_than=now, but=run["run_id"])
            target = inspect_target(session, self.settings, source)
            journal = self._journal(session, source, target, run["dry_run"])
            rows = journal.rows(plan_id=plan_id, run_id=run_id, task_keys=task_ids)
            undo = TaskRollback(
                session, journal, target, references(session, target),
                RunFacts(run["run_id"], plan_id, source.id, run["actor"]), self.clock, run["dry_run"],
            )  # fmt: skip
            inserts = [row for row in rows if row.op == "insert"]
            for task_rows in newest_first(inserts):
                undo.task(task_rows, result)
                if progress is not None:
                    progress(len(result.rows), len(inserts), result.counters())

    def _journal(self, session: Session, source: SourceSettings, target: Target, dry_run: bool) -> Journal:
        journal = open_journal(session, self.settings, source.id)
        if isinstance(journal, WalJournal) and not dry_run:
            outputs = OutputReader(session, source, output_mapping(source), target, self.settings.repair.keep_query)
            reconcile(journal, session, target, outputs)
        return journal

    def _end(
        self, run: dict[str, Any], state: str, reason: str | None, result: RollbackResult, selection: dict[str, Any]
    ) -> None:
        now = self.clock.now()
        counters = result.counters()
        detail = {"selection": selection, "rows": result.details()}
        removed_by = {row.journal_id for row, outcome in result.rows if outcome == DELETED and not run["dry_run"]}
        with self.state.begin() as con:
            store.mirror(con, [row.record() for row in result.removals])
            store.mirror(
                con,
                [row.record() | ({"rolled_back_by": run["run_id"]} if row.journal_id in removed_by else {})
                 for row, _ in result.rows],
            )  # fmt: skip
            store.update_run(
                con, run["run_id"], state=state, reason=reason, ended_at=now, counters=counters, verification=detail
            )
            audit.record(
                con, now, run["actor"], f"repair.rollback.{state}", run["run_id"],
                {"reason": reason, "counters": counters},
            )  # fmt: skip


def newest_first(rows: Sequence[JournalRow]) -> list[list[JournalRow]]:
    """The rows of each task together, newest row first; tasks by their newest row (R-701)."""
    tasks: dict[str, list[JournalRow]] = {}
    for row in sorted(rows, key=lambda entry: entry.journal_id, reverse=True):
        tasks.setdefault(row.task_key, []).append(row)
    return list(tasks.values())


@dataclass
class TaskRollback:
    """Removes the rows of one task at a time."""

    session: Session
    journal: Journal
    target: Target
    references: Sequence[Reference]
    facts: RunFacts
    clock: Clock
    dry_run: bool
    ids: JournalIds = field(default_factory=JournalIds)

    def task(self, rows: Sequence[JournalRow], result: RollbackResult) -> None:
        """One transaction for the rows of one task; tried again after a deadlock or lock wait timeout.

        Raises:
            ConnectionLost: What happened to the transaction is in the journal; start the rollback again.
        """
        for attempt in range(TASK_TRIES):
            self.session.begin()
            outcomes: list[tuple[JournalRow, str]] = []
            removals: list[JournalRow] = []
            try:
                for row in rows:
                    outcomes.append((row, self._row(row, removals)))
                if removals:
                    self.session.several(self.journal.add(removals))
                    self.journal.mark_rolled_back([r for r, o in outcomes if o == DELETED], self.facts.run_id)
                self.session.commit()
            except TryAgain:
                self.session.rollback()
                if attempt == TASK_TRIES - 1:
                    raise
                continue
            except ConnectionLost:
                raise
            except BaseException:
                self.session.rollback()
                raise
            if removals:
                self.journal.committed(removals)
            result.rows += outcomes
            result.removals += removals
            return

    def _row(self, row: JournalRow, removals: list[JournalRow]) -> str:
        """What happens to one row (R-702): the primary key alone is never enough (R-703)."""
        current = read_row(self.session, self.target, dict(row.pk), "" if self.dry_run else self.session.for_update)
        if current is None:
            return ABSENT
        if image_hash(current) != row.after_sha256:
            return MODIFIED
        if self._is_referenced(current):
            return BLOCKED
        if self.dry_run:
            return DELETED
        self.session.execute("SAVEPOINT mp_row")
        try:
            delete_row(self.session, self.target, row.pk)
        except Referenced:
            self.session.execute("ROLLBACK TO SAVEPOINT mp_row")
            return BLOCKED
        self.session.execute("RELEASE SAVEPOINT mp_row")
        now = self.clock.now()
        removals.append(removal_of(row, "delete", self.ids.next(now), self.facts, current, now))
        return DELETED

    def _is_referenced(self, current: dict[str, str | None]) -> bool:
        """Whether another table's rows point at this one; also where the key would cascade or set NULL."""
        for reference in self.references:
            columns = [quote_name(c, self.target.dialect) for c in reference.columns]  # type: ignore[arg-type]
            where = " AND ".join(f"{c} = %s" for c in columns)
            values = [current[c] for c in reference.target_columns]
            table = quote_table(reference.table, self.target.dialect)
            if self.session.query(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", values):
                return True
        return False
