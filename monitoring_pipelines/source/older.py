"""Rows from before the loaded history that reach into it: those not final, and those that ended inside it (M-802, E-606).

What belongs here: which of them the first load asks for. What does not: the days of the history (``reconcile``), reading and
storing a range of rows (``repair_range``: these take the same path), and reading open rows again by key (``tail``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from monitoring_pipelines.config.expr_sql import quote_text
from monitoring_pipelines.entities import OPEN_WORDS, entities
from monitoring_pipelines.source.bulk import QueryTooSlow
from monitoring_pipelines.source.convert import END_OF_TIME, ENUMERATED, EPOCH, text_literal
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.source.load import LoadGuard
from monitoring_pipelines.source.ranges import Range, Scope
from monitoring_pipelines.source.repair_range import RangeRepair

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings
    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.source.inspect import TableInfo
    from monitoring_pipelines.source.select import SelectPlan
    from monitoring_pipelines.warehouse.connect import Warehouse

#: When a row of the entity became final.
ENDS = {"task": "ended_at", "job_run": "ended_at", "notification": "sent_at"}
#: A larger table is not searched for ends that no index finds.
SCANNED_ROWS = 50_000


def open_rows(entity: str) -> str:
    """Condition of the rows the store believes not final (E-606), in DuckDB SQL."""
    words = ", ".join(text_literal(word) for word in OPEN_WORDS[entity])
    return f"{entities()[entity].open_column} IN ({words})"


@dataclass(frozen=True)
class OlderRows(Scope):
    """Rows of a table that also fulfil a condition, written for either side."""

    at_source: str = ""
    in_store: str = ""

    def source_conditions(self, wanted: Range) -> list[str]:
        """As of the whole table, and the further condition."""
        return [*super().source_conditions(wanted), self.at_source]

    def store_condition(self, wanted: Range) -> str:
        """The same in DuckDB SQL."""
        return f"{super().store_condition(wanted)} AND {self.in_store}"


def load_older(
    settings: Settings,
    source: SourceSettings,
    warehouse: Warehouse,
    clock: Clock,
    tables: Iterable[tuple[SelectPlan, TableInfo]],
    before: datetime,
    log: logging.Logger,
) -> dict[tuple[str, str], int]:
    """Load the rows created before ``before`` (naive UTC midnight) that are not final or ended since.

    A table that answers too slowly for the statement limit, or whose ends no index finds, is named in the log, and the
    load goes on without those rows.

    Returns:
        How many rows were read, by table and entity; tables that are not searched are absent.

    Raises:
        SourceUnavailable: The connection failed; slices already written stay.
    """

    @contextmanager
    def connection() -> Iterator[SourceConnection]:
        with connect(source.read_dsn(), settings, snapshot=False) as opened:
            yield opened

    wanted = Range(EPOCH, before)
    read: dict[tuple[str, str], int] = {}
    for plan, info in tables:
        scope = Scope.of(plan, source.id, info)
        if plan.entity not in ENDS or scope.time is None:
            continue
        unique = bool(plan.key_sql) and info.unique_key([column.strip('`"') for column in plan.key_sql])
        rows = 0
        try:
            with connection() as opened:
                tests = [*scope.source_conditions(wanted), *([f"({plan.where_sql})"] if plan.where_sql else [])]
                if not opened.query(f"select 1 from {plan.from_sql} where {' and '.join(tests)} limit 1"):
                    continue
            for older in _searches(scope, info, before, clock.now(), log):
                repair = RangeRepair(
                    settings, source, warehouse, clock, older, connection, LoadGuard.of(settings.extract), unique
                )
                outcome = repair.run(wanted, None)
                rows += outcome.rows_written
                name = (plan.table, plan.entity)
                read[name] = read.get(name, 0) + outcome.source_rows
        except QueryTooSlow:
            log.warning("%s: %s is too slow to search for rows from before %s that are not final or ended since; "
                        "not all of them are loaded", source.id, plan.table, before.date())  # fmt: skip
        log.info("%s: %d rows of %s from before %s reach into the history", source.id, rows, plan.table, before.date())
    return read


def _searches(
    scope: Scope, info: TableInfo, before: datetime, now: datetime, log: logging.Logger
) -> Iterator[OlderRows]:
    """First what is not final: a row that ends meanwhile is found among the ended ones, which come day by day."""
    plan = scope.plan
    words = _open_words(plan)
    if words:
        yield OlderRows(scope.plan, scope.source_id, scope.time, scope.indexed, words, open_rows(plan.entity))
    ended = Scope.of(plan, scope.source_id, info, ENDS[plan.entity])
    if ended.time is None or not (ended.indexed or (info.row_estimate or 0) <= SCANNED_ROWS):
        log.warning("%s: no index of %s finds rows from before %s that ended since; they are not loaded",
                    scope.source_id, plan.table, before.date())  # fmt: skip
        return
    days = (now - before).days + 1 if ended.indexed else 1
    for number in range(days):
        start = before + timedelta(days=number)
        end = start + timedelta(days=1) if number < days - 1 else EPOCH + timedelta(microseconds=END_OF_TIME)
        tests = ended.source_conditions(Range(start, end))
        stored = f"{ended.time.name} >= TIMESTAMP '{start}' AND {ended.time.name} < TIMESTAMP '{end}'"
        yield OlderRows(scope.plan, scope.source_id, scope.time, scope.indexed, tests[0], stored)


def _open_words(plan: SelectPlan) -> str | None:
    """Condition of rows whose status word is not final, in the source's SQL; None where no column gives the status."""
    name = entities()[plan.entity].open_column or ""
    mapped, field = plan.mapping.columns.get(name), plan.field(name)
    if mapped is None or field is None:
        return None
    unified = OPEN_WORDS[plan.entity]
    pairs = mapped.map if mapped.map is not None else {word: word for word in ENUMERATED[plan.entity, name][0]}
    words = ", ".join(quote_text(str(word), plan.dialect) for word, means in pairs.items() if means in unified)
    return f"{field.sql} in ({words})" if words else None
