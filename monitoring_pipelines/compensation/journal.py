"""The journal: what was written to a user's table, beside that table and in the same transaction (R-101, R-102, R-420).

What belongs here: its two forms, its DDL, images and hashes. What does not: when a row is written (``apply``,
``rollback``).

``MysqlJournal`` is a table on the same server. ``WalJournal`` is for teams that allow no schema of ours there: a file
whose intents are flushed before the commit and reconciled with the table after a crash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from monitoring_pipelines.compensation.model import RepairRefused, sha256_of
from monitoring_pipelines.state.types import canonical_json

if TYPE_CHECKING:
    from monitoring_pipelines.compensation.session import Session, Statement
    from monitoring_pipelines.compensation.stored import OutputReader
    from monitoring_pipelines.compensation.target import Target
    from monitoring_pipelines.config.schema import Settings

#: Name of the table where a file has no schemas.
SQLITE_TABLE = "monitoring_pipelines_repair_journal"
_COLUMNS = (
    "journal_id", "run_id", "plan_id", "source_id", "op", "target_table", "pk", "task_key", "natural_key",
    "before_image", "after_image", "after_sha256", "actor", "at", "state", "rolled_back_by",
)  # fmt: skip


@dataclass(frozen=True)
class JournalRow:
    """One row of the journal. ``pk``, ``before`` and ``after`` are maps of column to the server's text."""

    journal_id: str
    run_id: str
    plan_id: str | None
    source_id: str
    op: str
    target_table: str
    pk: Mapping[str, str | None]
    task_key: str
    natural_key: str
    before: Mapping[str, str | None] | None
    after: Mapping[str, str | None] | None
    after_sha256: str | None
    actor: str
    at: datetime
    state: str = "committed"
    rolled_back_by: str | None = None

    def record(self) -> dict[str, Any]:
        """The row for the mirror in the state store."""
        return dict(vars(self))


def image(columns: Sequence[str], row: Sequence[Any]) -> dict[str, str | None]:
    """A whole row as the server returned it, column → text; binary values in hexadecimal (R-102)."""
    return {name: _text(value) for name, value in zip(columns, row, strict=True)}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return "0x" + bytes(value).hex() if isinstance(value, (bytes, bytearray)) else str(value)


def image_hash(row: Mapping[str, str | None]) -> str:
    """SHA-256 of the canonical JSON of a whole row (R-102)."""
    return sha256_of(row)


class Journal(Protocol):
    """Where journal rows are kept. ``add`` comes before the COMMIT of the rows it describes."""

    def add(self, rows: Sequence[JournalRow]) -> list[Statement]:
        """Add rows: the statements that do so within the transaction; a file has none and is written at once."""
        ...

    def committed(self, rows: Sequence[JournalRow]) -> None:
        """Their transaction is committed."""
        ...

    def void(self, rows: Sequence[JournalRow]) -> None:
        """Their transaction was rolled back."""
        ...

    def is_committed(self, rows: Sequence[JournalRow]) -> bool:
        """Whether a transaction whose COMMIT was not answered has happened."""
        ...

    def rows(
        self, *, plan_id: str | None = None, run_id: str | None = None, task_keys: Sequence[str] | None = None
    ) -> list[JournalRow]:
        """Committed rows of a selection, oldest first."""
        ...

    def mark_rolled_back(self, rows: Sequence[JournalRow], run_id: str) -> None:
        """Note on insert rows which run removed what they describe."""
        ...


