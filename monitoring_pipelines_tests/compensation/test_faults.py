"""What goes wrong between us and a server: deadlocks, lag, killed processes, proxies, files (R-403…R-409).

What belongs here: faults that need a second session, a second server or a killed process. What does not: kills at every
statement (``test_crash``), refusals (``test_apply``).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from datetime import timedelta

import pymysql
import pytest
from dagster import DagsterInstance, build_sensor_context
from pymysql.cursors import DictCursor

from monitoring_pipelines.compensation.interrupted import REASON, find_interrupted
from monitoring_pipelines.compensation.notices import observations
from monitoring_pipelines.compensation.session import SqliteSession, TryAgain
from monitoring_pipelines.compensation.throttle import LONGEST_WAIT_S
from monitoring_pipelines.definitions import build_defs
from monitoring_pipelines.state import repair as store
from monitoring_pipelines.state import tables as t
from monitoring_pipelines_tests.compensation.platform import NOW, Shop, config, environment
from monitoring_pipelines_tests.compensation.test_crash import child
from monitoring_pipelines_tests.support.mysql_proxy import MysqlProxy
from monitoring_pipelines_tests.support.mysql_server import TestDatabase, TestServer


def apply(shop, plan, **options):
    return shop.applier().apply(plan["plan_id"], "carl", **options)


def through(shop, monkeypatch, proxy) -> None:
    monkeypatch.setenv("SHOP_REPAIR", shop.db.server.dsn(shop.db.name, port=proxy.port))


def test_a_deadlock_with_the_application_ends_in_one_complete_task(shop, monkeypatch):
    """Two sessions wait for each other: we hold the task and want its outputs, the application the other way round."""
    shop.task("t", outputs=2)
    shop.task("other")
    plan = shop.approved(task_ids=("t",))
    shop.output("t", 0)
    shop.db.execute("update task_outputs set file_url = 'https://files.example.net/t/else.png', node_id = '1'")
    plan = shop.approved(task_ids=("t",), mode="add_missing")
    writer = shop.db.connect(autocommit=False)
    with writer.cursor() as cursor:
        # A heavy transaction: the server gives up the lighter one, which is ours.
        cursor.execute("create temporary table ballast (n int primary key) engine=innodb")
        cursor.execute("update tasks set workflow_id = 'x' where task_id = 'other'")
        for n in range(50):
            cursor.execute(
                "insert into task_outputs (task_id, thumbnail_path, created_at) values ('other', %s, now())", [str(n)]
            )
        cursor.execute("update task_outputs set file_size = 1 where task_id = 't'")
    tried, crossed = [], threading.Event()

    def wants_our_task():
        with writer.cursor() as cursor:
            cursor.execute("update tasks set workflow_id = 'y' where task_id = 't'")
        writer.commit()

    application = threading.Thread(target=wants_our_task)

    def hook(number, text, moment):
        if "FOR UPDATE" in text and "START" not in text and " 1 = 0" not in text and moment == "after":
            tried.append(text)
            if not crossed.is_set():
                crossed.set()
                application.start()
                waiting(shop)

    monkeypatch.setattr("monitoring_pipelines.compensation.session.MysqlSession.together", False)
    with MysqlProxy(shop.db.server.host, shop.db.server.port, hook) as proxy:
        through(shop, monkeypatch, proxy)
        counters = apply(shop, plan)["counters"]
    application.join(10)
    writer.close()
    assert len(tried) >= 2, "the first try was given up"
    assert (counters["tasks_committed"], counters["rows_inserted"], counters["failed"]) == (1, 2, 0)
    assert shop.db.execute("select workflow_id from tasks where task_id = 't'")[0][0] == "y"
    assert shop.db.execute("select count(*) from task_outputs where task_id = 't'")[0][0] == 3


def waiting(shop) -> None:
    """Return when a session waits for a row lock. InnoDB looks anew only if nobody has asked for a tenth of a second."""
    for _ in range(100):
        rows = shop.db.execute("select trx_state from information_schema.innodb_trx where trx_state = 'LOCK WAIT'")
        if rows:
            return
        threading.Event().wait(0.15)
    raise AssertionError("nobody waits for a lock")


# --- replica lag -------------------------------------------------------------------------------------------------------


#: What the servers call it: how to point a replica at its primary, start and stop it, and ask it.
REPLICA = {
    "mariadb": {
        "forget": "reset master", "status": "show slave status", "behind": "Seconds_Behind_Master",
        "source": "change master to master_host = %s, master_port = %s, master_user = %s, master_password = %s",
        "delay": "change master to master_delay = {}", "start": "start slave", "stop": "stop slave",
        "stop_sql": "stop slave sql_thread",
    },
    "mysql": {
        "forget": "reset binary logs and gtids", "status": "show replica status", "behind": "Seconds_Behind_Source",
        "source": "change replication source to source_host = %s, source_port = %s, source_user = %s, "
        "source_password = %s, get_source_public_key = 1",
        "delay": "change replication source to source_delay = {}", "start": "start replica", "stop": "stop replica",
        "stop_sql": "stop replica sql_thread",
    },
}  # fmt: skip


class Pair:
    """A primary and a replica of it that reads nothing yet."""

    def __init__(self, primary: TestServer, replica: TestServer) -> None:
        self.primary, self.replica, self.words = primary, replica, REPLICA[primary.dialect]
        self.tell(self.words["source"], [primary.host, primary.port, primary.user, primary.password])

    def tell(self, statement: str, args=None) -> None:
        with self.replica.connect() as con, con.cursor() as cursor:
            cursor.execute(self.words.get(statement, statement), args)

    def delay(self, seconds: int) -> None:
        self.tell(self.words["delay"].format(seconds))

    def behind(self) -> int | None:
        """Seconds the replica says it is behind."""
        with self.replica.connect(cursorclass=DictCursor) as con, con.cursor() as cursor:
            cursor.execute(self.words["status"])
            return cursor.fetchone()[self.words["behind"]]

    def rows(self, database: str) -> int:
        """Outputs that the replica has."""
        with self.replica.connect() as con, con.cursor() as cursor:
            try:
                cursor.execute(f"select 1 from `{database}`.task_outputs")
            except pymysql.err.ProgrammingError:
                return -1
            return cursor.rowcount


@pytest.fixture
def pair():
    primary, replica = TestServer.start("--log-bin", "--server-id=1"), None
    try:
        with primary.connect() as con, con.cursor() as cursor:
            cursor.execute(REPLICA[primary.dialect]["forget"])  # its accounts are its own
        replica = TestServer.start("--server-id=2")
        yield Pair(primary, replica)
    finally:
        if replica is not None:
            replica.stop()
        primary.stop()


def paired(pair, api, tmp_path, monkeypatch, keys: str):
    """A shop read from the replica: (shop, its approved plan)."""
    db = TestDatabase(pair.primary).create()
    environment(monkeypatch, api, db.dsn)
    shop = Shop(db, api, tmp_path, config(tmp_path, "max_replica_lag_s: 1", "read_replica: true"))
    shop.create()
    for key in keys:
        shop.task(key)
    plan = shop.approved()
    monkeypatch.setenv("SHOP_READ", TestDatabase(pair.replica, db.name).dsn)
    return shop, plan


def test_a_replica_that_is_behind_makes_apply_wait_and_then_pause_before_it_writes(pair, api, tmp_path, monkeypatch):
    """The replica applies everything an hour later."""
    shop, plan = paired(pair, api, tmp_path, monkeypatch, "abcd")
    TestDatabase(pair.replica, shop.db.name).create()
    pair.delay(3600)
    pair.tell("start")
    until(lambda: (pair.behind() or 0) > 1)
    applier, slept = shop.applier(), []
    applier.sleep = slept.append
    run = applier.apply(plan["plan_id"], "carl", batch_size=2)
    assert (run["state"], run["counters"]["tasks_committed"], run["counters"]["not_reached"]) == ("paused", 0, 4)
    assert "s behind, limit 1" in run["reason"]
    assert run["counters"]["waited_s"] == sum(slept) == LONGEST_WAIT_S
    pair.tell("stop")
    pair.tell(f"drop database `{shop.db.name}`")
    pair.delay(0)
    pair.tell("start")
    until(lambda: pair.behind() == 0 and pair.rows(shop.db.name) == 0)
    assert shop.applier().resume(run["run_id"], "dora")["counters"]["tasks_committed"] == 4


def test_a_replica_that_stops_replicating_makes_apply_wait_and_then_pause(pair, api, tmp_path, monkeypatch):
    """It is not known how far it is behind; the reason is shown while the run waits, and gone when it goes on."""
    shop, plan = paired(pair, api, tmp_path, monkeypatch, "abcdef")
    pair.tell("start")
    until(lambda: pair.behind() == 0 and pair.rows(shop.db.name) == 0)
    applier, slept, told, shown = shop.applier(), [], [], []

    def batch_done(done, total, counters):
        told.append((done, counters.get("waits")))
        if (done, counters.get("waits")) in ((2, None), (4, None)) and not slept:
            pair.tell("stop_sql")

    def sleep(seconds):
        if not seconds or pair.behind() is not None:
            return
        slept.append(seconds)
        with shop.state.read() as con:
            shown.append(store.list_runs(con, plan["plan_id"])[-1]["reason"])
        if len(told) < 5 and len(slept) == 2:
            pair.tell("start")
            until(lambda: pair.behind() == 0)
            slept.clear()

    applier.sleep = sleep
    run = applier.apply(plan["plan_id"], "carl", batch_size=2, progress=batch_done)
    why = "the replica does not follow its primary: io thread: Yes, sql thread: No"
    # After the first batch it waits until replication goes on, after the second one until a minute has passed.
    assert told == [(2, None), (2, why), (2, None), (4, None), (4, why)]
    assert set(shown) == {f"waits: {why}"}
    assert (run["state"], run["reason"]) == ("paused", why)
    assert (run["counters"]["tasks_committed"], run["counters"]["not_reached"]) == (4, 2)
    assert sum(slept) == LONGEST_WAIT_S
    pair.tell("start")
    until(lambda: pair.behind() == 0)
    assert shop.applier().resume(run["run_id"], "dora")["counters"]["tasks_committed"] == 2


def until(true) -> None:
    for _ in range(600):
        if true():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not come true within 30 s")


# --- killed runs -------------------------------------------------------------------------------------------------------


def killed_run(shop, monkeypatch):
    """An apply that was killed after its first task: (plan, its run)."""
    for key in "ab":
        shop.task(key)
    plan = shop.approved()
    pids: list[int] = []

    def hook(number, text, moment):
        if text.endswith("COMMIT") and moment == "after":
            os.kill(pids[0], signal.SIGKILL)
            return True
        return False

    with MysqlProxy(shop.db.server.host, shop.db.server.port, hook) as proxy:
        through(shop, monkeypatch, proxy)
        pids.append(child(shop, lambda: apply(shop, plan)))
        os.waitpid(pids[0], 0)
    monkeypatch.setenv("SHOP_REPAIR", shop.db.dsn)
    with shop.state.read() as con:
        (run,) = store.list_runs(con, plan["plan_id"])
    assert run["state"] == "running"
    return plan, run


def lock_is_gone(shop):
    for _ in range(200):
        if shop.db.execute("select is_free_lock('mp_repair:shop')")[0][0] == 1:
            return
        threading.Event().wait(0.02)


def test_a_killed_run_is_found_by_its_free_lock_told_and_resumed(shop, monkeypatch):
    plan, run = killed_run(shop, monkeypatch)
    lock_is_gone(shop)
    shop.clock.advance(30)
    assert find_interrupted(shop.settings, shop.state, shop.clock) == [], "it may only just have started"
    shop.clock.advance(60)
    assert find_interrupted(shop.settings, shop.state, shop.clock) == [run["run_id"]]
    with shop.state.read() as con:
        stored, again = store.get_run(con, run["run_id"]), store.get_plan(con, plan["plan_id"])
    assert (stored["state"], stored["reason"], again["state"]) == ("failed", REASON, "partially_applied")
    told = {o.type: o for o in observations(shop.state, ["shop"])}["repair_failed"]
    assert (told.condition, told.details["run_id"]) == ("true", run["run_id"])
    resumed = shop.applier().resume(run["run_id"], "dora")
    assert (resumed["state"], resumed["counters"]["already_done"], resumed["counters"]["tasks_committed"]) == (
        "finished", 1, 1,
    )  # fmt: skip
    assert {o.type: o.condition for o in observations(shop.state, ["shop"])}["repair_failed"] == "false"


def test_a_run_that_works_is_not_taken_for_a_killed_one(shop, monkeypatch):
    _, run = killed_run(shop, monkeypatch)
    lock_is_gone(shop)
    shop.clock.advance(3600)
    with shop.db.connect() as other, other.cursor() as cursor:
        cursor.execute("select get_lock('mp_repair:shop', 0)")
        assert find_interrupted(shop.settings, shop.state, shop.clock) == []
    with shop.state.read() as con:
        assert store.get_run(con, run["run_id"])["state"] == "running"


def test_whoever_gets_the_lock_ends_the_killed_runs_before(shop, monkeypatch):
    _, run = killed_run(shop, monkeypatch)
    lock_is_gone(shop)
    assert shop.applier().resume(run["run_id"], "dora")["state"] == "finished"
    with shop.state.read() as con:
        assert (store.get_run(con, run["run_id"])["reason"]) == REASON


def test_a_run_stopped_by_hand_is_paused_and_resumed(shop):
    for key in "ab":
        shop.task(key)
    plan = shop.approved()

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(shop, plan, batch_size=1, progress=stop)
    with shop.state.read() as con:
        (run,) = store.list_runs(con, plan["plan_id"])
    assert (run["state"], run["counters"]["tasks_committed"], run["counters"]["not_reached"]) == ("paused", 1, 1)
    assert shop.applier().resume(run["run_id"], "dora")["counters"]["tasks_committed"] == 1


# --- proxies and files -------------------------------------------------------------------------------------------------


def test_a_server_that_takes_one_statement_at_a_time_gets_one_at_a_time(shop, monkeypatch):
    for key in "ab":
        shop.task(key, outputs=2)
    plan = shop.approved()

    def without_several(session, dsn, settings):
        import pymysql

        monkeypatch.setattr(pymysql.constants.CLIENT, "MULTI_STATEMENTS", 0)
        return opened(session, dsn, settings)

    from monitoring_pipelines.compensation.session import MysqlSession

    opened = MysqlSession._open
    monkeypatch.setattr(MysqlSession, "_open", without_several)
    with MysqlProxy(shop.db.server.host, shop.db.server.port) as proxy:
        through(shop, monkeypatch, proxy)
        counters = apply(shop, plan)["counters"]
    assert (counters["tasks_committed"], counters["rows_inserted"]) == (2, 4)
    assert "COMMIT" in proxy.statements


def sqlite_session(shop, name="app.sqlite"):
    path = shop.directory / name
    return SqliteSession(f"sqlite:///{path}", shop.settings)


def test_a_file_that_somebody_writes_is_tried_again_and_nothing_is_half_written(shop):
    shop.configure(repair="lock_wait_s: 1")
    path = shop.directory / "app.sqlite"
    with sqlite3.connect(path) as con:
        con.execute("create table t (id integer primary key, name text unique)")
    con.close()
    ours, other = sqlite_session(shop), sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(TryAgain):
        ours.several([(ours.begin_statement, None), ("insert into t (name) values (%s)", ["a"])])
    ours.rollback()
    other.execute("rollback")
    ours.several([(ours.begin_statement, None), ("insert into t (name) values (%s)", ["a"]), ("COMMIT", None)])
    assert other.execute("select name from t").fetchall() == [("a",)]
    ours.begin()
    with pytest.raises(Exception) as failed:
        ours.several([("insert into t (name) values ('b')", None), ("insert into t (name) values ('a')", None)])
    assert type(failed.value).__name__ == "DuplicateKey"
    assert len(failed.value.answers) == 1
    ours.rollback()
    assert other.execute("select count(*) from t").fetchone() == (1,)
    ours.close()
    other.close()


# --- the planning sensor -----------------------------------------------------------------------------------------------


def alert_of(shop, alert_id: str, state: str = "firing") -> None:
    with shop.state.begin() as con:
        con.execute(t.alert.insert().values(
            alert_id=alert_id, fingerprint=alert_id, open_fingerprint=alert_id, type="missing_task_outputs",
            alertname="MissingTaskOutputs", source_id="shop", severity="high", severity_label="high", state=state,
            labels={}, message="m", active_at=NOW, last_seen_at=NOW,
        ))  # fmt: skip


def test_the_planning_sensor_makes_one_plan_for_a_firing_alert_and_never_a_second(shop):
    shop.configure(repair="auto_plan: true")
    shop.task("t")
    repository = build_defs(settings=shop.settings, clock=shop.clock).get_repository_def()
    sensor = repository.get_sensor_def("auto_plan_sensor")
    assert sensor.default_status.value == "RUNNING"

    def tick():
        with (
            DagsterInstance.ephemeral() as instance,
            build_sensor_context(
                instance, repository_def=repository, resources=repository.get_top_level_resources()
            ) as context,
        ):
            return sensor.evaluate_tick(context).run_requests or []

    assert tick() == []
    alert_of(shop, "A1")
    (request,) = tick()
    assert request.tags["alert_id"] == "A1"
    done = repository.get_job("plan_compensation_job").execute_in_process(run_config=request.run_config)
    assert done.success
    with shop.state.read() as con:
        (plan,) = store.list_plans(con)
        assert store.list_runs(con) == [], "it plans and never applies"
    assert (plan["alert_id"], plan["state"], plan["window_to"] - plan["window_from"]) == (
        "A1",
        "ready",
        timedelta(hours=24),
    )
    assert tick() == [], "the alert has its plan"
    alert_of(shop, "A2")
    assert tick() == [], "at most one open plan per source"
