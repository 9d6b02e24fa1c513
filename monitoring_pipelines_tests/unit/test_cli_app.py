"""The command line itself: start-up, options, errors in three lines, exit codes (surfaces §7)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring_pipelines.cli.app import COMMANDS, app, run
from monitoring_pipelines.cli.output import table


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    """`mp --help` answers without loading the libraries that runs need."""
    code = (
        "import sys; from monitoring_pipelines.cli.app import run; code = run(['--help'])\n"
        "heavy = {'dagster', 'duckdb', 'pandas', 'pyarrow', 'sqlalchemy', 'pydantic', 'ruamel'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, _, _, text in COMMANDS:
        assert name in done.stdout
        assert text.split(",")[0].split(":")[0][:30] in " ".join(done.stdout.replace("│", " ").split())


@pytest.mark.parametrize("name", [name for name, *_ in COMMANDS])
def test_every_command_can_be_loaded_and_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each registered import path exists and its options are described."""
    assert run([name, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out
    assert app[name] is not None


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["valdate"], 2, "unknown command 'valdate'; did you mean validate?"),
        (["validate", "--ofline"], 2, "--offline"),
        (["ddl", "--dialect", "oracle"], 2, "oracle"),
        (["ddl", "task_evnt"], 2, "task_evnt"),
        (["status", "--now", "yesterday"], 2, "not an RFC 3339 time"),
        (["status", "--config", "none.yaml"], 2, "none.yaml: no such configuration file"),
        (["init"], 2, "nothing to start from"),
        (["rebuild", "--from", "2026-02-01"], 2, "--to"),
    ],
)
def test_usage_errors_are_three_lines_and_code_2(
    arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What, cause, hint; never a stack trace."""
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "cause", "hint"]
    assert expected in lines[0]


def test_errors_are_json_when_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--json` before or after the command."""
    file = tmp_path / "m.yaml"
    file.write_text("sources:\n  - id: A\n    colour: red\n")
    assert run(["--json", "validate", "--config", str(file)]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["exit_code"]) == ("config", 2)
    assert [(p["line"], p["path"]) for p in error["problems"]] == [(2, "sources[0].id"), (3, "sources[0].colour")]
    assert error["problems"][0]["file"] == str(file)


def test_all_configuration_problems_are_shown_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """E-501: one line per problem, then cause and hint."""
    file = tmp_path / "m.yaml"
    file.write_text("extract: {interval_s: -1}\nchecks: {qick: {}}\n")
    assert run(["validate", "--config", str(file)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith(f"error: {file}:1: extract.interval_s: must be greater than 0")
    assert lines[1].startswith(f"error: {file}:2: checks.qick: unknown key; did you mean quick?")
    assert lines[2] == "cause: 2 problems in the configuration; nothing was done"
    assert lines[3].startswith("hint:")


def test_a_valid_file_passes_offline(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without contacting a source."""
    file = tmp_path / "m.yaml"
    file.write_text("sources: [{id: a, preset: waverless, read_dsn_env: NOT_SET}]\n")
    assert run(["validate", "--offline", "--config", str(file)]) == 0
    assert "no problem found" in capsys.readouterr().out


def test_ddl_prints_one_table_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    """E-512."""
    assert run(["ddl", "job_run"]) == 0
    one = capsys.readouterr().out
    assert "mp_job_runs" in one
    assert "mp_task_events" not in one
    assert run(["ddl", "--json"]) == 0
    sql = json.loads(capsys.readouterr().out)["sql"]
    for name in ("mp_task_events", "mp_job_runs", "mp_process_samples", "mp_probe_results", "mp_ingest_samples"):
        assert name in sql


def test_tables_are_as_wide_as_a_terminal_shows_them() -> None:
    """A Chinese character takes two columns: what follows it stays under its header."""
    assert table(["名称", "n"], [["语音", 5], ["tts", 12]]).splitlines() == [
        "名称   n", "----  --", "语音   5", "tts   12",
    ]  # fmt: skip


def test_tables_align_numbers_to_the_right() -> None:
    """Figures under each other are comparable."""
    assert table(["name", "n"], [["a", 5], ["bb", None], ["c", 1200]]).splitlines() == [
        "name     n", "----  ----", "a        5", "bb       -", "c     1200",
    ]  # fmt: skip


def test_a_refusal_with_a_word_of_its_own_still_says_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    """What, cause and hint: a reason word nobody listed is explained by the kind of error it is."""
    from monitoring_pipelines.cli.output import write_error
    from monitoring_pipelines.compensation.model import RepairRefused

    write_error(RepairRefused("not_ready", "plan P is applied", "make a new plan"), as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "error: plan P is applied",
        "cause: not ready; a safety rule does not allow it; nothing was done",
        "hint:  make a new plan",
    ]
