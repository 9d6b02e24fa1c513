"""``mp repair`` and ``mp compensate`` as an operator uses them (S-605, compensation §9)."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys

import pytest

from monitoring_pipelines.cli.app import run as mp
from monitoring_pipelines.state import repair as store


@pytest.fixture
def cli(shop, monkeypatch, capsys):
    monkeypatch.setenv("MP_CONFIG", str(shop.directory / "monitoring.yaml"))
    monkeypatch.setenv("MP_NOW", "2026-02-01T12:00:00Z")

    def call(*arguments):
        capsys.readouterr()
        code = mp(["--json", *arguments])
        out = capsys.readouterr().out
        try:
            return code, json.loads(out)
        except ValueError:
            return code, out

    return call


def test_from_finding_to_rollback(shop, cli):
    shop.task("a", outputs=2)
    shop.task("b")
    code, made = cli("repair", "plan", "--hours", "12")
    assert code == 0
    plan_id = made["plan"]["plan_id"]
    assert made["plan"]["counters"]["rows_planned"] == 3
    assert cli("repair", "apply", plan_id)[0] == 5
    assert cli("repair", "approve", plan_id, "--by", "Bob")[0] == 0
    code, run = cli("repair", "apply", plan_id)
    assert (code, run["state"], run["verification"]["result"]) == (0, "finished", "verified")
    assert run["verification"]["after"]["with_output"] == 2
    report = json.loads((shop.settings.logs_path / "repairs" / f"{run['run_id']}.json").read_text())
    assert all(report["invariants"].values())
    assert report["approval"]["approver"] == "Bob"
    assert [len(task["rows"]) for task in report["tasks"]] == [2, 1]
    text = (shop.settings.logs_path / "repairs" / f"{run['run_id']}.md").read_text()
    assert "sign=" not in text
    assert "approved 3 rows" in text
    assert cli("repair", "verify", run["run_id"])[0] == 0
    code, dry = cli("repair", "rollback", run["run_id"], "--dry-run")
    assert (code, dry["counters"]["deleted"], len(shop.rows())) == (0, 3, 3)
    code, undone = cli("repair", "rollback", run["run_id"])
    assert (code, undone["counters"]["deleted"], len(shop.rows())) == (0, 3, 0)
    assert cli("repair", "apply", plan_id)[1]["error"]["code"] == "rolled_back"
    code, shown = cli("repair", "show", plan_id, "--rows")
    assert [r["kind"] for r in shown["runs"]] == ["apply", "apply", "verify", "rollback", "rollback", "apply"]


def test_rollback_that_keeps_rows_ends_with_1(shop, cli):
    shop.task("a")
    plan_id = cli("repair", "plan")[1]["plan"]["plan_id"]
    cli("repair", "approve", plan_id, "--by", "Bob")
    run_id = cli("repair", "apply", plan_id)[1]["run_id"]
    shop.db.execute("update task_outputs set name = 'mine'")
    assert cli("repair", "rollback", run_id)[0] == 1


def test_exit_codes_of_planning(shop, cli):
    shop.task("a")
    assert cli("repair", "plan", "--task-ids", "")[0] == 2
    assert cli("repair", "plan", "--hours", "-1")[0] == 2
    assert cli("repair", "plan", "--hours", "1", "--task-ids", "a")[0] == 2
    assert cli("repair", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV")[0] == 2
    shop.api.fault = "auth"
    assert cli("repair", "plan")[0] == 3
    shop.api.fault = "down"
    for n in range(5):
        shop.task(f"t{n}")
    assert cli("repair", "plan")[0] == 6


def test_days_are_local_and_the_last_one_is_included(shop, cli, monkeypatch):
    shop.configure(head="")
    path = shop.directory / "monitoring.yaml"
    path.write_text(path.read_text().replace("timezone: UTC", "timezone: Asia/Shanghai", 1))
    plan = cli("repair", "plan", "--start-date", "2026-01-30", "--end-date", "2026-01-31")[1]["plan"]
    assert (plan["window_from"], plan["window_to"]) == ("2026-01-29T16:00:00Z", "2026-01-31T16:00:00Z")


def test_compensate_plans_and_never_writes_without_an_answer(shop, cli):
    shop.task("a")
    assert cli("compensate", "--dry-run")[0] == 0
    code, _ = cli("compensate", "--start-date", "2026-02-01", "--batch-size", "10", "--max-tasks", "5")
    assert code == 5
    assert len(shop.rows()) == 0


#: What somebody types at the question; None: Ctrl-C, an empty text: Ctrl-D.
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("typed", "code", "rows"), [("yes", 0, 2), ("y", 5, 0), ("", 5, 0), (None, 130, 0)])
def test_compensate_asks_on_a_terminal_and_inserts_only_after_yes(shop, monkeypatch, typed, code, rows):
    """A real pseudo-terminal: the plan is shown, then the question, then the progress line and the run."""
    shop.task("a", outputs=2)
    monkeypatch.setenv("MP_CONFIG", str(shop.directory / "monitoring.yaml"))
    monkeypatch.setenv("MP_NOW", "2026-02-01T12:00:00Z")
    monkeypatch.setenv("COLUMNS", "200")
    command = [
        sys.executable,
        "-c",
        "from monitoring_pipelines.cli import main; main()",
        "compensate",
        "--task-ids",
        "a",
    ]
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs in the background of a shell has it ignored
        os.execv(command[0], command)
    shown = ""
    while "type yes: " not in shown:
        shown += read_terminal(terminal)
    assert "rows to insert: 2" in shown
    assert "insert 2 rows into shop?" in shown
    assert len(shop.rows()) == 0
    os.write(terminal, b"\x03" if typed is None else b"\x04" if typed == "" else f"{typed}\n".encode())
    after = ""
    while piece := read_terminal(terminal):
        after += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, after
    assert len(shop.rows()) == rows
    assert "Traceback" not in after
    with shop.state.read() as con:
        plan = store.list_plans(con)[0]
        approval, runs = store.get_approval(con, plan["plan_id"]), store.list_runs(con, plan["plan_id"])
    if rows:
        assert "1 of 1 tasks" in after or "100 %" in after or "[########################]" in after
        assert (approval["approver"], plan["state"]) == (runs[0]["actor"], "applied")
        assert runs[0]["verification"]["result"] == "verified"
    else:
        assert (approval, runs) == (None, [])
        if typed is not None:
            assert "nothing was inserted" in after
            assert plan["plan_id"] in after


def read_terminal(terminal: int) -> str:
    """What the program wrote; an empty text when it has ended."""
    try:
        return os.read(terminal, 4096).decode("utf-8", "replace")
    except OSError:
        return ""


def test_compensate_applies_what_the_policy_approves(shop, cli):
    shop.configure(repair="auto_approve: {max_rows: 5}")
    shop.task("a")
    code, _ = cli("compensate", "--task-ids", "a")
    assert code == 0
    assert len(shop.rows()) == 1


def test_doctor_prints_grants_that_suffice_and_init_is_repeatable(shop, cli, monkeypatch):
    code, found = cli("repair", "doctor")
    assert code == 0
    repair = found[0]["grants"]["repair"]
    assert any(line.startswith("GRANT SELECT, INSERT ON") and "task_outputs" in line for line in repair)
    assert not any("UPDATE" in line and "task_outputs" in line for line in repair)
    monkeypatch.setenv("INIT_DSN", shop.db.dsn)
    assert cli("repair", "init", "--dsn-env", "INIT_DSN")[0] == 0
    assert cli("repair", "init", "--dsn-env", "INIT_DSN")[0] == 0


def test_a_source_without_repair_account_is_no_problem_to_doctor(shop, cli):
    """Its outputs stand in the task's own row, so nothing could be inserted; nobody asked for that."""
    file = shop.directory / "monitoring.yaml"
    other = "  - id: gpu\n    preset: waverless\n    read_dsn_env: SHOP_READ\n"
    file.write_text(file.read_text() + other)
    code, found = cli("repair", "doctor")
    assert [(one["source_id"], bool(one["problems"])) for one in found] == [("shop", False), ("gpu", False)]
    assert found[1]["notes"]
    assert code == 0
    file.write_text(file.read_text() + "    repair_dsn_env: SHOP_REPAIR\n")
    code, found = cli("repair", "doctor")
    assert (code, bool(found[1]["problems"])) == (1, True)


