"""Writing the tables of ``mp ddl`` from a team's own application (E-512).

What belongs here: recording events, job runs and process samples where they happen.
What does not: reading those tables (the presets) and the tables themselves (``ddl``).

A monitoring database that is away must not stop the application: a failed write is logged and counted, not raised,
unless ``strict`` is set. ::

    from monitoring_pipelines import client
    client.configure("mysql://app:***@db/jobs")
    client.record_event("task-1", "started", worker_key="w1")
    with client.track_job("nightly-import") as run:
        run.result = import_everything()
    client.sample_process("collector-1")
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, insert, update
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.sql.elements import quoted_name

from monitoring_pipelines.clock import Clock, current_clock
from monitoring_pipelines.ddl import TABLES, columns
from monitoring_pipelines.entities import EVENT_TYPES
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.process_figures import host_figures, process_figures, python_figures

log = logging.getLogger(__name__)

#: Environment variable that ``configure`` falls back to.
DSN_VARIABLE = "MP_CLIENT_DSN"
_MESSAGE_CHARACTERS = 500
_RESULT_CHARACTERS = 1000
_CONNECT_TIMEOUT_S = 5
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass
class JobRun:
    """A run in progress. Set ``result`` to what the job returned: a mapping with a truthy ``error`` says it failed."""

    run_key: str
    job_id: str
    result: Any = None


@dataclass
class Recorder:
    """Writes to one database. Threads may share it.

    Args:
        dsn: ``mysql://``, ``mariadb://`` or ``sqlite:///`` address, or an SQLAlchemy engine.
        strict: Raise database errors instead of logging and counting them.
        clock: Where "now" comes from.
    """

    dsn: str | Engine = field(repr=False)
    strict: bool = False
    clock: Clock = field(default_factory=current_clock)
    #: Writes that failed so far.
    failures: int = 0

    def __post_init__(self) -> None:
        self.engine = self.dsn if isinstance(self.dsn, Engine) else _engine(self.dsn)
        self._cpu: dict[int, tuple[float, float]] = {}

    def record_event(
        self,
        task_key: str,
        event_type: str,
        *,
        at: datetime | None = None,
        worker_key: str | None = None,
        endpoint: str | None = None,
        error_message: str | None = None,
        event_key: str | None = None,
    ) -> str | None:
        """Record one thing that happened to a task.

        Args:
            task_key: The task.
            event_type: One of E-101: created, queued, assigned, started, completed, failed, timeout, cancelled,
                orphaned, requeued, info.
            at: When it happened, naive UTC; default: now.
            worker_key: The worker concerned.
            endpoint: The endpoint concerned.
            error_message: Cut to 500 characters.
            event_key: Identity of the event; give your own to make a repeated call harmless. Default: a new one.

        Returns:
            The event's key, or None when it could not be written.

        Raises:
            UsageError: Unknown event type, or a time with zone.
        """
        if event_type not in EVENT_TYPES:
            raise UsageError(f"unknown event type {event_type!r}", f"one of {', '.join(EVENT_TYPES)}")
        key = event_key or uuid.uuid4().hex
        written = self._insert(
            "task_event",
            event_key=key,
            task_key=task_key,
            endpoint=endpoint,
            event_type=event_type,
            at=_utc(at) or self.clock.now(),
            worker_key=worker_key,
            error_message=_cut(error_message, _MESSAGE_CHARACTERS),
        )
        return key if written else None

    @contextmanager
    def track_job(
        self,
        job_id: str,
        *,
        scheduled_at: datetime | None = None,
        attempt: int | None = None,
        trigger: str = "schedule",
        run_key: str | None = None,
    ) -> Iterator[JobRun]:
        """Record a run of a job: a row when it starts, its outcome when it ends (E-121).

        An exception is a failure (``TimeoutError``: a timeout), is recorded once and passes on.

        Args:
            job_id: The job.
            scheduled_at: When it should have started, naive UTC.
            attempt: 1 for the first try.
            trigger: schedule, manual or catchup.
            run_key: Identity of the run; default: a new one.

        Yields:
            The run; set its ``result``.
        """
        run = JobRun(run_key or uuid.uuid4().hex, job_id)
        started, began = self.clock.now(), time.perf_counter()
        self._insert(
            "job_run", run_key=run.run_key, job_id=job_id, scheduled_at=_utc(scheduled_at), started_at=started,
            outcome="running", attempt=attempt, trigger=trigger,
        )  # fmt: skip
        error: BaseException | None = None
        try:
            yield run
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end_run(run, began, error)

    def sample_process(self, process_id: str | None = None, *, pid: int | None = None) -> dict[str, Any]:
        """Record how much a process uses; a figure that cannot be measured is NULL, never 0 (E-123).

        Args:
            process_id: Stable name of the process in the statistics; default: ``<host>:<pid>``.
            pid: Process to look at; default: this one. Python's own figures (objects, collections) exist only for
                this one.

        Returns:
            The row.

        Raises:
            UsageError: There is no such process.
        """
        number = os.getpid() if pid is None else pid
        row = {
            "process_id": process_id or f"{platform.node()}:{number}",
            "at": self.clock.now(),
            "scope": "process",
            **process_figures(number),
            **host_figures(),
            **(python_figures() if number == os.getpid() else {}),
        }
        row["cpu_pct"] = self._cpu_percent(number, row.pop("cpu_seconds"))
        for name in ("tcp_by_state", "host_tcp_by_state"):
            row[name] = None if row[name] is None else json.dumps(row[name], sort_keys=True, separators=(",", ":"))
        self._insert("process_sample", **row)
        return row

    def _end_run(self, run: JobRun, began: float, error: BaseException | None) -> None:
        outcome = "success" if error is None else "timeout" if isinstance(error, TimeoutError) else "failure"
        table = _table("job_run")
        values = {
            "ended_at": self.clock.now(),
            "duration_ms": round((time.perf_counter() - began) * 1000, 3),
            "outcome": outcome,
            "error_message": _cut(f"{type(error).__name__}: {error}" if error else None, _MESSAGE_CHARACTERS),
            "result_error": _result_error(run.result),
        }
        self._execute(update(table).where(table.c.run_key == run.run_key).values(**values), "job run")

    def _cpu_percent(self, pid: int, seconds: float | None) -> float | None:
        """Share of one core since the previous sample of the process; NULL the first time."""
        if seconds is None:
            return None
        now = time.perf_counter()
        before = self._cpu.get(pid)
        self._cpu[pid] = (seconds, now)
        if before is None or now <= before[1] or seconds < before[0]:
            return None
        return round(100 * (seconds - before[0]) / (now - before[1]), 2)

    def _insert(self, entity: str, **values: Any) -> bool:
        return self._execute(insert(_table(entity)).values(**values), entity.replace("_", " "))

    def _execute(self, statement: Any, what: str) -> bool:
        try:
            with self.engine.begin() as connection:
                connection.execute(statement)
        except SQLAlchemyError as error:
            if isinstance(error, IntegrityError) and _is_repeated(error):
                return True
            self.failures += 1
            if self.strict:
                raise
            # The statement's text holds values; the driver's message is enough.
            log.warning("a %s could not be recorded: %s", what, getattr(error, "orig", None) or type(error).__name__)
            return False
        return True


_default: Recorder | None = None


def configure(dsn: str | Engine | None = None, *, strict: bool = False) -> Recorder:
    """Set the database the functions of this module write to.

    Args:
        dsn: Address or engine; default: the environment variable ``MP_CLIENT_DSN``.
        strict: Raise database errors instead of logging and counting them.

    Raises:
        UsageError: No address is given, or it is none.
    """
    global _default
    address = dsn or os.environ.get(DSN_VARIABLE)
    if not address:
        raise UsageError("no database to record to", f"call configure(dsn) or set {DSN_VARIABLE}")
    _default = Recorder(address, strict=strict)
    return _default


def record_event(task_key: str, event_type: str, **options: Any) -> str | None:
    """``Recorder.record_event`` of the configured database."""
    return _recorder().record_event(task_key, event_type, **options)


@contextmanager
def track_job(job_id: str, **options: Any) -> Iterator[JobRun]:
    """``Recorder.track_job`` of the configured database."""
    with _recorder().track_job(job_id, **options) as run:
        yield run


def tracked(job_id: str, **options: Any) -> Callable[[_F], _F]:
    """Decorator: every call of the function is a run of the job, its return value the run's result."""

    def wrap(function: _F) -> _F:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            with track_job(job_id, **options) as run:
                run.result = function(*arguments, **named)
            return run.result

        return call  # type: ignore[return-value]

    return wrap


