"""Applying against a real server: what is written, what is refused, what is kept out (R-401…R-412)."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta

import pymysql
import pytest

from monitoring_pipelines.compensation.approve import approve, reject
from monitoring_pipelines.compensation.grants import statements
from monitoring_pipelines.compensation.model import RepairLocked, RepairRefused
from monitoring_pipelines.compensation.session import lock_name
from monitoring_pipelines.state import repair as store
from monitoring_pipelines.state.types import canonical_json
from monitoring_pipelines_tests.compensation.platform import JOURNAL, NOW
from monitoring_pipelines_tests.support.mysql_proxy import MysqlProxy


def apply(shop, plan, **options):
    return shop.applier().apply(plan["plan_id"], "carl", **options)


def refusal(shop, plan):
    with pytest.raises(RepairRefused) as refused:
        apply(shop, plan)
    return refused.value.code


def run_states(shop, plan):
    with shop.state.read() as con:
        return {i["task_key"]: i["run_state"] for i in store.get_items(con, plan["plan_id"])}


def test_apply_inserts_exactly_the_planned_rows_and_journals_them(shop):
    shop.task("a", outputs=2)
    shop.task("b")
    plan = shop.approved()
    run = apply(shop, plan)
    assert run["state"] == "finished"
    counters = run["counters"]
    assert (counters["eligible"], counters["tasks_committed"], counters["rows_inserted"]) == (2, 2, 3)
    assert counters["adds_up"]
    assert shop.rows("task_id, node_id, name, file_url, file_type, file_size, local_path, thumbnail_path, cast(created_at as char)") == [
        ("a", "9", "0.png", "https://files.example.net/a/0.png?sign=abc0", "png", None, None, "", "2026-02-01 12:00:00.000"),
        ("a", "10", "1.png", "https://files.example.net/a/1.png?sign=abc1", "png", None, None, "", "2026-02-01 12:00:00.000"),
        ("b", "9", "0.png", "https://files.example.net/b/0.png?sign=abc0", "png", None, None, "", "2026-02-01 12:00:00.000"),
    ]  # fmt: skip
    assert [row[:2] + row[3:5] for row in shop.journal()] == [("insert", k, "committed", None) for k in ("a", "a", "b")]
    assert set(run_states(shop, plan).values()) == {"committed"}
    with shop.state.read() as con:
        assert store.get_plan(con, plan["plan_id"])["state"] == "applied"
        assert len(store.journal_rows(con, plan_id=plan["plan_id"])) == 3


def test_the_after_image_is_the_whole_row_as_the_server_returns_it(shop):
    shop.task("a")
    apply(shop, shop.approved())
    after, digest = shop.db.execute(f"select after_image, after_sha256 from `{JOURNAL}`.repair_journal")[0]
    with shop.db.connect(conv={}) as con, con.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute("select * from task_outputs")
        row = cursor.fetchone()
    assert canonical_json(row) == after  # every column, the server's own default of `seen_at` included
    assert hashlib.sha256(after.encode()).hexdigest() == digest


def test_applying_again_inserts_nothing(shop):
    shop.task("a")
    plan = shop.approved()
    apply(shop, plan)
    again = apply(shop, plan)["counters"]
    assert (again["rows_inserted"], again["already_present"], again["already_done"], again["adds_up"]) == (
        0,
        1,
        1,
        True,
    )
    assert len(shop.rows()) == 1


def test_the_rows_the_application_wrote_in_between_are_not_written_again(shop):
    for key in ("late", "partly", "gone"):
        shop.task(key, outputs=2)
    plan = shop.approved(mode="add_missing")
    shop.output("late", 0)
    shop.output("late", 1)
    shop.output("partly", 1)
    shop.db.execute("update tasks set status = 'FAILED' where task_id = 'gone'")
    counters = apply(shop, plan)["counters"]
    assert (counters["tasks_committed"], counters["already_present"], counters["failed_by_reason"]) == (
        1,
        1,
        {"state_changed": 1},
    )
    assert (counters["rows_inserted"], counters["rows_skipped_existing"], counters["adds_up"]) == (1, 3, True)
    keys = shop.db.execute("select task_id, node_id, count(*) from task_outputs group by 1, 2 order by 1, 2")
    assert keys == (("late", "10", 1), ("late", "9", 1), ("partly", "10", 1), ("partly", "9", 1)) or list(keys) == [
        ("late", "10", 1), ("late", "9", 1), ("partly", "10", 1), ("partly", "9", 1),
    ]  # fmt: skip


def test_only_if_empty_leaves_a_task_alone_that_has_an_output_by_now(shop):
    shop.task("t", outputs=2)
    plan = shop.approved()
    shop.output("t", 1)
    counters = apply(shop, plan)["counters"]
    assert (counters["already_present"], counters["rows_inserted"]) == (1, 0)
    assert len(shop.rows()) == 1


@pytest.mark.parametrize(
    "change",
    ["update tasks set runninghub_task_id = 'other'", "delete from tasks", "update tasks set status = 'RUNNING'"],
)
def test_a_task_that_changed_since_planning_is_not_touched(shop, change):
    shop.task("t")
    plan = shop.approved()
    shop.db.execute(change)
    assert apply(shop, plan)["counters"]["failed_by_reason"] == {"state_changed": 1}
    assert len(shop.rows()) == 0


def test_a_unique_key_skips_its_row_and_keeps_the_others(shop):
    shop.db.execute("alter table task_outputs add unique key (name)")
    shop.task("a", outputs=2)
    shop.db.execute(
        "insert into task_outputs (task_id, name, thumbnail_path, created_at) values ('x', '0.png', '', now())"
    )
    counters = apply(shop, shop.approved())["counters"]
    assert (counters["tasks_committed"], counters["rows_inserted"], counters["rows_skipped_existing"]) == (1, 1, 1)
    assert [row[2] for row in shop.rows()] == ["0.png", "1.png"]


def test_an_error_of_one_task_rolls_back_that_task_only(shop):
    shop.db.execute("alter table task_outputs add check (name <> '1.png')")
    shop.task("bad", outputs=2)
    shop.task("good")
    shop.clock.advance(0)
    counters = apply(shop, shop.approved())["counters"]
    assert (counters["tasks_committed"], counters["failed_by_reason"]) == (1, {"constraint": 1})
    assert [row[0] for row in shop.rows()] == ["good"]
    assert [row[1] for row in shop.journal()] == ["good"]


# --- refusals before the first write (R-402) ---------------------------------------------------------------------------


def test_a_plan_that_nobody_approved_is_refused(shop):
    shop.task("t")
    plan = shop.plan()
    assert refusal(shop, plan) == "not_approved"
    reject(shop.state, shop.clock, plan["plan_id"], "bob")
    assert refusal(shop, plan) == "not_approved"
    with shop.state.read() as con:
        assert [run["state"] for run in store.list_runs(con, plan["plan_id"])] == ["refused", "refused"]


def test_an_old_plan_is_refused(shop):
    shop.task("t")
    plan = shop.approved()
    shop.clock.advance(24 * 3600 + 1)
    assert refusal(shop, plan) == "stale_plan"
    with shop.state.read() as con:
        assert store.get_plan(con, plan["plan_id"])["state"] == "stale"


def test_a_changed_table_is_refused(shop):
    shop.task("t")
    plan = shop.approved()
    shop.db.execute("alter table task_outputs modify name varchar(200)")
    assert refusal(shop, plan) == "schema_drift"


def test_a_changed_mapping_is_refused(shop):
    shop.task("t")
    plan = shop.approved()
    shop.configure(repair="media_types: [png]")
    assert refusal(shop, plan) == "config_changed"


def test_a_missing_journal_is_refused(shop):
    shop.task("t")
    plan = shop.approved()
    shop.db.execute(f"drop table `{JOURNAL}`.repair_journal")
    assert refusal(shop, plan) == "journal_missing"


def test_a_missing_repair_account_is_refused(shop):
    shop.task("t")
    text = (shop.directory / "monitoring.yaml").read_text()
    (shop.directory / "monitoring.yaml").write_text(text.replace("    repair_dsn_env: SHOP_REPAIR\n", ""))
    from monitoring_pipelines.config import load_settings

    shop.settings = load_settings(shop.directory / "monitoring.yaml")
    assert refusal(shop, shop.approved()) == "repair_dsn_missing"


def test_an_item_that_was_changed_after_approval_is_refused(shop):
    shop.task("t")
    plan = shop.approved()
    with shop.state.begin() as con:
        from sqlalchemy import update

        from monitoring_pipelines.state.tables import repair_item

        rows = store.get_items(con, plan["plan_id"])[0]["rows"]
        rows[0]["values"]["file_url"] = "https://evil.example/x.png"
        con.execute(update(repair_item).values(rows=rows))
    assert refusal(shop, plan) == "plan_changed"
    assert len(shop.rows()) == 0


def test_an_approval_is_bound_to_the_hash_that_was_seen(shop):
    shop.task("t")
    plan = shop.plan()
    with pytest.raises(RepairRefused) as refused:
        approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob", plan_hash="0" * 64)
    assert refused.value.code == "hash_differs"


def test_two_persons_means_two(shop):
    shop.configure(repair="two_person: true")
    shop.task("t")
    plan = shop.plan()
    with pytest.raises(RepairRefused) as refused:
        approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "ann")
    assert refused.value.code == "two_person"
    approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob")


def test_policy_approves_only_small_clean_plans_and_only_when_configured(shop):
    shop.task("t", outputs=2)
    assert shop.plan()["state"] == "ready"
    shop.configure(repair="auto_approve: {max_rows: 1}")
    assert shop.plan()["state"] == "ready"
    shop.configure(repair="auto_approve: {max_rows: 2}")
    assert shop.plan()["state"] == "approved"
    shop.task("bad")
    shop.api.results["r-bad"] = [{"fileUrl": "nonsense", "fileType": "png"}]
    assert shop.plan()["state"] == "ready"


def test_a_read_only_server_is_refused_before_the_first_write(own_mariadb, api, tmp_path, monkeypatch):
    from monitoring_pipelines_tests.compensation.platform import Shop, config, environment
    from monitoring_pipelines_tests.support.mysql_server import TestDatabase

    db = TestDatabase(own_mariadb).create()
    environment(monkeypatch, api, db.dsn)
    shop = Shop(db, api, tmp_path, config(tmp_path))
    shop.create()
    shop.task("t")
    plan = shop.approved()
    db.execute("set global read_only = 1")
    assert refusal(shop, plan) == "read_only_target"


def account(shop, name, *grants):
    shop.db.execute(f"drop user if exists '{name}'@'%'")
    shop.db.execute(f"create user '{name}'@'%' identified by 'pw'")
    for grant in grants:
        shop.db.execute(f"grant {grant} to '{name}'@'%'")
    server = shop.db.server
    return f"mysql://{name}:pw@{server.host}:{server.port}/{shop.db.name}"


def test_missing_rights_are_refused_with_the_servers_words(shop, monkeypatch):
    shop.task("t")
    plan = shop.approved()
    db = shop.db.name
    dsn = account(shop, "mp_poor", f"select, lock tables on {db}.*",
                  f"select, insert, update on `{JOURNAL}`.*")  # fmt: skip
    monkeypatch.setenv("SHOP_REPAIR", dsn)
    with pytest.raises(RepairRefused) as refused:
        apply(shop, plan)
    assert refused.value.code == "privileges_missing"
    assert "INSERT" in refused.value.cause
    assert len(shop.rows()) == 0


@pytest.mark.parametrize(
    ("missing", "word"),
    [
        ("tasks", "tasks"),
        ("task_outputs", "task_outputs"),
        ("journal", "repair_journal"),
        ("lock", "SELECT with locking"),
    ],
)
def test_each_right_a_task_needs_is_asked_for_before_the_first_write(shop, monkeypatch, missing, word):
    if missing == "lock" and "mariadb" in shop.db.execute("select version()")[0][0].lower():
        return  # MariaDB asks for no right to lock; nothing can be missing
    shop.task("t")
    plan = shop.approved()
    db = shop.db.name
    grants = {
        "tasks": f"select on {db}.tasks", "task_outputs": f"select, insert on {db}.task_outputs",
        "journal": f"select, insert, update on `{JOURNAL}`.*", "lock": f"lock tables on {db}.*",
    }  # fmt: skip
    del grants[missing]
    if missing == "journal":
        grants["journal"] = f"select on `{JOURNAL}`.*"
    monkeypatch.setenv("SHOP_REPAIR", account(shop, "mp_part", *grants.values()))
    with pytest.raises(RepairRefused) as refused:
        apply(shop, plan)
    assert refused.value.code in ("privileges_missing", "no_output_table")
    assert word in str(refused.value.cause or refused.value.message)
    assert len(shop.rows()) == 0


def test_the_documented_rights_suffice(shop, monkeypatch):
    shop.task("t")
    plan = shop.approved()
    db = shop.db.name
    dialect = "mariadb" if "mariadb" in shop.db.execute("select version()")[0][0].lower() else "mysql"
    names = dict.fromkeys(("read", "repair", "rollback", "init"), "'mp_repair'@'%'")
    documented = statements(
        shop.settings, dialect, [f"`{db}`.`tasks`", f"`{db}`.`task_outputs`"], f"`{db}`.`task_outputs`", [], names
    )
    dsn = account(shop, "mp_repair")
    for statement in documented["repair"]:
        shop.db.execute(statement.rstrip(";"))
    monkeypatch.setenv("SHOP_REPAIR", dsn)
    assert apply(shop, plan)["counters"]["rows_inserted"] == 1


# --- lock and races ----------------------------------------------------------------------------------------------------


def test_two_applies_at_once_one_works_and_the_other_is_locked_out(shop):
    shop.task("t")
    plan = shop.approved()
    with shop.db.connect() as other, other.cursor() as cursor:
        cursor.execute("select get_lock(%s, 0)", [lock_name("shop")])
        with pytest.raises(RepairLocked):
            apply(shop, plan)
    with shop.state.read() as con:
        run = store.list_runs(con, plan["plan_id"])[0]
    assert (run["state"], run["counters"]["rows_inserted"]) == ("locked", 0)
    assert len(shop.rows()) == 0


def test_a_lock_name_fits_the_server():
    assert len(lock_name("s" * 32)) <= 64


@pytest.mark.parametrize(("setting", "rows"), [("auto", 1), ("report", 2)])
def test_our_own_later_duplicate_is_removed_in_a_transaction_of_its_own(shop, monkeypatch, setting, rows):
    """The application inserts the same output after our locking read and before our insert: ours is the later row."""
    shop.configure(repair=f"self_revert: {setting}")
    shop.task("t")
    plan = shop.approved()

    def application_writes(number, text, moment):
        if text.startswith("SAVEPOINT mp_row") and moment == "before":
            shop.output("t", 0)

    with MysqlProxy(shop.db.server.host, shop.db.server.port, application_writes) as proxy:
        monkeypatch.setenv("SHOP_REPAIR", shop.db.server.dsn(shop.db.name, port=proxy.port))
        counters = apply(shop, plan)["counters"]
    expected = (1, 1, 0) if rows == 1 else (1, 0, 1)
    assert (counters["rows_inserted"], counters["rows_self_reverted"], counters["duplicates_reported"]) == expected
    assert [row[0] for row in shop.rows("file_size")] == [10, None][:rows]
    assert [row[0] for row in shop.journal()] == ["insert", "self_revert"][: 3 - rows]


def test_an_application_row_that_is_being_inserted_is_waited_for(shop):
    """An uncommitted row of the application is no reason for a second one: the locking read waits for it."""
    shop.task("t")
    plan = shop.approved()
    other = shop.db.connect(autocommit=False)
    shop.output("t", 0, other)
    release = threading.Timer(0.5, other.commit)
    release.start()
    counters = apply(shop, plan)["counters"]
    release.join()
    other.close()
    assert (counters["already_present"], counters["rows_inserted"]) == (1, 0)


def test_a_lock_wait_timeout_is_tried_again(shop):
    """Another session holds the task's row long enough for one lock wait timeout; a real deadlock: ``test_faults``."""
    shop.configure(repair="lock_wait_s: 1")
    shop.task("t")
    plan = shop.approved()
    other = shop.db.connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("select * from tasks where task_id = 't' for update")
    release = threading.Timer(1.5, other.rollback)
    release.start()
    try:
        counters = apply(shop, plan)["counters"]
    finally:
        release.join()
        other.close()
    assert (counters["tasks_committed"], counters["failed"]) == (1, 0)


