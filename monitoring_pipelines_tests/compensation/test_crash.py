"""kill -9, and a cut line, at every statement of apply and rollback (R-404, R-408, R-420).

For each statement that goes to the server, once before it is sent and once after the server executed it: the process is
killed (or the connection cut). Afterwards every task is untouched or complete, the journal describes exactly the rows of
the table, and resume (or a second rollback) finishes. A real process, a real server, a proxy that counts.
"""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from monitoring_pipelines.compensation.model import RepairLocked
from monitoring_pipelines.compensation.rollback import Rollbacker
from monitoring_pipelines.compensation.session import MysqlSession
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import repair as store
from monitoring_pipelines_tests.compensation.platform import JOURNAL
from monitoring_pipelines_tests.support.mysql_proxy import MysqlProxy

TASKS = {"a": 2, "b": 1}


@pytest.fixture
def proxy(shop, monkeypatch):
    with MysqlProxy(shop.db.server.host, shop.db.server.port) as proxy:
        monkeypatch.setenv("SHOP_REPAIR", shop.db.server.dsn(shop.db.name, port=proxy.port))
        yield proxy


def child(shop, work) -> int:
    """Run ``work`` in a process of its own, with a state store of its own; its id."""
    pid = os.fork()
    if pid:
        shop.clock.advance(1)  # ids of parent and child must not meet
        return pid
    code = 1
    try:
        shop._state = StateStore(shop.settings.state_url())
        work()
        code = 0
    finally:
        os._exit(code)


def kill_at(shop, proxy, number, moment, work) -> bool:
    """Run ``work`` in a child that is killed at a moment of its ``number``-th statement; False if it ended before."""
    pids: list[int] = []

    def hook(n, text, when):
        if (n, when) == (number, moment):
            os.kill(pids[0], signal.SIGKILL)
            return True
        return False

    proxy.reset(hook)
    pids.append(child(shop, work))
    _, status = os.waitpid(pids[0], 0)
    return os.WIFSIGNALED(status)


def unlocked(work):
    """Repeat while the server has not yet noticed that the killed process is gone."""
    for _ in range(200):
        try:
            return work()
        except RepairLocked:
            time.sleep(0.02)
    raise AssertionError("the lock of the killed process was never released")


def table_rows(shop):
    return {str(row[0]): row[1] for row in shop.db.execute("select id, task_id from task_outputs")}


def journal(shop):
    """(inserted primary keys, removed ones) as the journal tells."""
    rows = shop.db.execute(f"select op, pk from `{JOURNAL}`.repair_journal")
    keys = [(op, json.loads(pk)["id"]) for op, pk in rows]
    return {k for op, k in keys if op == "insert"}, {k for op, k in keys if op != "insert"}


def reset(shop):
    shop.db.execute("delete from task_outputs")
    shop.db.execute(f"delete from `{JOURNAL}`.repair_journal")


def assert_all_or_nothing(shop):
    present = table_rows(shop)
    for key, outputs in TASKS.items():
        assert list(present.values()).count(key) in (0, outputs)
    inserted, removed = journal(shop)
    assert set(present) == inserted - removed


def prepare(shop):
    for key, outputs in TASKS.items():
        shop.task(key, outputs=outputs)


@pytest.mark.parametrize(("together", "least"), [(True, 24), (False, 45)])
def test_a_kill_at_every_statement_of_apply_leaves_tasks_whole_and_resume_finishes(
    shop, proxy, monkeypatch, together, least
):
    """With the statements of a trip sent together, as usual, and one by one, so that every boundary is met."""
    monkeypatch.setattr(MysqlSession, "together", together)
    prepare(shop)
    number, kills = 1, 0
    while True:
        killed = []
        for moment in ("before", "after"):
            plan = shop.approved(mode="only_if_empty")

            def work(plan=plan):
                shop.applier().apply(plan["plan_id"], "carl", batch_size=2)

            killed.append(kill_at(shop, proxy, number, moment, work))
            assert_all_or_nothing(shop)
            proxy.reset(None)
            with shop.state.read() as con:
                (run,) = store.list_runs(con, plan["plan_id"])
            if killed[-1]:
                kills += 1
                resumed = unlocked(lambda run=run: shop.applier().resume(run["run_id"], "dora"))
                assert resumed["counters"]["adds_up"]
                assert resumed["state"] == "finished"
            assert_all_or_nothing(shop)
            assert len(table_rows(shop)) == sum(TASKS.values())
            reset(shop)
        if not any(killed):
            break
        number += 1
    assert kills > least  # the whole run was covered


