"""Plans, items, approvals, runs and the mirrored journal in the state store (R-1xx).

What belongs here: statements on the five repair tables. What does not: rules about when a step is allowed
(``compensation.gate``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, and_, func, insert, select, type_coerce, update

from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.state import paging
from monitoring_pipelines.state import tables as t
from monitoring_pipelines.state.rows import Row
from monitoring_pipelines.state.rows import dicts as _rows
from monitoring_pipelines.state.store import upsert

#: What plans, their items and the journal can be ordered by (S-804).
PLAN_ORDERS: paging.Orders = {
    name: t.repair_plan.c[name] for name in ("created_at", "source_id", "created_by", "state")
}
ITEM_ORDERS: paging.Orders = {
    name: t.repair_item.c[name] for name in ("task_key", "class", "remote_status", "run_state")
}
JOURNAL_ORDERS: paging.Orders = {
    name: t.repair_journal.c[name] for name in ("op", "target_table", "task_key", "state", "at")
}


def get_plan(con: Connection, plan_id: str) -> Row:
    """The plan; UsageError when there is none of this id."""
    found = _rows(con, select(t.repair_plan).where(t.repair_plan.c.plan_id == plan_id))
    if not found:
        raise UsageError(f"no repair plan {plan_id}", "`mp repair list` shows all of them")
    return found[0]


def run_state(con: Connection, run_id: str) -> str | None:
    """State of a run; None when it is not stored."""
    return con.execute(select(t.repair_run.c.state).where(t.repair_run.c.run_id == run_id)).scalar_one_or_none()


def get_run(con: Connection, run_id: str) -> Row:
    """The run; UsageError when there is none of this id."""
    found = _rows(con, select(t.repair_run).where(t.repair_run.c.run_id == run_id))
    if not found:
        raise UsageError(f"no repair run {run_id}", "`mp repair show PLAN` lists the runs of a plan")
    return found[0]


def list_plans(
    con: Connection, source_id: str | None = None, states: Sequence[str] = (), limit: int = 50, offset: int = 0,
    sort: str | None = None,
) -> list[Row]:  # fmt: skip
    """Plans, newest first unless ``sort`` (of ``PLAN_ORDERS``, with ``-`` before it descending) says otherwise."""
    plan_id = t.repair_plan.c.plan_id
    order = paging.order_by(PLAN_ORDERS, sort, plan_id.desc())
    return paging.cut(con, plan_id, _plans(source_id, states), order, limit, offset)


def _plans(source_id: str | None, states: Sequence[str]) -> list[ColumnElement[bool]]:
    plan = t.repair_plan.c
    where = [plan.source_id == source_id] if source_id is not None else []
    return [*where, plan.state.in_(states)] if states else where


def count_plans(con: Connection, source_id: str | None = None, states: Sequence[str] = ()) -> int:
    """How many plans ``list_plans`` would show without limit."""
    return paging.count(con, t.repair_plan.c.plan_id, _plans(source_id, states))


def has_plan(con: Connection, plan_id: str) -> bool:
    """Whether the plan is stored."""
    return con.execute(select(t.repair_plan.c.state).where(t.repair_plan.c.plan_id == plan_id)).first() is not None


def save_plan(con: Connection, plan: Mapping[str, Any]) -> None:
    """Insert a plan."""
    con.execute(insert(t.repair_plan).values(**plan))


def update_plan(con: Connection, plan_id: str, **values: Any) -> None:
    """Change columns of a plan."""
    con.execute(update(t.repair_plan).where(t.repair_plan.c.plan_id == plan_id).values(**values))


def add_items(con: Connection, items: Iterable[Mapping[str, Any]]) -> None:
    """Append items to a plan that is being built."""
    records = list(items)
    if records:
        con.execute(insert(t.repair_item), records)


def get_items(
    con: Connection, plan_id: str, item_class: str | None = None, limit: int | None = None, offset: int = 0,
    sort: str | None = None, run_state: str | None = None,
) -> list[Row]:  # fmt: skip
    """Items of a plan in plan order, or as ``sort`` (of ``ITEM_ORDERS``, with ``-`` before it descending) says."""
    item = t.repair_item.c
    where = _items(plan_id, item_class, run_state)
    if sort is not None:
        return paging.cut(con, item.seq, where, paging.order_by(ITEM_ORDERS, sort, item.seq), limit, offset)
    query = select(t.repair_item).where(*where).order_by(item.seq)
    return _rows(con, query if limit is None else query.limit(limit).offset(offset))


def _items(plan_id: str, item_class: str | None, run_state: str | None) -> list[ColumnElement[bool]]:
    item = t.repair_item.c
    chosen = ((item["class"], item_class), (item.run_state, run_state))
    return [item.plan_id == plan_id, *(column == value for column, value in chosen if value is not None)]


def count_items(con: Connection, plan_id: str, item_class: str | None = None, run_state: str | None = None) -> int:
    """Number of items."""
    return paging.count(con, t.repair_item.c.seq, _items(plan_id, item_class, run_state))


def count_states(con: Connection, plan_id: str, item_class: str) -> dict[str, int]:
    """``run_state`` → number of items of a class."""
    state = t.repair_item.c.run_state
    found = select(state, func.count()).where(*_items(plan_id, item_class, None)).group_by(state)
    return {name: int(n) for name, n in con.execute(found)}


def save_outcomes(con: Connection, plan_id: str, outcomes: Mapping[int, tuple[str, str | None]]) -> None:
    """Store (run_state, run_reason) of items by ``seq``."""
    from sqlalchemy import bindparam

    if not outcomes:
        return
    item = t.repair_item.c
    statement = (
        update(t.repair_item)
        .where(and_(item.plan_id == bindparam("b_plan"), item.seq == bindparam("b_seq")))
        .values(run_state=bindparam("b_state"), run_reason=bindparam("b_reason"))
    )
    con.execute(
        statement,
        [
            {"b_plan": plan_id, "b_seq": seq, "b_state": run_state, "b_reason": reason}
            for seq, (run_state, reason) in outcomes.items()
        ],
    )


def get_approval(con: Connection, plan_id: str) -> Row | None:
    """The approval of a plan, None without one."""
    found = _rows(con, select(t.repair_approval).where(t.repair_approval.c.plan_id == plan_id))
    return found[0] if found else None


def save_approval(con: Connection, approval: Mapping[str, Any]) -> None:
    """Store an approval."""
    con.execute(insert(t.repair_approval).values(**approval))


def use_approval(con: Connection, plan_id: str, run_id: str) -> None:
    """Note the run that used the approval up; the first one stays."""
    approval = t.repair_approval.c
    con.execute(
        update(t.repair_approval)
        .where(and_(approval.plan_id == plan_id, approval.used_by_run.is_(None)))
        .values(used_by_run=run_id)
    )


def save_run(con: Connection, run: Mapping[str, Any]) -> None:
    """Insert a run."""
    con.execute(insert(t.repair_run).values(**run))


def update_run(con: Connection, run_id: str, **values: Any) -> None:
    """Change columns of a run."""
    con.execute(update(t.repair_run).where(t.repair_run.c.run_id == run_id).values(**values))


def list_runs(con: Connection, plan_id: str | None = None, limit: int | None = None) -> list[Row]:
    """Runs, oldest first; of one plan or of all."""
    query = select(t.repair_run).order_by(t.repair_run.c.run_id)
    if plan_id is not None:
        query = query.where(t.repair_run.c.plan_id == plan_id)
    return _rows(con, query.limit(limit) if limit else query)


def running(con: Connection, source_id: str | None = None) -> list[Row]:
    """Runs that may write and have not ended, oldest first."""
    run = t.repair_run.c
    query = select(t.repair_run).where(
        run.state == "running", run.kind.in_(("apply", "resume", "rollback")), run.dry_run.is_(False)
    )
    if source_id is not None:
        query = query.where(run.source_id == source_id)
    return _rows(con, query.order_by(run.run_id))


def mirror(con: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Copy journal rows (R-101); a row that is known already only gets its newer state."""
    upsert(con, t.repair_journal, rows, update=["state", "rolled_back_by"])


