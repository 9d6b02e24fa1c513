"""Repair and rollback judged by a tool that is not ours: Percona's ``pt-table-sync --print`` (compensation, "judged by").

What belongs here: differences between tables as that tool prints them. What does not: anything we compute ourselves,
except the copies of the columns that say what an output is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from monitoring_pipelines.compensation.rollback import Rollbacker

#: Columns that say what an output is; id and times are new when a row is inserted again.
IDENTITY = "task_id, node_id, name, file_url, file_type, file_size, local_path, thumbnail_path"
#: The tool's own option for character sets cannot print four bytes.
_UTF8 = ",".join(f"character_set_{part}=utf8mb4" for part in ("client", "connection", "results"))


@pytest.fixture
def judge(shop):
    """Statements that would make the second table like the first, as the tool prints them."""
    tool = shutil.which("pt-table-sync")
    if tool is None:
        if os.environ.get("ALLOW_SKIP") == "1":
            pytest.skip("no pt-table-sync")
        pytest.fail("no pt-table-sync: install percona-toolkit (Debian/Ubuntu), or set ALLOW_SKIP=1", pytrace=False)

    def differences(like: str, table: str) -> list[str]:
        server = shop.db.server
        login = f"h={server.host},P={server.port},u={server.user},p={server.password},D={shop.db.name}"
        done = subprocess.run(
            [tool, "--print", "--no-check-child-tables", "--no-check-slave", "--set-vars", _UTF8, f"{login},t={like}", f"{login},t={table}"],
            capture_output=True, encoding="utf-8", check=False, env=os.environ | {"PERL_UNICODE": "S"},
        )  # fmt: skip
        # 0: nothing differs, 2: something does; the rest are errors.
        assert done.returncode in (0, 2), done.stderr
        return sorted(re.sub(r"\s*/\*percona-toolkit .*?\*/", "", line) for line in done.stdout.splitlines() if line)

    return differences


def identity(shop, name: str) -> str:
    """A fresh table with the identity of all outputs; its name."""
    shop.db.execute(f"drop table if exists {name}")
    shop.db.execute(f"create table {name} (primary key (task_id, node_id)) select {IDENTITY} from task_outputs")
    return name


def test_a_third_party_finds_no_difference_after_repair_and_the_old_one_after_rollback(shop, judge):
    for n in range(30):
        shop.task(f"task-{n:02d}", outputs=1 + n % 3)
    shop.task("task-😀", outputs=2)
    shop.applier().apply(shop.approved()["plan_id"], "the application")
    shop.db.execute("update task_outputs set local_path = null, created_at = '2026-02-01 08:00:00'")
    truth = identity(shop, "truth")
    shop.db.execute("delete from task_outputs where right(task_id, 1) in ('1', '4', '7') or task_id = 'task-😀'")
    shop.db.execute("create table whole like task_outputs")
    shop.db.execute("insert into whole select * from task_outputs")
    shop.db.execute("create table tasks_before like tasks")
    shop.db.execute("insert into tasks_before select * from tasks")
    lost = judge(truth, identity(shop, "present"))
    assert (
        len(lost) == shop.db.execute("select (select count(*) from truth) - (select count(*) from task_outputs)")[0][0]
    )
    assert {line.split()[0] for line in lost} <= {"INSERT", "REPLACE"}
    assert len(lost) > 15

    plan = shop.approved()
    assert judge("whole", "task_outputs") == [], "a plan changes nothing"
    shop.applier().apply(plan["plan_id"], "carl")
    assert judge(truth, identity(shop, "present")) == []
    assert len(judge("whole", "task_outputs")) == len(lost)

    Rollbacker(shop.settings, shop.state, shop.clock).rollback("dora", plan_id=plan["plan_id"], dry_run=True)
    assert judge(truth, identity(shop, "present")) == [], "a dry run changes nothing"
    Rollbacker(shop.settings, shop.state, shop.clock).rollback("dora", plan_id=plan["plan_id"])
    assert judge(truth, identity(shop, "present")) == lost
    assert judge("whole", "task_outputs") == []
    assert judge("tasks_before", "tasks") == []