def test_a_lock_that_stays_is_a_transient_failure_and_resume_finishes(shop):
    shop.configure(repair="lock_wait_s: 1")
    shop.task("a")
    shop.task("b")
    plan = shop.approved()
    other = shop.db.connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("select * from tasks where task_id = 'a' for update")
    run = apply(shop, plan)
    other.close()
    assert run["counters"]["failed_by_reason"] == {"transient_error": 1}
    assert [row[0] for row in shop.rows()] == ["b"]
    resumed = shop.applier().resume(run["run_id"], "dora")
    assert resumed["counters"]["tasks_committed"] == 1
    assert resumed["counters"]["already_done"] == 1
    assert sorted(row[0] for row in shop.rows()) == ["a", "b"]


# --- stop rules --------------------------------------------------------------------------------------------------------


def test_too_many_failures_in_a_batch_pause_the_run_and_the_rest_is_not_reached(shop):
    shop.db.execute("alter table task_outputs add check (task_id <> 'a' and task_id <> 'b')")
    for key in "abcdefgh":
        shop.task(key)
    run = apply(shop, shop.approved(), batch_size=5)
    assert run["state"] == "paused"
    counters = run["counters"]
    assert (counters["tasks_committed"], counters["failed"], counters["not_reached"], counters["adds_up"]) == (
        3,
        2,
        3,
        True,
    )