def journal_rows(con: Connection, *, run_id: str | None = None, plan_id: str | None = None,
                 run_ids: Sequence[str] = (), limit: int | None = None, offset: int = 0,
                 sort: str | None = None) -> list[Row]:  # fmt: skip
    """Mirrored journal rows of a run or plan, oldest first unless ``sort`` (of ``JOURNAL_ORDERS``) says otherwise."""
    journal = t.repair_journal.c
    where: list[ColumnElement[bool]] = [journal.run_id == run_id] if run_id is not None else []
    where += [journal.plan_id == plan_id] if plan_id is not None else []
    where += [journal.run_id.in_(run_ids)] if run_ids else []
    if sort is not None or limit is not None:
        order = paging.order_by(JOURNAL_ORDERS, sort, journal.journal_id)
        return paging.cut(con, journal.journal_id, where, order, limit, offset)
    return _rows(con, select(t.repair_journal).where(*where).order_by(journal.journal_id))


def count_journal(con: Connection, run_id: str) -> int:
    """How many rows the journal has of a run."""
    journal = t.repair_journal.c
    return paging.count(con, journal.journal_id, [journal.run_id == run_id])


def repaired_keys(con: Connection, source_id: str, since: datetime | None = None) -> list[Row]:
    """Natural keys that repair inserted into a source: natural_key, task_key, run_id, plan_id, at (R-412)."""
    journal = t.repair_journal.c
    query = select(journal.natural_key, journal.task_key, journal.run_id, journal.plan_id, journal.at, journal.pk).where(
        journal.source_id == source_id, journal.op == "insert", journal.state == "committed",
    )  # fmt: skip
    if since is not None:
        query = query.where(journal.at >= since)
    return _rows(con, query.order_by(journal.journal_id))


def placeholder_keys(con: Connection, source_id: str) -> set[str]:
    """Natural keys of placeholder rows: they are never outputs (E-102)."""
    item, plan = t.repair_item.c, t.repair_plan.c
    query = (
        select(item.rows)
        .join(t.repair_plan, plan.plan_id == item.plan_id)
        .where(
            plan.source_id == source_id,
            item["class"] == "eligible",
            type_coerce(item.rows, Text).like('%"placeholder":true%'),
        )
    )
    return {
        row["natural_key"]
        for (rows,) in con.execute(query)
        for row in rows
        if row["evidence"].get("placeholder")
    }  # fmt: skip