class MysqlJournal:
    """The journal as a table on the source's server (in the file, for SQLite)."""

    def __init__(self, session: Session, settings: Settings, source_id: str) -> None:
        self._session, self._source_id = session, source_id
        self._table = table_name(settings, session.dialect)

    def add(self, rows: Sequence[JournalRow]) -> list[Statement]:
        """See ``Journal``: one INSERT for all rows of a task."""
        one = f"({', '.join(['%s'] * len(_COLUMNS))})"
        sql = f"INSERT INTO {self._table} ({', '.join(_COLUMNS)}) VALUES {', '.join([one] * len(rows))}"
        return [(sql, [value for row in rows for value in _values(row)])]

    def committed(self, rows: Sequence[JournalRow]) -> None:
        """Nothing to do: the rows were committed together with what they describe."""

    def void(self, rows: Sequence[JournalRow]) -> None:
        """Nothing to do: the rows were rolled back together with what they describe."""

    def is_committed(self, rows: Sequence[JournalRow]) -> bool:
        """See ``Journal``. The locking read waits for a COMMIT that the server is still working on."""
        self._session.begin()
        found = self._session.query(
            f"SELECT journal_id FROM {self._table} WHERE journal_id = %s{self._session.for_update}",
            [rows[0].journal_id],
        )
        self._session.rollback()
        return bool(found)

    def rows(
        self, *, plan_id: str | None = None, run_id: str | None = None, task_keys: Sequence[str] | None = None
    ) -> list[JournalRow]:
        """See ``Journal``."""
        tests, args = ["source_id = %s", "state = 'committed'"], [self._source_id]
        if plan_id is not None:
            tests, args = [*tests, "plan_id = %s"], [*args, plan_id]
        if run_id is not None:
            tests, args = [*tests, "run_id = %s"], [*args, run_id]
        found = [
            _row(values)
            for values in self._session.query(
                f"SELECT {', '.join(_COLUMNS)} FROM {self._table} WHERE {' AND '.join(tests)} ORDER BY journal_id", args
            )
        ]
        return _of_tasks(found, task_keys)

    def mark_rolled_back(self, rows: Sequence[JournalRow], run_id: str) -> None:
        """See ``Journal``."""
        for row in rows:
            self._session.execute(
                f"UPDATE {self._table} SET rolled_back_by = %s WHERE journal_id = %s", [run_id, row.journal_id]
            )

    @property
    def probe(self) -> str:
        """A statement that needs the right to add rows and adds none."""
        return f"EXPLAIN INSERT INTO {self._table} (journal_id) VALUES ('')"

    def require(self) -> None:
        """RepairRefused when the journal was not created (``repair init``) or may not be used."""
        from monitoring_pipelines.compensation.session import StatementFailed

        try:
            self._session.query(f"SELECT journal_id FROM {self._table} WHERE journal_id = ''")
        except StatementFailed as error:
            raise RepairRefused(
                "journal_missing", f"the journal {self._table} cannot be used", "run `mp repair init` once",
                cause=error.message,
            ) from error  # fmt: skip