def test_a_pause_file_pauses_between_batches_and_resume_goes_on(shop):
    for key in "abcd":
        shop.task(key)
    plan = shop.approved()
    file = shop.settings.data_path / "repair-shop.pause"
    run = apply(shop, plan, batch_size=2, progress=lambda *_: file.touch())
    assert (run["state"], run["counters"]["tasks_committed"], run["counters"]["not_reached"]) == ("paused", 2, 2)
    assert "pause file" in run["reason"]
    file.unlink()
    resumed = shop.applier().resume(run["run_id"], "dora")
    assert (resumed["state"], resumed["counters"]["tasks_committed"], resumed["counters"]["already_done"]) == (
        "finished",
        2,
        2,
    )
    assert [row[0] for row in shop.rows()] == ["a", "b", "c", "d"]


def test_nothing_is_written_while_a_pause_file_is_there(shop):
    shop.task("a")
    plan = shop.approved()
    file = shop.settings.data_path / "repair-shop.pause"
    file.touch()
    run = apply(shop, plan)
    assert (run["state"], run["counters"]["tasks_committed"], run["counters"]["not_reached"]) == ("paused", 0, 1)
    assert shop.rows() == []
    file.unlink()
    assert shop.applier().resume(run["run_id"], "dora")["counters"]["tasks_committed"] == 1


