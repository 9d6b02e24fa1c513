"""Making one differing range equal: read it, write what is missing, delete what is gone (E-609, E-610).

What belongs here: the work on one range. What does not: which ranges differ and the proof (``reconcile``), and how a
row is converted and stored (``convert``, ``warehouse.ingest``).

The range is read in one statement, so its rows belong to one instant, and every row carries its digest: after the
write, the store's rows of the range must be exactly the rows that were read. Where they are not (somebody else wrote
in between), the range is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.config.expr_sql import quote_text
from monitoring_pipelines.entities import entities
from monitoring_pipelines.source.bulk import read_arrow
from monitoring_pipelines.source.convert import Staged, convert, create_stage
from monitoring_pipelines.source.digest import DIGEST_ALIAS
from monitoring_pipelines.source.load import LoadGuard
from monitoring_pipelines.source.lookup import KEYS_PER_QUERY
from monitoring_pipelines.source.ranges import Range, Scope
from monitoring_pipelines.warehouse.connect import WarehouseMissing, transaction
from monitoring_pipelines.warehouse.ingest import apply_batch, mark_deleted

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings
    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.warehouse.connect import Warehouse

#: How often a range that others write to at the same time is read again.
PASSES = 3
#: A range of so few rows is read over the open connection: quicker than a fast reader that must log in first.
SMALL_ROWS = 5_000
#: Rows of one transaction: the warehouse lock is held for a fraction of a second. Where the store has nothing, whole
#: batches are written: opening and merging the log cost as much as ten thousand rows.
WRITE_ROWS = 20_000
WRITE_ROWS_FIRST = 60_000
_STAGE, _FOUND = "stage_rec", "stage_found"


@dataclass
class RangeOutcome:
    """What a range came to. ``rows_rejected``: rows at the source that have no key and cannot be stored."""

    equal: bool = False
    source_rows: int = 0
    rows_written: int = 0
    rows_deleted: int = 0
    rows_rejected: int = 0
    detail: str = ""


@dataclass
class RangeRepair:
    """The repair of ranges of one table."""

    settings: Settings
    source: SourceSettings
    warehouse: Warehouse
    clock: Clock
    scope: Scope
    connection: Callable[[], AbstractContextManager[SourceConnection]]
    guard: LoadGuard
    unique_key: bool
    #: Keys whose stored row gave way to no other: it is an older row of an immutable entity that the source replaced.
    refused: list[int] = field(default_factory=list, init=False)
    #: When the reading of the range began.
    read_at: datetime = field(default=datetime(1970, 1, 1), init=False)

    def run(self, wanted: Range, expected: int | None, *, empty: bool = False) -> RangeOutcome:
        """Repair ``wanted``; at most ``PASSES`` times if others write to it meanwhile.

        Args:
            wanted: The range.
            expected: Rows the source had there; None = unknown.
            empty: The store had nothing there. Rows written since make the result differ, and another pass sees them.
        """
        total = RangeOutcome()
        for number in range(PASSES):
            small = expected is not None and expected <= SMALL_ROWS
            once = self._pass(wanted, small=small, empty=empty and number == 0)
            total.rows_written += once.rows_written
            total.rows_deleted += once.rows_deleted
            total.equal, total.source_rows, total.detail = once.equal, once.source_rows, once.detail
            total.rows_rejected = once.rows_rejected
            if total.equal:
                break
        return total

    def _pass(self, wanted: Range, *, small: bool, empty: bool) -> RangeOutcome:
        import duckdb

        outcome = RangeOutcome()
        self._drop_refused()
        with duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "600MB"}) as memory:
            self._remember_store(memory, wanted, empty=empty)
            memory.execute("CREATE TABLE seen (d BIGINT)")
            memory.execute("CREATE TABLE elsewhere (key_hash UBIGINT)")
            # Keys of rows that are written in this pass.
            memory.execute("CREATE TABLE written (key_hash UBIGINT, rejected BOOLEAN)")
            with self.connection() as connection:
                self.guard.wait(connection)
                most = min(self.settings.extract.batch_rows, WRITE_ROWS_FIRST if empty else WRITE_ROWS)
                rest = self._read(memory, connection, wanted, outcome, small=small, most=most)
                found = self._look_up_stale(memory, connection)
            self._finish(memory, wanted, [s for s in (rest, found) if s is not None and s.rows], outcome)
        return outcome

    def _drop_refused(self) -> None:
        """The source replaced these rows under new ids; as deleted ones they give way."""
        if self.refused:
            plan = self.scope.plan
            with self.warehouse.writer("reconcile: replaced rows") as con, transaction(con):
                mark_deleted(con, plan.entity, self.source.id, plan.table, self.refused, "hard", self.clock.now())
            self.refused = []

    # -- the store's rows ---------------------------------------------------------------------------------------------

    def _remember_store(self, memory: duckdb.DuckDBPyConnection, wanted: Range, *, empty: bool) -> None:
        """What the store has of the range before the source is read: a source read later is never older."""
        key = entities()[self.scope.plan.entity].key
        if empty:
            parts = ", ".join(f"k{i} VARCHAR" for i in range(len(key)))
            memory.execute(f"CREATE TABLE before (key_hash UBIGINT, d BIGINT, row_id BIGINT, {parts}, t TIMESTAMP)")
            return
        at = self._time_of_row()
        names = ", ".join(f'"{name}"::VARCHAR AS k{i}' for i, name in enumerate(key))
        sql = (
            f"SELECT key_hash, src_digest AS d, row_id, {names}, {at} AS t FROM {self.scope.store_table} "
            f"WHERE {self.scope.store_condition(wanted)}"
        )
        try:
            with self.warehouse.reader("reconcile: range") as con:
                rows = con.execute(sql).to_arrow_table()
        except WarehouseMissing:
            with self.warehouse.writer("reconcile: first use") as con:
                rows = con.execute(sql).to_arrow_table()
        memory.register("rows_before", rows)
        memory.execute("CREATE TABLE before AS SELECT * FROM rows_before")
        memory.unregister("rows_before")

    def _time_of_row(self) -> str:
        name = entities()[self.scope.plan.entity].time_column
        return f'coalesce("{name}", first_seen_at)' if name else "first_seen_at"

    # -- the source's rows --------------------------------------------------------------------------------------------

    def _read(
        self, memory: duckdb.DuckDBPyConnection, connection: SourceConnection, wanted: Range, outcome: RangeOutcome,
        *, small: bool, most: int,
    ) -> Staged | None:  # fmt: skip
        """Stream the range. Rows the store lacks in this version are written ``most`` at a time; the last are returned."""
        plan, extract = self.scope.plan, self.settings.extract
        create_stage(memory, plan, _STAGE)
        # Before the statement: whoever writes a row later than this read a version that is not older (E-602).
        self.read_at = read_at = self.clock.now()
        sql = plan.render(self.scope.source_conditions(wanted))
        with read_arrow(
            self.source.read_dsn(), sql, columns=plan.stage_columns(), limit_s=extract.query_timeout_s,
            batch_rows=min(most, WRITE_ROWS), connection=connection, small=small,
        ) as read:  # fmt: skip
            for batch in read:
                outcome.source_rows += batch.num_rows
                memory.register("batch", batch)
                memory.execute(f"INSERT INTO seen SELECT {DIGEST_ALIAS} FROM batch")
                memory.execute(f'INSERT INTO "{_STAGE}" BY NAME SELECT * FROM batch {self._lacking(memory)}')
                memory.unregister("batch")
                if self._staged(memory) >= most:
                    staged = self._typed(memory, _STAGE, read_at)
                    with self._open([(memory, staged)]) as con, transaction(con):
                        apply_batch(con, staged, self.clock.now())
                    outcome.rows_written += staged.rows
        return self._typed(memory, _STAGE, read_at) if self._staged(memory) else None

    def _lacking(self, memory: duckdb.DuckDBPyConnection) -> str:
        """Which rows of ``batch`` are staged: those the store lacks in this version.

        Where keys may repeat, all rows of a batch that lacks one are, so that the same of them wins every time.
        """
        lacking = f"WHERE {DIGEST_ALIAS} NOT IN (SELECT d FROM before WHERE d IS NOT NULL)"
        if self.unique_key:
            return lacking
        found = memory.execute(f"SELECT count(*) FROM batch {lacking}").fetchone()
        return "" if found and found[0] else "WHERE false"

    @staticmethod
    def _staged(memory: duckdb.DuckDBPyConnection) -> int:
        row = memory.execute(f'SELECT count(*) FROM "{_STAGE}"').fetchone()
        return int(row[0]) if row else 0

    def _convert(self, memory: duckdb.DuckDBPyConnection, stage: str, read_at: datetime) -> Staged:
        # "No older id has this key" skips history, but is not true of rows that the source replaced (REPLACE INTO).
        before = memory.execute("SELECT count(*) FROM before").fetchone()
        return convert(
            memory, self.scope.plan, self.source, stage, read_at, self.settings.extract.future_tolerance_s,
            unique_key=self.unique_key and before == (0,),
        )  # fmt: skip

    def _typed(self, memory: duckdb.DuckDBPyConnection, stage: str, read_at: datetime) -> Staged:
        """The typed rows of the stage, noted as written; the stage is empty afterwards."""
        staged = self._convert(memory, stage, read_at)
        memory.execute(f'TRUNCATE "{stage}"')
        rejected = " OR ".join(f'"{name}" IS NULL' for name in entities()[staged.entity].key)
        memory.execute(f'INSERT INTO written SELECT key_hash, {rejected} FROM "{staged.relation}"')
        return staged

    @contextmanager
    def _open(self, batches: Sequence[tuple[duckdb.DuckDBPyConnection, Staged]]) -> Iterator[duckdb.DuckDBPyConnection]:
        """The warehouse, with the typed rows in temporary tables of it; all else is done before the lock is taken."""
        tables = []
        for memory, staged in batches:
            tables.append((staged.relation, memory.execute(f'SELECT * FROM "{staged.relation}"').to_arrow_table()))
            # Every row is held in one place at a time: this is where a load needs the most memory.
            memory.execute(f'DROP TABLE "{staged.relation}"')
        with self.warehouse.writer(f"reconcile: {self.scope.plan.table}") as con:
            while tables:
                relation, rows = tables.pop()
                con.register("typed_rows", rows)
                con.execute(f'CREATE OR REPLACE TEMP TABLE "{relation}" AS SELECT * FROM typed_rows')
                con.unregister("typed_rows")
                del rows
            yield con

    # -- rows the range no longer has ---------------------------------------------------------------------------------

    def _look_up_stale(self, memory: duckdb.DuckDBPyConnection, connection: SourceConnection) -> Staged | None:
        """Type the rows that left the range but still exist (time or id changed); list the others in ``gone``."""
        memory.execute(
            "CREATE TABLE stale AS SELECT * FROM before WHERE coalesce(d NOT IN (SELECT d FROM seen), true) "
            "AND key_hash NOT IN (SELECT key_hash FROM written WHERE key_hash IS NOT NULL)"
        )
        memory.execute("CREATE TABLE gone AS SELECT * FROM stale")
        keys = memory.execute("SELECT row_id, COLUMNS('k[0-9]+') FROM stale").fetchall()
        if not keys or self._key_has_time():
            return None
        read_at = self.clock.now()
        create_stage(memory, self.scope.plan, _FOUND)
        for at in range(0, len(keys), KEYS_PER_QUERY):
            condition = key_condition(self.scope, keys[at : at + KEYS_PER_QUERY])
            sql = self.scope.plan.render([condition])
            with read_arrow(
                self.source.read_dsn(), sql, columns=self.scope.plan.stage_columns(),
                limit_s=self.settings.extract.query_timeout_s, connection=connection, small=True,
            ) as read:  # fmt: skip
                for batch in read:
                    memory.register("batch", batch)
                    memory.execute(f'INSERT INTO "{_FOUND}" BY NAME SELECT * FROM batch')
                    memory.unregister("batch")
        staged = self._convert(memory, _FOUND, read_at)
        # The server compares text by its collation: only equal keys count (E-401).
        typed = f'"{staged.relation}"'
        memory.execute(f"DELETE FROM {typed} WHERE key_hash NOT IN (SELECT key_hash FROM stale)")
        memory.execute(f"INSERT INTO elsewhere SELECT key_hash FROM {typed}")
        memory.execute("DELETE FROM gone WHERE key_hash IN (SELECT key_hash FROM elsewhere)")
        memory.execute(f"DELETE FROM {typed} WHERE (key_hash, src_digest) IN (SELECT (key_hash, d) FROM stale)")
        left = memory.execute(f"SELECT count(*) FROM {typed}").fetchone()
        return replace(staged, rows=left[0] if left else 0)

    def _key_has_time(self) -> bool:
        """A key that contains the time can be in no other range."""
        entity = entities()[self.scope.plan.entity]
        return entity.time_column in entity.key

    def _finish(
        self, memory: duckdb.DuckDBPyConnection, wanted: Range, batches: list[Staged], outcome: RangeOutcome
    ) -> None:
        """Write what is left, delete what is gone and judge, in one transaction."""
        plan = self.scope.plan
        gone = self._gone(memory)
        if not batches and not gone and not outcome.rows_written:
            outcome.equal = True
            return
        now = self.clock.now()
        with self._open([(memory, staged) for staged in batches]) as con, transaction(con):
            for staged in batches:
                apply_batch(con, staged, now)
                outcome.rows_written += staged.rows
            for reason, keys in gone.items():
                outcome.rows_deleted += mark_deleted(
                    con, plan.entity, self.source.id, plan.table, keys, reason, self.read_at
                )
            self._judge(con, memory, wanted, outcome)

    def _gone(self, memory: duckdb.DuckDBPyConnection) -> dict[str, list[int]]:
        """Hashes of the keys the source no longer has, by reason (E-610)."""
        days = self.scope.plan.mapping.retention_days or self.source.retention_days
        limit = self.clock.now() - timedelta(days=days) if days else datetime(1, 1, 1)
        gone: dict[str, list[int]] = {}
        for reason, key in memory.execute(
            "SELECT CASE WHEN t < ? THEN 'retention' ELSE 'hard' END, key_hash FROM gone", [limit]
        ).fetchall():
            gone.setdefault(reason, []).append(key)
        return gone

    # -- judging ------------------------------------------------------------------------------------------------------

    def _judge(
        self, con: duckdb.DuckDBPyConnection, memory: duckdb.DuckDBPyConnection, wanted: Range, outcome: RangeOutcome
    ) -> None:
        """Equal when the store has every row that was read, in that version, and no other row in the range."""
        seen = memory.execute("SELECT d FROM seen").to_arrow_table()
        written = memory.execute("SELECT key_hash FROM written WHERE NOT rejected").to_arrow_table()
        elsewhere = memory.execute("SELECT key_hash FROM elsewhere").to_arrow_table()
        condition = self.scope.store_condition(wanted)
        con.register("seen", seen)
        con.register("written", written)
        con.register("elsewhere", elsewhere)
        # Of several rows with one key the store keeps one: any that the source has now is right.
        lacking = con.execute(
            "SELECT w.key_hash FROM (SELECT DISTINCT key_hash FROM written) AS w WHERE w.key_hash NOT IN (SELECT "
            f"key_hash FROM {self.scope.store_table} WHERE key_hash IN (SELECT key_hash FROM written) AND "
            f"src_digest IN (SELECT d FROM seen) AND {self.scope.store_condition(Range())})"
        ).fetchall()
        extra = con.execute(
            f"SELECT count(*) FROM {self.scope.store_table} WHERE {condition} "
            "AND coalesce(src_digest NOT IN (SELECT d FROM seen), true) "
            "AND key_hash NOT IN (SELECT key_hash FROM elsewhere)"
        ).fetchone()
        rejected = memory.execute("SELECT count(*) FILTER (rejected) FROM written").fetchone()
        outcome.rows_rejected = rejected[0] if rejected else 0
        surplus = extra[0] if extra else 0
        outcome.equal = not lacking and not surplus
        if not outcome.equal:
            outcome.detail = f"{len(lacking)} rows read but not stored as read, {surplus} stored but not at the source"
        if not entities()[self.scope.plan.entity].mutable:
            self.refused = [row[0] for row in lacking]


def key_condition(scope: Scope, keys: Sequence[Sequence[Any]]) -> str:
    """SQL condition at the source for rows with the given ``(row_id, key parts…)``; a superset under its collation."""
    plan = scope.plan
    dialect = plan.dialect
    names = entities()[plan.entity].key
    if plan.row_id_sql is not None and not plan.key_sql and all(key[0] is not None for key in keys):
        # The key is computed, so no index serves it; the id does, and the key is compared again afterwards.
        return f"{plan.row_id_sql} in ({', '.join(str(int(key[0])) for key in keys)})"
    columns = plan.key_sql or tuple(f.sql for f in (plan.field(name) for name in names) if f is not None)
    if len(columns) == 1:
        return f"{columns[0]} in ({', '.join(quote_text(key[1], dialect) for key in keys)})"
    tuples = (
        " and ".join(f"{c} = {quote_text(v, dialect)}" for c, v in zip(columns, key[1:], strict=True)) for key in keys
    )
    return "(" + " or ".join(f"({t})" for t in tuples) + ")"
