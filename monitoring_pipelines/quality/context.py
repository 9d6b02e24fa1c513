"""What a check gets: the store as of now, its window, settings and thresholds, and how it answers.

What belongs here: the context, the session that gives the warehouse back between checks, building outcomes.
What does not: rules (``quality.checks``) and the order of a run (``quality.runs``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.quality.model import CheckOutcome, CheckStatus, Finding
from monitoring_pipelines.quality.registry import Check
from monitoring_pipelines.readable import counted
from monitoring_pipelines.severity import BandLimits, Severity, highest
from monitoring_pipelines.warehouse.check_sql import query

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.config.schema import Settings, SourceSettings
    from monitoring_pipelines.config.schema_alerts import Thresholds
    from monitoring_pipelines.source.lookup import SourceTask
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines.warehouse.connect import Warehouse

#: A session that has held the warehouse this long gives it, between two queries, to whoever waits for it, seconds.
HOLD_S = 0.3
#: After so long it closes it in any case, seconds: what was read stays in memory until then, and programs of others do not
#: queue. A deep check reads a fortnight.
MOST_S, MOST_DEEP_S = 1.0, 0.3
#: Tasks a finding names at most (C-028).
MAX_TASK_IDS = 10
Lookup = Callable[[Sequence[str]], "dict[str, SourceTask]"]


class Session:
    """The warehouse, opened read-only for as long as needed and given back in between.

    Args:
        warehouse: What to open; None: ``con`` is used and never closed (tests, and callers that hold one already).
        con: An open connection.
        run_type: How much will be read: a deep check gives back sooner what it has read.
    """

    def __init__(
        self, warehouse: Warehouse | None, con: duckdb.DuckDBPyConnection | None = None, run_type: str = "full"
    ) -> None:
        self._warehouse = warehouse
        self._con = con
        self._most_s = MOST_DEEP_S if run_type == "deep" else MOST_S
        self._stack = ExitStack()
        self._since = 0.0
        self._kept = 0

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """An open connection; temporary tables live on it for as long as it is ``kept``."""
        if self._con is None:
            if self._warehouse is None:
                raise ValueError("a session needs a warehouse or a connection")
            self._con = self._stack.enter_context(self._warehouse.reader("checks"))
            self._since = time.monotonic()
        return self._con

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the connection, and its temporary tables, for the queries of the block."""
        self._kept += 1
        try:
            yield
        finally:
            self._kept -= 1
            self.breathe()

    def breathe(self) -> None:
        """Between two queries: let others have the warehouse if it was held long enough."""
        if self._warehouse is None or self._con is None or self._kept:
            return
        held_s = time.monotonic() - self._since
        if held_s > self._most_s or (held_s > HOLD_S and self._warehouse.is_wanted()):
            self.close()

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Rows of a small query of one's own."""
        with without_pandas():
            return self.con.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Give the warehouse back."""
        if self._warehouse is not None:
            self._con = None
            self._stack.close()


@dataclass
class CheckContext:
    """One check of one source.

    ``lookup`` asks the source for single tasks (E-612); None: the store is believed. ``memo`` is shared by the checks
    of one source in one run, so that a figure two of them need is computed once.
    """

    check: Check
    settings: Settings
    source: SourceSettings
    thresholds: Thresholds
    now: datetime
    window_from: datetime
    window_to: datetime
    session: Session
    run_type: str = "full"
    as_of: datetime | None = None
    lookup: Lookup | None = None
    state: StateStore | None = None
    mapped: Mapping[str, set[str]] = field(default_factory=dict)
    #: Length of the output table's task-key column, asked of the source; None: it may not be asked.
    key_length: Callable[[], int | None] | None = None
    #: Source table → seconds of its slowest extraction query in this run.
    query_seconds: Mapping[str, float] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)
    say_progress: Callable[[str], None] = field(default=lambda _text: None)

    @property
    def source_id(self) -> str:
        """Id of the source."""
        return self.source.id

    @property
    def bands(self) -> BandLimits:
        """The configured bands (C-002)."""
        bands = self.settings.checks.bands
        return BandLimits(bands.healthy, bands.degraded, bands.critical)

    @property
    def zone(self) -> ZoneInfo:
        """Zone of local days (E-307)."""
        return ZoneInfo(self.settings.timezone)

    @property
    def settle(self) -> timedelta:
        """How long after its end a task is settled (C-101)."""
        return timedelta(seconds=self.settings.checks.settle_s)

    @property
    def hours(self) -> int:
        """Length of the window in whole hours."""
        return int((self.window_to - self.window_from) / timedelta(hours=1))

    def say(self, zh: str, en: str, **values: Any) -> str:
        """The text in the configured language, with values for ``{name}``."""
        template = zh if self.settings.language == "zh-CN" else counted(en, values)
        return template.format(**values) if values else template

    def rows(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of ``dbt_like_sql/checks/<name>.sql``.

        ``source_id``, ``window_start``, ``window_end`` and ``now`` are given; parameters the file does not use are
        left out, because DuckDB refuses surplus ones.
        """
        given: dict[str, Any] = {
            "source_id": self.source.id, "window_start": self.window_from, "window_end": self.window_to, "now": self.now,
        }  # fmt: skip
        found = query(self.session.con, name, given | parameters)
        self.session.breathe()
        return found

    @contextmanager
    def facts(self, name: str, **parameters: Any) -> Iterator[None]:
        """Rows of ``dbt_like_sql/checks/<name>.sql`` as the temporary table ``<name>`` for the queries of the block."""
        given = {"source_id": self.source.id, "now": self.now}
        with self.session.kept():
            query(self.session.con, name, given | parameters, into=name)
            yield
            self.session.query(f"DROP TABLE {name}")

    def row(self, name: str, **parameters: Any) -> dict[str, Any]:
        """The only row of a query."""
        return self.rows(name, **parameters)[0]

    def finding(
        self, severity: Severity, message: str, details: Mapping[str, Any], task_ids: Iterable[str] = (),
        labels: Mapping[str, str] | None = None, alert_type: str | None = None,
    ) -> Finding:  # fmt: skip
        """A finding of this check (C-028)."""
        return Finding(
            self.source.id, self.check.id, alert_type or self.check.alert_type, severity, message, self.now,
            dict(details), tuple(task_ids)[:MAX_TASK_IDS], dict(labels or {}),
        )  # fmt: skip

    def outcome(self, status: CheckStatus | None = None, findings: Sequence[Finding] = (), **more: Any) -> CheckOutcome:
        """What this check answers; without a status it follows from the findings.

        Args:
            status: ``insufficient_data`` and so on.
            findings: What was found.
            more: ``metrics``, ``health``, ``message`` and the like; window and as-of are filled in.
        """
        known: dict[str, Any] = {
            "window_from": self.window_from, "window_to": self.window_to, "as_of": self.as_of,
            "severity": highest(found.severity for found in findings),
        }  # fmt: skip
        return CheckOutcome(
            self.source.id, self.check.id, status or ("findings" if findings else "passed"),
            findings=tuple(findings), **(known | more),
        )  # fmt: skip
