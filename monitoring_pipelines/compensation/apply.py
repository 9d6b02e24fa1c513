"""The statements of the forward path: one task, one transaction (R-404…R-406).

What belongs here: everything that is sent between START TRANSACTION and COMMIT, and the removal of our own duplicate.
What does not: which tasks, in which order, and when to stop (``runs``).

Reads of the task and of its outputs, INSERTs into the output table, one INSERT into the journal: nothing else. The one
DELETE is that of a row this very run inserted and the application inserted too (R-406).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.journal import Journal, JournalIds, JournalRow, image, image_hash
from monitoring_pipelines.compensation.model import ALREADY_PRESENT, COMMITTED, FAILED, ProposedRow, Task
from monitoring_pipelines.compensation.rows import at_apply
from monitoring_pipelines.compensation.session import (
    AccessDenied,
    ConnectionLost,
    DuplicateKey,
    Session,
    StatementFailed,
)
from monitoring_pipelines.compensation.stored import OutputReader, TaskReader

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.compensation.session import Statement
    from monitoring_pipelines.compensation.target import Target

#: Rows of a task that travel together.
_ROWS_AT_ONCE = 50
#: The server refused the row itself: NOT NULL, foreign key, CHECK, too long, out of range, a trigger's SIGNAL.
CONSTRAINT_ERRORS = {1048, 1216, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 1644, 3819, 4025}


@dataclass(frozen=True)
class RunFacts:
    """What every journal row of a run says."""

    run_id: str
    plan_id: str | None
    source_id: str
    actor: str


@dataclass
class Outcome:
    """What happened to one task."""

    state: str
    reason: str | None = None
    inserted: list[JournalRow] = field(default_factory=list)
    skipped: int = 0


class CommitUnknown(Exception):
    """The connection was lost at COMMIT; ``rows`` are what the journal would hold had it happened."""

    def __init__(self, rows: list[JournalRow], skipped: int) -> None:
        super().__init__("the answer to COMMIT was lost")
        self.rows, self.skipped = rows, skipped


@dataclass
class TaskApplier:
    """Inserts the rows of one task at a time."""

    session: Session
    journal: Journal
    target: Target
    tasks: dict[str, TaskReader]
    outputs: OutputReader
    facts: RunFacts
    clock: Clock
    only_if_empty: bool
    placeholders: frozenset[str] = frozenset()
    #: Tasks with a row that may not be inserted, and why (R-211).
    refused: dict[str, str] = field(default_factory=dict)
    ids: JournalIds = field(default_factory=JournalIds)

    def apply(self, task: Task, rows: Sequence[ProposedRow]) -> Outcome:
        """Insert the rows of ``task`` in one transaction (R-405, steps 1 to 6).

        Three trips to the server: lock and look, insert and read back, journal and COMMIT.

        Raises:
            CommitUnknown: The connection was lost at COMMIT.
            TryAgain, ConnectionLost, AccessDenied: The transaction was undone.
        """
        try:
            outcome = self._insert(task, rows)
            if outcome.state != COMMITTED:
                self.session.rollback()
                return outcome
            last = self.journal.add(outcome.inserted)
        except BaseException:
            self.session.rollback()
            raise
        self._commit(outcome, last)
        self.journal.committed(outcome.inserted)
        return outcome

    def _commit(self, outcome: Outcome, last: list[Statement]) -> None:
        """The journal rows and COMMIT; the server sends no COMMIT after a statement that failed."""
        try:
            self.session.several([*last, ("COMMIT", None)])
        except ConnectionLost as error:
            raise CommitUnknown(outcome.inserted, outcome.skipped) from error
        except StatementFailed:
            self.session.rollback()
            self.journal.void(outcome.inserted)
            raise

    def _insert(self, task: Task, rows: Sequence[ProposedRow]) -> Outcome:
        reader, keys, session = self.tasks[task.table], [task.task_key], self.session
        # 1. and 2. The task row, held until COMMIT, and its outputs, by a locking read.
        _, task_rows, output_rows = session.several([
            (session.begin_statement, None),
            (reader.sql(task.task_key) + session.for_update, None),
            (self.outputs.sql(keys) + session.for_share, None),
        ])  # fmt: skip
        stored = reader.task(task_rows, task.task_key)
        if stored is None or stored.deleted or stored.status != "succeeded" or stored.remote_id != task.remote_id:
            return Outcome(FAILED, "state_changed")
        found = self.outputs.outputs(output_rows, keys)
        if self.only_if_empty and any(o.valid and o.natural_key not in self.placeholders for o in found):
            return Outcome(ALREADY_PRESENT, "the task has a valid output by now")
        present = {output.natural_key for output in found}
        missing = [row for row in rows if row.natural_key not in present]
        if not missing:
            return Outcome(ALREADY_PRESENT, "all rows are in the table by now", skipped=len(rows))
        # 3. The rows were judged once more before the run's first insert; one bad row refuses its task.
        if task.task_key in self.refused:
            return Outcome(FAILED, f"validation_failed: {self.refused[task.task_key]}")
        # 4. Insert, each row under a savepoint.
        placed = self._insert_rows(missing)
        skipped = len(rows) - len(placed)
        if not placed:
            return Outcome(ALREADY_PRESENT, "a unique key of the table holds every row", skipped=skipped)
        # 5. What the server made of them, for the journal.
        return Outcome(COMMITTED, inserted=self._entries(task, placed), skipped=skipped)

    def _insert_rows(self, rows: Sequence[ProposedRow]) -> list[tuple[ProposedRow, dict[str, str | None]]]:
        """Insert rows and read each back; those a unique key of the table holds already are left out.

        Returns:
            Row, and the whole row as the server returns it (R-102).
        """
        placed: list[tuple[ProposedRow, dict[str, str | None]]] = []
        rest = list(rows)
        while rest:
            sent, failed = rest[:_ROWS_AT_ONCE], False
            try:
                answers = self.session.several([statement for row in sent for statement in self._statements(row)])
            except DuplicateKey as error:
                answers, failed = error.answers, True
                self.session.execute("ROLLBACK TO SAVEPOINT mp_row")
            done = len(answers) // 3
            for row, stored in zip(sent, answers[2::3], strict=False):
                if len(stored) != 1:
                    raise StatementFailed(f"{self.target.table}: the inserted row cannot be found by its primary key")
                placed.append((row, image(list(self.target.columns), stored[0])))
            rest = rest[done + failed :]
        return placed

    def _statements(self, row: ProposedRow) -> list[Statement]:
        """Savepoint, INSERT, and the whole row by the primary key it got."""
        values = at_apply(row.values, self.clock.now(), self.target)
        where, args = [], []
        for name in self.target.primary_key:
            given = values.get(name)
            where.append(f"{self.target.name(name)} = " + (self.session.insert_id_sql if given is None else "%s"))
            args += [] if given is None else [given]
        read = f"SELECT {self._columns} FROM {self.target.quoted} WHERE {' AND '.join(where)}"
        return [("SAVEPOINT mp_row", None), insert_of(self.target, values), (read, args)]

    @property
    def _columns(self) -> str:
        return ", ".join(self.target.name(c) for c in self.target.columns)

    def _entries(self, task: Task, placed: Sequence[tuple[ProposedRow, dict[str, str | None]]]) -> list[JournalRow]:
        """Journal rows of what was inserted."""
        now = self.clock.now()
        return [
            JournalRow(
                self.ids.next(now), self.facts.run_id, self.facts.plan_id, self.facts.source_id, "insert",
                self.target.table, {c: after[c] for c in self.target.primary_key}, task.task_key, row.natural_key,
                None, after, image_hash(after), self.facts.actor, now,
            )
            for row, after in placed
        ]  # fmt: skip

    def recount(self, committed: dict[str, list[JournalRow]]) -> tuple[list[JournalRow], int]:
        """After COMMIT: did the application insert the same outputs meanwhile (R-405, step 7)?

        Args:
            committed: Rows we inserted, by task.

        Returns:
            Our rows that are duplicates and later than the application's, and the number of those that are earlier.
        """
        keys = list(committed)
        places: dict[str, list[tuple[str, ...]]] = {}
        for output in self.outputs.outputs(self.session.query(self.outputs.sql(keys)), keys):
            places.setdefault(output.natural_key, []).append(output.pk)
        later, earlier = [], 0
        for entry in (entry for entries in committed.values() for entry in entries):
            ours = tuple(str(value) for value in entry.pk.values())
            same = places.get(entry.natural_key, [])
            others = [pk for pk in same if pk != ours]
            if ours not in same or not others:
                continue
            if any(self._is_later(ours, other) for other in others):
                later.append(entry)
            else:
                earlier += 1
        return later, earlier

    def _is_later(self, ours: tuple[str, ...], other: tuple[str, ...]) -> bool:
        """By auto-increment value; without one the order is not known, and it is ours that gives way."""
        if len(ours) == 1 and self.target.columns[self.target.primary_key[0]].auto_increment:
            return int(ours[0]) > int(other[0])
        return True

    def self_revert(self, entry: JournalRow) -> JournalRow | None:
        """Remove our own duplicate, in a transaction of its own (R-406); None when the account may not, or it changed."""
        now = self.clock.now()
        self.session.begin()
        try:
            before = read_row(self.session, self.target, dict(entry.pk), self.session.for_update)
            if before is None or image_hash(before) != entry.after_sha256:
                self.session.rollback()
                return None
            delete_row(self.session, self.target, entry.pk)
            removal = removal_of(entry, "self_revert", self.ids.next(now), self.facts, before, now)
            self.session.several(self.journal.add([removal]))
        except AccessDenied:
            self.session.rollback()
            return None
        except BaseException:
            self.session.rollback()
            raise
        self.session.commit()
        self.journal.committed([removal])
        return removal


def read_row(session: Session, target: Target, pk: dict[str, Any], lock: str = "") -> dict[str, str | None] | None:
    """The whole row under a primary key as column → text (R-102); None when there is none."""
    columns = list(target.columns)
    where = " AND ".join(f"{target.name(c)} = %s" for c in pk)
    listed = ", ".join(target.name(c) for c in columns)
    found = session.query(f"SELECT {listed} FROM {target.quoted} WHERE {where}{lock}", list(pk.values()))
    return image(columns, found[0]) if found else None


def insert_of(target: Target, values: dict[str, Any]) -> Statement:
    """The INSERT of one row."""
    columns, marks = ", ".join(target.name(c) for c in values), ", ".join(["%s"] * len(values))
    return f"INSERT INTO {target.quoted} ({columns}) VALUES ({marks})", list(values.values())


def delete_row(session: Session, target: Target, pk: Any) -> None:
    """Delete exactly the row under a primary key."""
    where = " AND ".join(f"{target.name(c)} = %s" for c in pk)
    touched = session.execute(f"DELETE FROM {target.quoted} WHERE {where}", list(pk.values()))
    if touched != 1:
        raise StatementFailed(f"{target.table}: a DELETE by primary key touched {touched} rows")


def removal_of(
    entry: JournalRow, op: str, journal_id: str, facts: RunFacts, before: dict[str, str | None], now: Any
) -> JournalRow:
    """The journal row of a removal, with the before image (R-704)."""
    return JournalRow(
        journal_id, facts.run_id, entry.plan_id, entry.source_id, op, entry.target_table, entry.pk, entry.task_key,
        entry.natural_key, before, None, None, facts.actor, now,
    )  # fmt: skip
