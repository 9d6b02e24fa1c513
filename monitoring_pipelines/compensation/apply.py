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
from monitoring_pipelines.compensation.session import AccessDenied, DuplicateKey, Session, StatementFailed
from monitoring_pipelines.compensation.stored import OutputReader, TaskReader

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.compensation.target import Target

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

        Raises:
            CommitUnknown: The connection was lost at COMMIT.
            TryAgain, ConnectionLost, AccessDenied: The transaction was undone.
        """
        self.session.begin()
        try:
            outcome = self._insert(task, rows)
            if outcome.state != COMMITTED:
                self.session.rollback()
                return outcome
            self.journal.write(outcome.inserted)
        except BaseException:
            self.session.rollback()
            raise
        self._commit(outcome)
        self.journal.committed(outcome.inserted)
        return outcome

    def _commit(self, outcome: Outcome) -> None:
        from monitoring_pipelines.compensation.session import ConnectionLost

        try:
            self.session.commit()
        except ConnectionLost as error:
            raise CommitUnknown(outcome.inserted, outcome.skipped) from error
        except StatementFailed:
            self.session.rollback()
            self.journal.void(outcome.inserted)
            raise

    def _insert(self, task: Task, rows: Sequence[ProposedRow]) -> Outcome:
        # 1. The task row, held until COMMIT: is it still what the plan saw?
        reader = self.tasks[task.table]
        stored = reader.task(self.session.query(reader.sql(task.task_key) + self.session.for_update), task.task_key)
        if stored is None or stored.deleted or stored.status != "succeeded" or stored.remote_id != task.remote_id:
            return Outcome(FAILED, "state_changed")
        # 2. Its outputs, by a locking read: what is there already?
        keys = [task.task_key]
        found = self.outputs.outputs(self.session.query(self.outputs.sql(keys) + self.session.for_share), keys)
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
        placed = [(row, pk) for row in missing if (pk := self._insert_row(row)) is not None]
        skipped = len(rows) - len(placed)
        if not placed:
            return Outcome(ALREADY_PRESENT, "a unique key of the table holds every row", skipped=skipped)
        # 5. What the server made of them, for the journal.
        return Outcome(COMMITTED, inserted=self._entries(task, placed), skipped=skipped)

    def _insert_row(self, row: ProposedRow) -> tuple[str, ...] | None:
        """One INSERT; the primary key, or None when a unique key holds the row already."""
        values = at_apply(row.values, self.clock.now(), self.target)
        columns = ", ".join(self.target.name(c) for c in values)
        marks = ", ".join(["%s"] * len(values))
        self.session.execute("SAVEPOINT mp_row")
        try:
            self.session.execute(
                f"INSERT INTO {self.target.quoted} ({columns}) VALUES ({marks})", list(values.values())
            )
        except DuplicateKey:
            self.session.execute("ROLLBACK TO SAVEPOINT mp_row")
            return None
        return tuple(
            str(values[name] if values.get(name) is not None else self.session.insert_id())
            for name in self.target.primary_key
        )

    def _entries(self, task: Task, placed: Sequence[tuple[ProposedRow, tuple[str, ...]]]) -> list[JournalRow]:
        """Journal rows with the whole rows as the server returns them (R-102)."""
        stored = read_rows(self.session, self.target, [pk for _, pk in placed])
        now = self.clock.now()
        entries = []
        for row, pk in placed:
            after = stored.get(pk)
            if after is None:
                raise StatementFailed(f"{self.target.table}: the inserted row cannot be found by its primary key")
            entries.append(JournalRow(
                self.ids.next(now), self.facts.run_id, self.facts.plan_id, self.facts.source_id, "insert",
                self.target.table, {c: after[c] for c in self.target.primary_key}, task.task_key, row.natural_key,
                None, after, image_hash(after), self.facts.actor, now,
            ))  # fmt: skip
        return entries

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
            self.journal.write([removal])
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


def read_rows(
    session: Session, target: Target, keys: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], dict[str, str | None]]:
    """Several whole rows by primary key."""
    columns = list(target.columns)
    one = "(" + " AND ".join(f"{target.name(c)} = %s" for c in target.primary_key) + ")"
    listed = ", ".join(target.name(c) for c in columns)
    found = session.query(
        f"SELECT {listed} FROM {target.quoted} WHERE {' OR '.join([one] * len(keys))}", [v for key in keys for v in key]
    )
    rows = [image(columns, row) for row in found]
    return {tuple(str(row[c]) for c in target.primary_key): row for row in rows}


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