class WalJournal:
    """The journal as a file of the product (``journal: wal``): intent, commit, committed (R-420)."""

    def __init__(self, path: Path, source_id: str) -> None:
        self._path, self._source_id = path, source_id
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, rows: Sequence[JournalRow]) -> list[Statement]:
        """See ``Journal``: the intents are on disk before the caller commits."""
        self._append([{"intent": row.record() | {"state": "intent"}} for row in rows])
        return []

    def committed(self, rows: Sequence[JournalRow]) -> None:
        """See ``Journal``."""
        self._append([{"committed": [row.journal_id for row in rows]}])

    def void(self, rows: Sequence[JournalRow]) -> None:
        """See ``Journal``."""
        self._append([{"void": [row.journal_id for row in rows]}])

    def is_committed(self, rows: Sequence[JournalRow]) -> bool:
        """Not known to a file; ``reconcile`` asks the table."""
        return False

    def rows(
        self, *, plan_id: str | None = None, run_id: str | None = None, task_keys: Sequence[str] | None = None
    ) -> list[JournalRow]:
        """See ``Journal``."""
        found = [
            row
            for row in self._replay().values()
            if row.state == "committed"
            and (plan_id is None or row.plan_id == plan_id)
            and (run_id is None or row.run_id == run_id)
        ]
        return _of_tasks(found, task_keys)

    def mark_rolled_back(self, rows: Sequence[JournalRow], run_id: str) -> None:
        """See ``Journal``."""
        self._append([{"rolled_back": [row.journal_id for row in rows], "by": run_id}])

    def open_intents(self) -> list[JournalRow]:
        """Intents of which nothing more is known: the process died around a commit."""
        return [row for row in self._replay().values() if row.state == "intent"]

    def _append(self, records: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(canonical_json(record) + "\n" for record in records)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _replay(self) -> dict[str, JournalRow]:
        """All rows by id in their present state; a torn last line is the write a crash interrupted."""
        known: dict[str, JournalRow] = {}
        if not self._path.exists():
            return known
        for line in self._path.read_text("utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if "intent" in record:
                row = record["intent"]
                known[row["journal_id"]] = JournalRow(**(row | {"at": _instant(row["at"])}))
            for state in ("committed", "void"):
                for journal_id in record.get(state, ()):
                    known[journal_id] = replace(known[journal_id], state=state)
            for journal_id in record.get("rolled_back", ()):
                known[journal_id] = replace(known[journal_id], rolled_back_by=record["by"])
        return known


def open_journal(session: Session, settings: Settings, source_id: str) -> MysqlJournal | WalJournal:
    """The journal of a source, ready to be written.

    Raises:
        RepairRefused: ``journal_missing``.
    """
    if settings.repair.journal == "wal":
        return WalJournal(settings.data_path / "repair_wal" / f"{source_id}.jsonl", source_id)
    journal = MysqlJournal(session, settings, source_id)
    journal.require()
    return journal


def reconcile(journal: WalJournal, session: Session, target: Target, outputs: OutputReader) -> int:
    """Decide open intents by looking at the table (R-420): present → committed, absent → void; how many there were.

    A row counts as present with its after image, or, if somebody changed it since, with its natural key.
    """
    columns = list(target.columns)
    listed = ", ".join(target.name(c) for c in columns)
    open_rows = journal.open_intents()
    for row in open_rows:
        where = " AND ".join(f"{target.name(c)} = %s" for c in row.pk)
        # The locking read waits for a COMMIT that the server is still working on.
        session.begin()
        found = session.query(
            f"SELECT {listed} FROM {target.quoted} WHERE {where}{session.for_share}", list(row.pk.values())
        )
        stored = outputs.outputs(session.query(outputs.sql([row.task_key])), [row.task_key])
        session.rollback()
        expected = row.after_sha256 or image_hash(row.before or {})
        same_key = any(o.pk == tuple(row.pk.values()) and o.natural_key == row.natural_key for o in stored)
        present = bool(found) and (image_hash(image(columns, found[0])) == expected or same_key)
        happened = present if row.op == "insert" else not found
        (journal.committed if happened else journal.void)([row])
    return len(open_rows)


class JournalIds:
    """Ids of journal rows: ULIDs that grow even within one millisecond, so that their order is the order of writing."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, now: datetime) -> str:
        """A new id, greater than all before it."""
        from ulid import ULID

        from monitoring_pipelines.state.ids import new_id

        self._last = max(int(ULID.from_str(new_id(now))), self._last + 1)
        return str(ULID.from_int(self._last))


def table_name(settings: Settings, dialect: str) -> str:
    """The journal table as SQL."""
    return f'"{SQLITE_TABLE}"' if dialect == "sqlite" else f"`{settings.repair.journal_schema}`.`repair_journal`"


def ddl(settings: Settings, dialect: str) -> list[str]:
    """Statements that create the journal (``repair init``, R-101)."""
    table = table_name(settings, dialect)
    if dialect == "sqlite":
        columns = ", ".join(f"{name} TEXT" + (" PRIMARY KEY" if name == "journal_id" else "") for name in _COLUMNS)
        return [
            f"CREATE TABLE IF NOT EXISTS {table} ({columns})",
            f'CREATE INDEX IF NOT EXISTS "ix_{SQLITE_TABLE}_plan_id" ON {table} (plan_id)',
        ]
    schema = settings.repair.journal_schema
    return [
        f"CREATE DATABASE IF NOT EXISTS `{schema}` DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        f"""CREATE TABLE IF NOT EXISTS {table} (
  journal_id char(26) NOT NULL PRIMARY KEY,
  run_id char(26) NOT NULL,
  plan_id char(26),
  source_id varchar(32) NOT NULL,
  op varchar(16) NOT NULL,
  target_table varchar(130) NOT NULL,
  pk text NOT NULL,
  task_key text NOT NULL,
  natural_key char(64) NOT NULL,
  before_image longtext,
  after_image longtext,
  after_sha256 char(64),
  actor varchar(191) NOT NULL,
  at datetime(6) NOT NULL,
  state varchar(16) NOT NULL,
  rolled_back_by char(26),
  KEY ix_repair_journal_run_id (run_id),
  KEY ix_repair_journal_plan_id (plan_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin""",
    ]


def _values(row: JournalRow) -> list[Any]:
    return [
        row.journal_id, row.run_id, row.plan_id, row.source_id, row.op, row.target_table, canonical_json(row.pk),
        row.task_key, row.natural_key, _json(row.before), _json(row.after), row.after_sha256, row.actor,
        row.at.isoformat(sep=" ", timespec="microseconds"), row.state, row.rolled_back_by,
    ]  # fmt: skip


def _json(value: Mapping[str, str | None] | None) -> str | None:
    return None if value is None else canonical_json(value)


def _row(values: Sequence[Any]) -> JournalRow:
    named = dict(zip(_COLUMNS, values, strict=True))
    before, after = named.pop("before_image"), named.pop("after_image")
    return JournalRow(**(named | {
        "pk": json.loads(named["pk"]), "at": _instant(named["at"]),
        "before": None if before is None else json.loads(before),
        "after": None if after is None else json.loads(after),
    }))  # fmt: skip


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.rstrip("Z"))


def _of_tasks(rows: list[JournalRow], task_keys: Sequence[str] | None) -> list[JournalRow]:
    if task_keys is None:
        return rows
    wanted = set(task_keys)
    return [row for row in rows if row.task_key in wanted]
