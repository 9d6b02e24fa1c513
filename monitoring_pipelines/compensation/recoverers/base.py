"""The interface of recoverers: one question about one task, one of seven answers.

What belongs here: answers, context, and the list of kinds. What does not: any kind.

A plug-in is a class with ``needs_remote_id`` and ``recover(task, ctx)``, created with its ``RecovererSettings`` and the
context, registered under the entry-point group ``monitoring_pipelines.recoverers`` by its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from monitoring_pipelines.compensation.model import Recovered, RepairRefused, Task
from monitoring_pipelines.errors import ConfigError

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings, SourceSettings
    from monitoring_pipelines.config.schema_services import RecovererSettings
    from monitoring_pipelines.source.engine import SourceConnection

ENTRY_POINTS = "monitoring_pipelines.recoverers"


@dataclass(frozen=True)
class Outputs:
    """The task's outputs, at least one."""

    outputs: tuple[Recovered, ...]
    code: str | None = None


@dataclass(frozen=True)
class NotReady:
    """The remote still works on the task, or has no data yet."""

    code: str | None = None
    status: str | None = None


@dataclass(frozen=True)
class NoOutput:
    """The remote finished the task and has nothing."""

    reason: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class RemoteFailed:
    """The remote says the task failed."""

    reason: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class NotFound:
    """The remote does not know the task."""

    code: str | None = None


@dataclass(frozen=True)
class AuthError:
    """The key is refused: no answer about any task can be trusted, the plan ends (R-311)."""

    reason: str
    code: str | None = None


@dataclass(frozen=True)
class Transient:
    """Nothing is known about the task; asking again may help (R-310)."""

    reason: str
    code: str | None = None
    retry_after_s: float | None = None


Answer = Outputs | NotReady | NoOutput | RemoteFailed | NotFound | AuthError | Transient


@dataclass
class Context:
    """What recoverers may use. ``calls`` counts remote calls (R-411)."""

    settings: Settings
    source: SourceSettings
    stack: ExitStack
    calls: int = 0
    #: Called before every remote call; waits for the rate limit (R-310).
    before_call: Callable[[], None] = lambda: None
    _connection: SourceConnection | None = field(default=None, init=False)

    def source_connection(self) -> SourceConnection:
        """A read-only connection to the source for single-task reads, opened on first use (R-301)."""
        if self._connection is None:
            from monitoring_pipelines.source.engine import connect

            self._connection = self.stack.enter_context(connect(self.source.read_dsn(), self.settings, snapshot=False))
        return self._connection

    def count_call(self) -> None:
        """Wait for the rate limit and count one remote call."""
        self.before_call()
        self.calls += 1


class Recoverer(Protocol):
    """One place where lost outputs can be found."""

    #: A task without remote id is not asked about (class ``no_remote_id``).
    needs_remote_id: bool

    def recover(self, task: Task, ctx: Context) -> Answer:
        """What is known about the outputs of ``task``. Must not write anything anywhere."""
        ...


def build_recoverers(ctx: Context, ids: tuple[str, ...] | None = None) -> list[tuple[str, Recoverer]]:
    """The configured recoverers in the order they are asked: (id, recoverer).

    Args:
        ctx: The context of this plan.
        ids: Only these, in this order; None: all configured ones.

    Raises:
        ConfigError: An unknown id or kind, or a recoverer that lacks a setting.
        RepairRefused: None is configured, or a placeholder without ``allow_placeholder``.
    """
    configured = {item.id: item for item in ctx.settings.repair.recoverers}
    if not configured:
        raise RepairRefused(
            "no_recoverer", "no recoverer is configured: nothing could be proposed",
            "add one to `repair.recoverers`, for example {id: rh, kind: http_result, preset: runninghub, …}",
        )  # fmt: skip
    chosen = ids if ids else tuple(configured)
    unknown = [name for name in chosen if name not in configured]
    if unknown:
        known = ", ".join(configured)
        raise ConfigError(None, None, "repair.recoverers", f"no recoverer {', '.join(unknown)}", f"configured: {known}")
    return [(name, _build(configured[name], ctx)) for name in chosen]


def _build(item: RecovererSettings, ctx: Context) -> Recoverer:
    kinds = _shipped()
    make = kinds.get(item.kind)
    if make is None:
        from importlib.metadata import entry_points

        found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
        if item.kind not in found:
            known = ", ".join([*kinds, *found])
            raise ConfigError(None, None, f"repair.recoverers.{item.id}.kind", f"unknown kind {item.kind!r}", known)
        make = found[item.kind].load()
    return make(item, ctx)


def _shipped() -> dict[str, Callable[[Any, Context], Any]]:
    from monitoring_pipelines.compensation.recoverers.http_result import HttpResult
    from monitoring_pipelines.compensation.recoverers.placeholder import StaticPlaceholder
    from monitoring_pipelines.compensation.recoverers.stored_json import TaskEvent, TaskJson

    return {"http_result": HttpResult, "task_json": TaskJson, "task_event": TaskEvent, "static": StaticPlaceholder}