def test_a_kill_at_every_statement_of_rollback_leaves_tasks_whole_and_a_second_one_finishes(shop, proxy):
    prepare(shop)
    number, kills = 1, 0
    while True:
        killed = []
        for moment in ("before", "after"):
            plan = shop.approved()
            proxy.reset(None)
            shop.applier().apply(plan["plan_id"], "carl")

            def work(plan=plan):
                Rollbacker(shop.settings, shop.state, shop.clock).rollback("carl", plan_id=plan["plan_id"])

            killed.append(kill_at(shop, proxy, number, moment, work))
            kills += killed[-1]
            assert_all_or_nothing(shop)
            proxy.reset(None)
            again = Rollbacker(shop.settings, shop.state, shop.clock)
            done = unlocked(lambda again=again, plan=plan: again.rollback("dora", plan_id=plan["plan_id"]))
            assert done["counters"]["adds_up"]
            assert done["counters"]["deleted"] + done["counters"]["already_absent"] == sum(TASKS.values())
            assert table_rows(shop) == {}
            inserted, removed = journal(shop)
            assert inserted == removed
            reset(shop)
        if not any(killed):
            break
        number += 1
    assert kills > 30


@pytest.mark.parametrize("mode", ["mysql", "wal"])
def test_a_line_cut_at_any_statement_is_survived_and_a_lost_commit_is_decided_by_the_journal(shop, proxy, mode):
    shop.configure(repair=f"journal: {mode}\nlock_wait_s: 2")
    prepare(shop)
    number, cuts = 1, 0
    while True:
        cut = []
        for moment in ("before", "after"):
            plan = shop.approved()
            hit = []

            def hook(n, text, when, number=number, moment=moment, hit=hit):
                if (n, when) == (number, moment):
                    hit.append(text)
                    return True
                return False

            proxy.reset(hook)
            try:
                run = shop.applier().apply(plan["plan_id"], "carl")
            except ProductError:  # before the first write: nothing may be there
                left = table_rows(shop)
                proxy.reset(None)
                run = unlocked(lambda plan=plan: shop.applier().apply(plan["plan_id"], "carl"))
                assert left == {}
            if run["state"] == "paused":
                proxy.reset(None)
                run = unlocked(lambda run=run: shop.applier().resume(run["run_id"], "dora"))
            cut.append(bool(hit))
            cuts += bool(hit)
            assert run["state"] == "finished", run
            assert run["counters"]["adds_up"]
            assert sorted(table_rows(shop).values()) == ["a", "a", "b"], (number, moment, hit)
            if mode == "mysql":
                assert_all_or_nothing(shop)
            with shop.state.read() as con:
                mirrored = store.journal_rows(con, plan_id=plan["plan_id"])
            assert {row["pk"]["id"] for row in mirrored} == set(table_rows(shop))
            reset(shop)
        if not any(cut):
            break
        number += 1
    assert cuts > 24


def test_kills_around_every_commit_are_reconciled_in_wal_mode(shop, proxy):
    shop.configure(repair="journal: wal")
    prepare(shop)
    kills = 0
    for commit in range(1, len(TASKS) + 1):
        for moment in ("before", "after"):
            plan = shop.approved()
            pids: list[int] = []
            seen = []

            def hook(n, text, when, commit=commit, moment=moment, pids=pids, seen=seen):
                if text.endswith("COMMIT") and when == moment:
                    seen.append(n)
                    if len(seen) == commit:
                        os.kill(pids[0], signal.SIGKILL)
                        return True
                return False

            proxy.reset(hook)
            pids.append(child(shop, lambda plan=plan: shop.applier().apply(plan["plan_id"], "carl")))
            _, status = os.waitpid(pids[0], 0)
            kills += os.WIFSIGNALED(status)
            proxy.reset(None)
            with shop.state.read() as con:
                (run,) = store.list_runs(con, plan["plan_id"])
            done = unlocked(lambda run=run: shop.applier().resume(run["run_id"], "dora"))
            assert done["counters"]["adds_up"]
            assert sorted(table_rows(shop).values()) == ["a", "a", "b"]
            gone = unlocked(
                lambda plan=plan: Rollbacker(shop.settings, shop.state, shop.clock).rollback(
                    "d", plan_id=plan["plan_id"]
                )
            )
            assert gone["counters"]["deleted"] == 3
            assert table_rows(shop) == {}
    assert kills == 2 * len(TASKS)
