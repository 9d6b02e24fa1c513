"""Every command with input that makes no sense: three lines, the right exit code, JSON when asked (surfaces §7)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitoring_pipelines.cli.app import COMMANDS, run

WRONG = (
    "init --preset nope", "init --dsn-env NOT_SET --out new.yaml", "validate --config none.yaml", "ddl nothing", "ddl --dialect oracle",
    "extract --reset-mark", "extract --once --config none.yaml", "extract --source nope --once", "reconcile --from yesterday",
    "aggregate --grain week", "aggregate --from 2026-01-01", "aggregate --from 2026-01-02 --to 2026-01-01", "aggregate --from x --to y",
    "rebuild --from x --to y", "rebuild --from 2026-01-01", "stats", "stats e --granularity week", "check", "check slow",
    "check quick --hours-back 0", "check quick --hours-back 1.5", "check deep --hours-back 5", "check-integrity --start-date 2026-02-30",
    "thresholds nope=1", "thresholds max_pending_tasks=x", "rules backtest nope", "sweep --config none.yaml",
    "prune-logs --config none.yaml", "targets retire", "targets list --nope", "prometheus-rules --nope", "tasks --status nope",
    "jobs --nope", "export nothing", "export csv mart.nothing", "import state none.json", "docs nope", "completion tcsh",
    "status --config none.yaml", "status --now yesterday", "alerts show NOPE", "alerts ack NOPE", "alerts unsilence NOPE",
    "alerts silence nope", "alerts nope", "test-alert --drill nope", "test-alert --channel nope", "route test --severity nope", "repair plan", "repair show NOPE",
    "repair approve NOPE --by x", "repair reject NOPE --by x", "repair apply NOPE", "repair rollback NOPE", "repair resume NOPE",
    "repair verify NOPE", "repair nope", "compensate --start-date x --end-date y", "demo --days 0", "serve --port 99999999", "up --port 0",
    "load-test --seconds 0", "load-test --clients 100", "load-test --clients 2.5", "demo --seed 1.5", "tasks --page 0", "tasks --limit -1", "alerts list --limit 0",
    "alerts history --limit 0", "repair list --limit 0", "rules backtest endpoint.queue_depth --days 0", "jobs --limit 0", "load-test --token-env NOT_SET", "--source nope status", "nope", "doctor --nope",
    "alerts silence type=x --for 99999999999d", "alerts history --hours 1e12", "alerts history --hours nan",
    "alerts list --limit 99999999999999999999", "status --now 0001-01-01T00:00:00+14:00",
    "aggregate --from 9999-12-31T23:10:00Z --to 9999-12-31T23:30:00Z", "alerts silence type=~(a",
)  # fmt: skip
#: Not usage: nobody answers.
UNREACHABLE = ("load-test --url http://127.0.0.1:9 --seconds 1",)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "monitoring.yaml").write_text(
        "version: 1\nsources: [{id: shop, preset: tktool, read_dsn_env: NOT_SET}]\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("MP_CONFIG", "MP_NOW", "NOT_SET"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("line", "code"), [(line, 2) for line in WRONG] + [(line, 3) for line in UNREACHABLE])
def test_wrong_input_is_three_lines_and_an_exit_code(line: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == code
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert [text.split(":")[0] for text in lines] == ["error", "cause", "hint"], err
    assert all(text.partition(":")[2].strip() for text in lines), err
    assert "see above" not in err
    assert "Traceback" not in out + err
    assert not Path("data/warehouse.duckdb").exists()


@pytest.mark.parametrize("line", [*WRONG, *UNREACHABLE])
def test_wrong_input_is_one_json_document_when_asked(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run([*line.split(), "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["exit_code"] == code
    assert error["message"]
    assert error["code"]


def test_every_command_of_the_table_is_tried() -> None:
    tried = {word for line in (*WRONG, *UNREACHABLE) for word in line.split()}
    assert {name for name, *_ in COMMANDS} <= tried