def test_an_approval_is_good_for_one_apply_and_its_resumes(shop):
    shop.configure(repair="lock_wait_s: 1")
    shop.task("a")
    plan = shop.approved()
    other = shop.db.connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("select * from tasks for update")
    first = apply(shop, plan)
    other.close()
    second = apply(shop, plan)["counters"]
    assert (second["rows_inserted"], second["not_reached"], second["adds_up"]) == (0, 1, True)
    assert shop.applier().resume(first["run_id"], "dora")["counters"]["rows_inserted"] == 1


# --- values ------------------------------------------------------------------------------------------------------------


def test_values_of_four_bytes_and_of_all_collations_arrive_unharmed(shop):
    shop.task("t-😀")
    shop.api.results["r-t-😀"] = [
        {"fileUrl": "https://f.example/图像-%F0%9F%98%80.png", "fileType": "png", "nodeId": "节点'\"\\%s"}
    ]
    apply(shop, shop.approved())
    assert shop.rows("task_id, node_id, name") == [("t-😀", "节点'\"\\%s", "图像-😀.png")] or tuple(
        shop.rows("task_id, node_id, name")
    ) == (("t-😀", "节点'\"\\%s", "图像-😀.png"),)


def test_a_case_insensitive_collation_never_joins_two_tasks(shop):
    """The output table's collation says that X9 and x9 are equal; the product does not (E-401)."""
    shop.task("X9")
    shop.task("x9")
    shop.output("x9")
    plan = shop.approved()
    run = apply(shop, plan)
    assert run["counters"]["rows_inserted"] == 1
    assert sorted(row[0] for row in shop.rows()) == ["X9", "x9"]
    found = shop.applier()
    assert found.apply(plan["plan_id"], "carl")["counters"]["rows_inserted"] == 0


