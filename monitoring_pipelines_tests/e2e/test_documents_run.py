"""Every command of the documents is run as it is written, on a platform with lost outputs and beside real servers.

What belongs here: that the lines work, and which are run by another test or cannot run here. What does not: what they compute.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from monitoring_pipelines.cli.app import run
from monitoring_pipelines.clock import SystemClock
from monitoring_pipelines.demo import generate
from monitoring_pipelines.demo.layout import earlier_demo, mark_ready, prepare_folder, write_configuration
from monitoring_pipelines.demo.scale import STANDARD
from monitoring_pipelines_tests.e2e.documents_site import Reader, served_site, watchers
from monitoring_pipelines_tests.support.documented import DOCUMENTS, ROOT, blocks, inline, lines_of, read
from monitoring_pipelines_tests.support.mysql_server import TestDatabase, free_port
from monitoring_pipelines_tests.support.source_tables import WAVERLESS

README_TEST = "e2e.test_documents_run:test_the_lines_of_the_readme_lead_from_a_schema_to_a_running_product"
#: Commands that another test runs, by their beginning.
ELSEWHERE = {
    "export PLATFORM_DSN=": README_TEST,
    "mp init": README_TEST,
    "mp up": README_TEST,
    "mp serve": "dagster.test_killed_processes:story",
    "mp demo": "e2e.test_documents_run:test_a_demo_goes_on_with_live_traffic_until_it_is_interrupted",
    "pg_dump ": "dagster.test_postgres:test_state_moves_from_sqlite_and_its_copies_can_be_restored",
    "make ": "e2e.test_documents_run:test_targets_of_make_run_what_is_tested",
    "python deploy/grafana": "unit.test_grafana:test_dashboards_of_ones_own_have_the_thresholds_of_the_configuration",
}
#: Commands that cannot run in a test, by their beginning, and why.
NOT_HERE = {
    "systemctl ": "needs systemd as the first process",
    "journalctl ": "needs the journal of systemd",
    "chronyc ": "asks the time daemon of the host",
    "py-spy ": "no dependency of ours; attaches to another process, which takes the right to ptrace",
    "memray ": "no dependency of ours; attaches to another process, which takes the right to ptrace",
    "chown -R": "the beginning of a command, without its operands; changes owners",
    "pip install .": "`make wheel-test` installs the wheel with pip in an environment of its own",
    "pip install '.[postgres]'": "asks a package index; that the extra exists is tested below",
    "uv pip compile ": "asks a package index for new versions and rewrites the lock",
    "python hatch_build.py": "rewrites what the tests' servers read; `make install` ran it before any test",
}
#: They say with 1 that there is something to say: findings, or a repair account with too many rights.
FINDINGS = (
    "mp check",
    "mp check-integrity",
    "mp load-test",
    "mp sweep",
    "mp alerts list",
    "mp targets list",
    "mp repair doctor",
)
#: The life of a repair; other commands come before, in the order of the documents.
REPAIR = (
    "init",
    "doctor",
    "plan",
    "show",
    "approve",
    "apply",
    "verify",
    "list",
    "resume",
    "compensate",
    "rollback",
    "audit",
)


def begins(line: str, table: dict[str, str]) -> bool:
    return any(line.startswith(start) for start in table)


def step(line: str) -> tuple[int, int]:
    """Place in the life of a repair; a rollback is looked at before it is done, and done in part before whole."""
    found = re.search(r"mp (?:repair )?(\w+)", line)
    if not ("mp repair" in line or "mp compensate" in line) or not found or found[1] not in REPAIR:
        return -1, 0
    return REPAIR.index(found[1]), ("--dry-run" not in line) + (line == "mp repair rollback RUN")


def to_run() -> list[str]:
    """Distinct commands of all documents."""
    every = dict.fromkeys(line for name in DOCUMENTS for line in lines_of(name))
    return sorted((line for line in every if not begins(line, ELSEWHERE) and not begins(line, NOT_HERE)), key=step)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    root = tmp_path_factory.mktemp("documents")
    with served_site(root / "site") as served, watchers(root / "watchers") as addresses:
        process = subprocess.Popen(["sleep", "600"])
        try:
            yield Reader(served, addresses, process.pid)
        finally:
            process.terminate()
            process.wait(10)


def test_commands_run_as_they_are_written(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, or 1 of those that report findings."""
    monkeypatch.chdir(reader.served.config.parent)
    monkeypatch.setenv("MP_TOKEN_GRAFANA", reader.served.token)
    monkeypatch.setenv("INIT_DSN", str(reader.served.settings.source("tktool").repair_dsn()))
    (reader.served.config.parent / "query.sql").write_text("SELECT count(*) FROM raw.task\n")
    wrong = []
    for line in to_run():
        code, said = reader.run(line, capsys)
        allowed = (0, 1) if line.startswith(FINDINGS) else (0,)
        if code not in allowed or "internal error" in said:
            wrong.append(f"{line}  [{code}]\n{said[-600:]}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("kind", ["sql", "sqlite"])
def test_queries_of_the_runbooks_run_on_a_platform_with_rows(reader: Reader, kind: str) -> None:
    """Those marked ``sql`` through the line of the index, the others through the program ``sqlite3``."""
    query = reader.served.config.parent / "query.sql"
    (through,) = [line for line in lines_of("docs/runbooks/README.md") if line.startswith("python -c")]
    found = [block for name in DOCUMENTS for block in blocks(read(name), kind)]
    assert len(found) > 10
    query.write_text(";\n".join(block.strip().rstrip(";") for block in found) + ";\n")
    code, said = reader.shell(through if kind == "sql" else "sqlite3 data/state.sqlite3 < query.sql")
    assert code == 0, said


def test_the_watchdog_is_seen_with_the_commands_of_its_runbook(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    """In Prometheus and in the Alertmanager that it reports to; an empty list would end with 0 as well."""
    *asking, route = lines_of("docs/runbooks/watchdog.md")
    deadline = time.monotonic() + 120
    for line in asking:
        while "Watchdog" not in (said := reader.ask(line, capsys)[1]):
            assert time.monotonic() < deadline, (line, said)
            time.sleep(0.5)
    assert reader.ask(route, capsys)[1].split()[0] == "nobody"


def test_lists_name_tests_that_exist_and_lines_that_are_written() -> None:
    """What is not run has its reason, and no reason outlives its command."""
    every = {line for name in DOCUMENTS for line in lines_of(name)}
    for start in (*ELSEWHERE, *NOT_HERE):
        assert any(line.startswith(start) for line in every), start
    for place in set(ELSEWHERE.values()):
        module, name = place.split(":")
        assert hasattr(importlib.import_module(f"monitoring_pipelines_tests.{module}"), name), place


def test_both_readmes_show_the_same_commands() -> None:
    """Running one is running both."""
    english, chinese = read("README.md"), read("README.zh-CN.md")
    assert blocks(chinese) == blocks(english)
    assert set(inline(chinese)) == set(inline(english))


def test_targets_of_make_run_what_is_tested(tmp_path: Path) -> None:
    """``make demo`` and ``make test`` are made of steps; those that write documents are the scripts that tests compare with."""
    named = {line for name in (*DOCUMENTS, "README.zh-CN.md") for line in lines_of(name) if line.startswith("make ")}
    steps = {}
    # As at a prompt: below another make, as in `make test`, it would take that one's options and say where it is.
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    for line in named:
        done = subprocess.run(
            ["make", "-n", *shlex.split(line)[1:], f"STAMP={tmp_path}/none"],
            cwd=ROOT,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        steps[line] = done.stdout
    assert steps["make demo"].rstrip().endswith("/mp demo")
    tools = {"ruff", "mypy", "sqlfluff", "pytest", "test_wheel"}
    assert set(re.findall(r"[/](\w+)\b", steps["make test"])) >= tools
    assert "scripts/build_dictionary.py" in steps["make dictionary"]
    assert "scripts/build_api_reference.py" in steps["make api-reference"]


def test_extras_to_install_exist() -> None:
    named = {extra for name in DOCUMENTS for extra in re.findall(r"pip install '\.\[(\w+)\]'", read(name))}
    assert named
    optional = read("pyproject.toml").split("[project.optional-dependencies]\n", 1)[1].split("\n[", 1)[0]
    assert [extra for extra in named if not re.search(rf"^{extra} = ", optional, re.MULTILINE)] == []


def test_the_lines_of_the_readme_lead_from_a_schema_to_a_running_product(
    mariadb_db: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The account is exported, ``mp init``, ``mp validate`` and ``mp up`` run as they stand; Ctrl-C ends all of it with 0."""
    mariadb_db.script(WAVERLESS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MP_CONFIG", raising=False)
    lines = [line for line in lines_of("README.md") if not line.startswith(("make ", "pip "))]
    assert [line.split("=")[0] for line in lines[:1]] == ["export PLATFORM_DSN"]
    assert lines[1:4] == ["mp init --dsn-env PLATFORM_DSN", "mp validate", "mp up"]
    monkeypatch.setenv("PLATFORM_DSN", mariadb_db.dsn)
    for line in lines[1:3]:
        assert run(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())
    run_until_interrupted(lines[3], tmp_path)


def test_a_demo_goes_on_with_live_traffic_until_it_is_interrupted(tmp_path: Path) -> None:
    """``mp demo`` over an earlier one: served, with rows that go on. ``test_dagster_ui`` has the command make one."""
    options, now = {"days": 0.05, "seed": 7, "load": 1.0}, SystemClock().now().replace(microsecond=0)
    folder = prepare_folder(tmp_path / "demo", 7, 0.05, now)
    generate(0.05, 7, now, scale=STANDARD, folder=folder.source).world.close()
    write_configuration(folder, now, days=0.05)
    mark_ready(folder, options)
    said = run_until_interrupted("mp demo --days 0.05", tmp_path)
    assert "Going on with the demo" in said
    assert "live traffic continues" in said
    found = earlier_demo(folder.root, options, SystemClock().now())
    assert found is not None
    assert found.reached > now


def run_until_interrupted(line: str, folder: Path) -> str:
    """Run a command that serves until its page and Dagster answer, press Ctrl-C: it ends with 0 and leaves no process.

    The ports are the only words added: the usual ones may be somebody else's here.
    """
    ports = {"--port": free_port(), "--page-port": free_port()}
    program = [sys.executable, "-c", "from monitoring_pipelines.cli import main; main()"]
    log = folder / "said.log"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MP_", "DAGSTER"))}
    with log.open("w") as out:
        process = subprocess.Popen(
            [*program, *shlex.split(line)[1:], *(str(word) for pair in ports.items() for word in pair)],
            cwd=folder, env={**clean, "PYTHONPATH": str(ROOT), "HOME": str(folder)}, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 400
        while "Dagster UI ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        for port, path in ((ports["--page-port"], "/login"), (ports["--port"], "/server_info")):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=90) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=90)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert family
    assert not [one.cmdline() for one in alive if one.is_running()]
    return log.read_text()
