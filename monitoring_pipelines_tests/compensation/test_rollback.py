"""Verification and rollback against a real server (R-601…R-705)."""

from __future__ import annotations

import pytest

from monitoring_pipelines.compensation.model import RepairRefused
from monitoring_pipelines.compensation.notices import observations
from monitoring_pipelines.compensation.rollback import Rollbacker
from monitoring_pipelines.compensation.verify import Verifier
from monitoring_pipelines_tests.compensation.platform import JOURNAL


@pytest.fixture
def applied(shop):
    for key in "abc":
        shop.task(key, outputs=2)
    shop.task("x")
    shop.output("x")
    plan = shop.approved()
    run = shop.applier().apply(plan["plan_id"], "carl")
    assert run["counters"]["rows_inserted"] == 6
    return plan, run


def rollback(shop, **selection):
    return Rollbacker(shop.settings, shop.state, shop.clock).rollback("dora", **selection)


def firing(shop):
    return {o.type for o in observations(shop.state, ["shop"]) if o.condition == "true"}


def test_rollback_removes_exactly_what_was_inserted(shop, applied):
    before = shop.db.execute("select id, name from task_outputs where task_id = 'x'")
    run = rollback(shop, run_id=applied[1]["run_id"])
    assert run["counters"] == {
        "rows_journaled": 6, "deleted": 6, "modified_since": 0, "already_absent": 0, "blocked_by_reference": 0, "adds_up": True,
    }  # fmt: skip
    assert shop.db.execute("select id, name from task_outputs") == before
    assert [row[0] for row in shop.journal()].count("delete") == 6
    assert {row[4] for row in shop.journal("op = 'insert'")} == {run["run_id"]}
    assert not firing(shop)


def test_a_second_rollback_deletes_nothing(shop, applied):
    rollback(shop, plan_id=applied[0]["plan_id"])
    counters = rollback(shop, plan_id=applied[0]["plan_id"])["counters"]
    assert (counters["deleted"], counters["already_absent"], counters["rows_journaled"]) == (0, 6, 6)


def test_rollback_goes_newest_row_first(shop, applied):
    run = rollback(shop, plan_id=applied[0]["plan_id"])
    order = [(row["task_key"], int(row["pk"]["id"])) for row in run["verification"]["rows"]]
    assert order == sorted(order, key=lambda pair: -pair[1])


def test_what_the_user_changed_is_kept_and_told(shop, applied):
    shop.db.execute("update task_outputs set name = 'renamed' where task_id = 'a' and node_id = '9'")
    shop.db.execute("delete from task_outputs where task_id = 'b' and node_id = '9'")
    counters = rollback(shop, plan_id=applied[0]["plan_id"])["counters"]
    assert (counters["deleted"], counters["modified_since"], counters["already_absent"]) == (4, 1, 1)
    assert "renamed" in [row[2] for row in shop.rows()]
    assert firing(shop) == {"repair_rollback_incomplete"}


def test_a_reused_primary_key_is_another_row(shop, applied):
    (identity,) = shop.db.execute("select id from task_outputs where task_id = 'c' and node_id = '9'")[0]
    shop.db.execute("delete from task_outputs where id = %s", [identity])
    shop.db.execute(
        "insert into task_outputs (id, task_id, name, thumbnail_path, created_at) values (%s, 'z', 'theirs', '', now())",
        [identity],
    )
    counters = rollback(shop, plan_id=applied[0]["plan_id"])["counters"]
    assert counters["modified_since"] == 1
    assert shop.db.execute("select name from task_outputs where id = %s", [identity])[0][0] == "theirs"


@pytest.mark.parametrize("action", ["restrict", "cascade", "set null"])
def test_rows_with_children_are_kept_whatever_the_key_would_do(shop, applied, action):
    shop.db.execute(
        f"create table likes (id int primary key, output_id bigint, foreign key (output_id) references task_outputs (id) on delete {action})"
    )
    (identity,) = shop.db.execute("select id from task_outputs where task_id = 'a' and node_id = '9'")[0]
    shop.db.execute("insert into likes values (1, %s)", [identity])
    try:
        counters = rollback(shop, plan_id=applied[0]["plan_id"])["counters"]
        assert (counters["deleted"], counters["blocked_by_reference"]) == (5, 1)
        assert shop.db.execute("select output_id from likes")[0][0] == identity
    finally:
        shop.db.execute("drop table likes")


def test_a_dry_run_shows_every_row_and_changes_nothing(shop, applied):
    shop.db.execute("update task_outputs set name = 'renamed' where task_id = 'a' and node_id = '9'")
    tables = f"checksum table tasks, task_outputs, unrelated, `{JOURNAL}`.repair_journal"
    before = shop.db.execute(tables)
    run = rollback(shop, plan_id=applied[0]["plan_id"], dry_run=True)
    assert shop.db.execute(tables) == before
    assert (run["counters"]["deleted"], run["counters"]["modified_since"]) == (5, 1)
    assert len(run["verification"]["rows"]) == 6
    assert shop.applier().apply(applied[0]["plan_id"], "carl")["state"] == "finished"  # a dry run undoes nothing


def test_rollback_of_some_tasks(shop, applied):
    assert rollback(shop, plan_id=applied[0]["plan_id"], task_ids=["a", "A"])["counters"]["deleted"] == 2
    assert sorted({row[0] for row in shop.rows()}) == ["b", "c", "x"]


def test_a_rolled_back_plan_is_never_applied_again(shop, applied):
    rollback(shop, plan_id=applied[0]["plan_id"])
    with pytest.raises(RepairRefused) as refused:
        shop.applier().apply(applied[0]["plan_id"], "carl")
    assert refused.value.code == "rolled_back"
    with pytest.raises(RepairRefused):
        shop.applier().resume(applied[1]["run_id"], "carl")


def test_verification_reads_every_row_back_and_counts_the_window_again(shop, applied):
    found = Verifier(shop.settings, shop.state, shop.clock).check(applied[0]["plan_id"])
    assert (found["result"], found["rows_checked"]) == ("verified", 6)
    assert found["before"] == {"settled": 4, "with_output": 1, "rate_pct": 25.0}
    assert found["after"] == {"settled": 4, "with_output": 4, "rate_pct": 100.0}


def test_verification_lists_missing_modified_and_duplicate_rows_and_raises_an_alert(shop, applied):
    shop.db.execute("update task_outputs set file_size = 1 where task_id = 'a' and node_id = '9'")
    shop.db.execute("delete from task_outputs where task_id = 'b' and node_id = '9'")
    shop.output("c", 0)
    run = Verifier(shop.settings, shop.state, shop.clock).verify(applied[1]["run_id"], "erin")
    found = run["verification"]
    assert found["result"] == "verify_failed"
    assert [(row["task_key"], row["columns"]) for row in found["modified"]] == [("a", ["file_size"])]
    assert [row["task_key"] for row in found["missing"]] == ["b"]
    assert [(row["task_key"], row["rows"]) for row in found["duplicate"]] == [("c", 2)]
    assert firing(shop) == {"repair_verify_failed"}


def test_verification_writes_nothing_to_the_source(shop, applied):
    tables = f"checksum table tasks, task_outputs, unrelated, `{JOURNAL}`.repair_journal"
    before = shop.db.execute(tables)
    Verifier(shop.settings, shop.state, shop.clock).check(applied[0]["plan_id"])
    assert shop.db.execute(tables) == before