def sample_process(process_id: str | None = None, *, pid: int | None = None) -> dict[str, Any]:
    """``Recorder.sample_process`` of the configured database."""
    return _recorder().sample_process(process_id, pid=pid)


def _recorder() -> Recorder:
    return _default or configure()


def _engine(dsn: str) -> Engine:
    try:
        url = make_url(dsn)
    except SQLAlchemyError as error:
        raise UsageError(
            "the address of the recording database cannot be read", "mysql://user@host/database"
        ) from error
    if url.drivername in ("mysql", "mariadb"):
        url = url.set(drivername=f"{url.drivername}+pymysql")
        options = {"charset": "utf8mb4", "connect_timeout": _CONNECT_TIMEOUT_S}
        return create_engine(url, pool_pre_ping=True, pool_recycle=600, connect_args=options, hide_parameters=True)
    if url.drivername == "sqlite":
        return create_engine(url, hide_parameters=True)
    raise UsageError(f"cannot record to {url.drivername!r}", "use mysql://, mariadb:// or sqlite:///")


@functools.cache
def _table(entity: str) -> Any:
    names = [quoted_name(c.name, True) for c in columns(entity)]
    return sql_table(TABLES[entity], *(sql_column(name) for name in names))


def _is_repeated(error: IntegrityError) -> bool:
    """Whether the row is there already: the same event key, run key or sample was recorded before."""
    return error.orig is not None and (error.orig.args[0] == 1062 or "UNIQUE constraint" in str(error.orig))


def _result_error(result: Any) -> str | None:
    """The truthy ``error`` of a mapping, as text; None when the result reports none (E-121)."""
    error = result.get("error") if isinstance(result, Mapping) else None
    return _cut(str(error), _RESULT_CHARACTERS) if error else None


def _cut(text: str | None, characters: int) -> str | None:
    return None if text is None else text[:characters]


def _utc(instant: datetime | None) -> datetime | None:
    if instant is not None and instant.tzinfo is not None:
        raise UsageError("a time with zone", "give naive UTC: instant.astimezone(UTC).replace(tzinfo=None)")
    return instant