def test_created_at_follows_the_columns_time_kind(shop):
    shop.configure(
        source="timezone: Asia/Tokyo\ntables:\n  task_output:\n    columns:\n      created_at: {column: created_at, time: naive_local}"
    )
    shop.task("t")
    apply(shop, shop.approved())
    assert str(shop.rows("created_at")[0][0]) == "2026-02-01 21:00:00"


def test_created_at_may_be_the_tasks_end(shop):
    shop.configure(repair="created_at: effective_end")
    shop.task("t", ended=NOW - timedelta(hours=3, milliseconds=1))
    apply(shop, shop.approved())
    assert str(shop.rows("created_at")[0][0]) == "2026-02-01 08:59:59.999000"


# --- the statement log -------------------------------------------------------------------------------------------------


def test_the_forward_path_sends_no_update_no_delete_and_no_ddl(shop):
    for key in "abc":
        shop.task(key, outputs=2)
    plan = shop.approved()
    shop.output("c", 0)
    tables = "checksum table tasks, unrelated"
    before = shop.db.execute(tables)
    with shop.statement_log() as sent:
        apply(shop, plan)
    assert "COMMIT" in sent
    words = {text.split()[0].upper() for text in sent}
    allowed = {"SELECT", "SET", "SHOW", "START", "SAVEPOINT", "RELEASE", "INSERT", "COMMIT", "ROLLBACK", "EXPLAIN"}
    assert words <= allowed
    inserts = {text.split()[2] for text in sent if text.upper().startswith("INSERT")}
    assert inserts == {"`task_outputs`", f"`{JOURNAL}`.`repair_journal`"}
    ends = [text for text in sent if text in ("START TRANSACTION", "COMMIT", "ROLLBACK")]
    assert ends == ["START TRANSACTION", "COMMIT"] * 2 + ["START TRANSACTION", "ROLLBACK"]
    assert shop.db.execute(tables) == before
