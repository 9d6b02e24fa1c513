"""Making a plan: candidates, answers of recoverers, classes, proposed rows, hash (R-301…R-313).

What belongs here: the way from a request to a stored, immutable plan. What does not: reading (``candidates``), asking
(``recoverers``), permission (``approve``). Nothing here can write to a source.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.candidates import Scope, read_scope
from monitoring_pipelines.compensation.model import (
    HASHED_ITEM_COLUMNS,
    MODES,
    Item,
    PlanRequest,
    RepairRefused,
    Task,
    plan_counters,
    plan_hash,
)
from monitoring_pipelines.compensation.recoverers.asking import Asked, Asker, Pacer
from monitoring_pipelines.compensation.recoverers.base import (
    AuthError,
    Context,
    NoOutput,
    NotFound,
    NotReady,
    Outputs,
    RemoteFailed,
    build_recoverers,
)
from monitoring_pipelines.compensation.rows import RowRules, propose
from monitoring_pipelines.compensation.target import config_hash
from monitoring_pipelines.compensation.validation import refused_tasks
from monitoring_pipelines.errors import ProductError, UsageError
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state import repair as store
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings

#: Items judged and written to the state store at once while a plan is built.
_WRITE_ITEMS = 1_000
Progress = Callable[[int, int], None]


@dataclass
class Planner:
    """What planning needs. ``sleep`` and ``monotonic`` serve rate limit and back-off."""

    settings: Settings
    state: StateStore
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def make(
        self, request: PlanRequest, actor: str, progress: Progress | None = None, plan_id: str | None = None
    ) -> dict[str, Any]:
        """Make a plan and store it; nothing is written to the source (R-301).

        Args:
            request: What to look at.
            actor: Who asks.
            progress: Called with (items done, candidates).
            plan_id: Id of the new plan, where the caller has to know it before.

        Returns:
            The stored row of ``repair_plan``; its state is ready, approved (by policy), aborted or paused.

        Raises:
            UsageError: The request makes no sense.
            RepairRefused: The source cannot be repaired, or its account could write in strict mode.
            SourceUnavailable: The source did not answer.
        """
        source = self.settings.source(request.source_id)
        request = self._completed(request)
        began, now = self.monotonic(), self.clock.now()
        with ExitStack() as stack:
            ctx = Context(self.settings, source, stack)
            ctx.before_call = Pacer(self.settings.repair.rate_per_s, self.sleep, self.monotonic).wait
            recoverers = build_recoverers(ctx, request.recoverers)
            scope = self._read(source, request, now)
            names = [name for name, _ in recoverers]
            plan = self._begin(plan_id or new_id(now), request, source, scope, actor, now, names)
            building = _Building(self, plan, scope, Asker(recoverers, self.settings.repair, self.sleep), ctx)
            try:
                items = building.run(self._candidates(scope, request), progress)
            except BaseException as error:
                with self.state.begin() as con:
                    store.update_plan(con, plan["plan_id"], state="aborted", abort_reason=f"error: {error}"[:500])
                raise
        return self._finish(plan, building, items, self.monotonic() - began, ctx.calls, actor)

    def _completed(self, request: PlanRequest) -> PlanRequest:
        """Defaults filled in; UsageError when neither window nor ids are usable (R-303)."""
        repair = self.settings.repair
        if request.mode is not None and request.mode not in MODES:
            raise UsageError(f"unknown mode {request.mode!r}", " or ".join(MODES))
        for name in ("max_tasks", "batch_size"):
            value = getattr(request, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if request.task_ids is not None:
            if not request.task_ids:
                raise UsageError("the list of task ids is empty", "an empty list never means all tasks (R-303)")
            request = replace(request, max_tasks=None, window_from=None, window_to=None)
        elif request.window_from is None or request.window_to is None:
            raise UsageError("a plan needs a window or task ids", "--from/--to, --start-date/--end-date or --task-ids")
        elif request.window_from >= request.window_to:
            raise UsageError("the window is empty: its start is not before its end")
        else:
            request = replace(request, max_tasks=request.max_tasks or repair.max_tasks)
        return replace(request, mode=request.mode or repair.mode, batch_size=request.batch_size or repair.batch_size)

    def _read(self, source: SourceSettings, request: PlanRequest, now: datetime) -> Scope:
        with connect(source.read_dsn(), self.settings) as connection:
            if source.strict_readonly:
                refuse_writers(connection, source)
            scope = read_scope(connection, self.settings, source, request, now)
        with self.state.read() as con:
            scope.ignore(store.placeholder_keys(con, source.id))
        return scope

    def _candidates(self, scope: Scope, request: PlanRequest) -> list[Task]:
        if request.task_ids is not None:
            return scope.tasks
        chosen = scope.tasks
        if request.mode == "only_if_empty":
            chosen = [task for task in chosen if not scope.has_valid_output(task.task_key)]
        return chosen[: request.max_tasks]

    def _begin(
        self, plan_id: str, request: PlanRequest, source: SourceSettings, scope: Scope, actor: str, now: datetime,
        ids: list[str],
    ) -> dict[str, Any]:  # fmt: skip
        plan = {
            "plan_id": plan_id, "source_id": source.id, "created_at": now, "created_by": actor,
            "mode": request.mode, "window_from": request.window_from, "window_to": request.window_to,
            "task_ids": list(request.task_ids) if request.task_ids is not None else None,
            "unknown_ids": scope.unknown_ids, "rejected_ids": scope.rejected_ids, "max_tasks": request.max_tasks,
            "batch_size": request.batch_size, "recoverers": ids, "config_hash": config_hash(self.settings, source),
            "schema_fingerprint": scope.target.fingerprint, "state": "building", "alert_id": request.alert_id,
            "before": scope.completeness.as_dict(),
        }  # fmt: skip
        with self.state.begin() as con:
            store.save_plan(con, plan)
        return plan

    def _finish(
        self, plan: dict[str, Any], building: _Building, items: list[Item], seconds: float, calls: int, actor: str
    ) -> dict[str, Any]:
        plan_id = plan["plan_id"]
        counters = plan_counters(items, calls, seconds)
        counters |= {"unknown_ids": len(plan["unknown_ids"]), "rejected_ids": len(plan["rejected_ids"])}
        counters["requested"] = counters["candidates"] + counters["unknown_ids"] + counters["rejected_ids"]
        state = building.ended or "ready"
        with self.state.begin() as con:
            stored = [{name: item[name] for name in HASHED_ITEM_COLUMNS} for item in store.get_items(con, plan_id)]
            digest = plan_hash(store.get_plan(con, plan_id), stored)
            store.update_plan(
                con, plan_id, state=state, counters=counters, plan_hash=digest, abort_reason=building.reason
            )
            audit.record(
                con, self.clock.now(), actor, "repair.plan", plan_id,
                {"state": state, "plan_hash": digest, "rows_planned": counters["rows_planned"]},
            )  # fmt: skip
        if state == "ready":
            from monitoring_pipelines.compensation.approve import approve_by_policy

            approve_by_policy(self.settings, self.state, self.clock, plan_id)
        with self.state.read() as con:
            return store.get_plan(con, plan_id)


def refuse_writers(connection: Any, source: SourceSettings) -> None:
    """Refuse when the reading account holds any right to write (R-301, ``strict_readonly``)."""
    from monitoring_pipelines.config.inspection import read_grants, surplus_grants

    surplus = surplus_grants(read_grants(connection))
    if surplus:
        raise RepairRefused(
            "surplus_grants", f"{source.id}: the reading account may write: {', '.join(surplus[:5])}",
            "use an account with SELECT only, or set strict_readonly: false",
        )  # fmt: skip


@dataclass
class _Building:
    """One plan while its items are classified. ``ended`` is the state that stopped it early."""

    planner: Planner
    plan: dict[str, Any]
    scope: Scope
    asker: Asker
    ctx: Context
    ended: str | None = None
    reason: str | None = None
    _transient_in_a_row: int = 0

    def run(self, tasks: list[Task], progress: Progress | None) -> list[Item]:
        """Classify every candidate, in order; also those that are not reached (R-305)."""
        items: list[Item] = []
        for seq, task in enumerate(tasks):
            item = Item(seq, task, "not_reached", self.reason) if self.ended else self._item(seq, task)
            items.append(item)
            if len(items) % _WRITE_ITEMS == 0:
                self._write(items[-_WRITE_ITEMS:])
            if progress is not None:
                progress(seq + 1, len(tasks))
        rest = len(items) % _WRITE_ITEMS
        self._write(items[-rest:] if rest else [])
        return items

    def _write(self, items: list[Item]) -> None:
        """Judge the rows of some items (R-211), decide what is left of them, and store them."""
        rows = [(item.task.task_key, row) for item in items for row in item.rows]
        wrong = refused_tasks(rows, self.scope.target, rules_of(self.planner.settings)) if rows else {}
        for item in items:
            if item.item_class != "eligible":
                continue
            present = self.scope.natural_keys(item.task.task_key)
            item.rows = tuple(row for row in item.rows if row.natural_key not in present)
            if item.task.task_key in wrong:
                item.item_class, item.reason = "validation_failed", wrong[item.task.task_key]
            elif not item.rows:
                item.item_class, item.reason = "already_present", "every recovered output is in the table"
        with self.planner.state.begin() as con:
            store.add_items(con, [item.record(self.plan["plan_id"]) for item in items])

    def _item(self, seq: int, task: Task) -> Item:
        if self.plan["mode"] == "only_if_empty" and self.scope.has_valid_output(task.task_key):
            return Item(seq, task, "already_present", "the task has a valid output")
        asked = self.asker.ask(task, self.ctx)
        item = self._classified(seq, task, asked)
        self._stop_rules(item)
        return item

    def _classified(self, seq: int, task: Task, asked: Asked) -> Item:
        """The class of one candidate out of the answer that counts (R-305)."""
        answer = asked.answer
        if answer is None:
            return Item(seq, task, "no_remote_id")
        item = Item(seq, task, "transient_error", remote_code=answer.code, tries=asked.tries,
                    recoverer_id=asked.recoverer_id)  # fmt: skip
        if isinstance(answer, Outputs):
            rules = rules_of(self.planner.settings)
            item.item_class, item.rows = "eligible", tuple(propose(task, answer.outputs, self.scope.target, rules))
            return item
        item.reason = getattr(answer, "reason", None)
        if isinstance(answer, NotReady):
            item.item_class, item.remote_status = "remote_not_ready", answer.status
        elif isinstance(answer, NoOutput):
            item.item_class = "remote_no_output"
        elif isinstance(answer, RemoteFailed):
            item.item_class, item.remote_status = "remote_failed", "FAILED"
        elif isinstance(answer, NotFound):
            item.item_class = "remote_not_found"
        elif isinstance(answer, AuthError):
            item.item_class = "auth_error"
        return item

    def _stop_rules(self, item: Item) -> None:
        """A key problem aborts at once (R-311); too many transient errors in a row pause (R-312)."""
        if item.item_class == "auth_error":
            self.ended, self.reason = "aborted", f"auth_error: {item.reason}"
        if item.item_class == "transient_error":
            self._transient_in_a_row += 1
            if self._transient_in_a_row >= self.planner.settings.repair.max_consecutive_transient:
                self.ended = "paused"
                self.reason = f"{self._transient_in_a_row} transient errors in a row, the last one: {item.reason}"
        elif item.tries:
            self._transient_in_a_row = 0


def rules_of(settings: Settings) -> RowRules:
    """Row rules of a configuration."""
    repair = settings.repair
    allowed = None if repair.media_types is None else tuple(word.lower() for word in repair.media_types)
    return RowRules(repair.keep_query, allowed, repair.created_at)


def masked_uri(uri: str) -> str:
    """A link as it may be shown: its query is a signature more often than not (R-103)."""
    head, mark, _ = uri.partition("?")
    return head + ("?…" if mark else "")


def error_of(plan: dict[str, Any]) -> ProductError | None:
    """The error a command ends with after making ``plan``; None when it is usable."""
    from monitoring_pipelines.compensation.model import RemoteUnavailable
    from monitoring_pipelines.errors import Paused

    if plan["state"] == "paused":
        return Paused(f"plan {plan['plan_id']} paused: {plan['abort_reason']}", "make a new plan when it is over")
    if plan["state"] == "aborted":
        return RemoteUnavailable(
            f"plan {plan['plan_id']} aborted: {plan['abort_reason']}", "check the API key of the recoverer"
        )
    return None