def test_the_audit_log_tells_who_did_what_and_a_changed_entry_shows(shop, cli):
    from sqlalchemy import text

    shop.task("a")
    plan_id = cli("repair", "plan")[1]["plan"]["plan_id"]
    cli("repair", "approve", plan_id, "--by", "Bob")
    cli("repair", "apply", plan_id)
    code, out = cli("repair", "audit")
    assert code == 0
    actions = [json.loads(line)["action"] for line in out.splitlines()]
    assert actions == ["repair.plan", "repair.approve", "repair.apply", "repair.apply.finished"]
    with shop.state.begin() as con:
        con.execute(text("update audit_log set actor = 'Eve' where action = 'repair.approve'"))
    assert cli("repair", "audit")[0] != 0


def test_doctor_prints_the_statements_also_for_accounts_that_have_no_right_yet(shop, cli, monkeypatch):
    server = shop.db.server
    shop.db.execute("drop user if exists 'mp_new'@'%'")
    shop.db.execute("create user 'mp_new'@'%' identified by 'pw'")
    monkeypatch.setenv("SHOP_READ", f"mysql://mp_new:pw@{server.host}:{server.port}/{shop.db.name}")
    code, found = cli("repair", "doctor")
    (one,) = found
    assert (code, len(one["problems"])) == (1, 1)
    for statement in one["grants"]["read"]:
        shop.db.execute(statement.rstrip(";"))
    shop.db.execute(
        "create trigger notify after insert on task_outputs for each row update tasks set workflow_id = 'w' where 1 = 0"
    )
    shop.db.execute(f"grant trigger on {shop.db.name}.* to 'mp_new'@'%'")
    code, (one,) = cli("repair", "doctor")
    assert (code, one["problems"]) == (0, [])
    assert any("trigger notify" in note for note in one["notes"])
    shop.db.execute("drop user 'mp_new'@'%'")
