"""`mp extract`, `reconcile`, `aggregate`, `rebuild`, `stats`, `status` on a real MariaDB (E-602, M-805)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.api.routes.metrics import collector_of
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.cli.app import run
from monitoring_pipelines.clock import FixedClock, parse_instant
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.warehouse.families import FAMILIES
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import WAVERLESS

NOW = "2026-02-01T12:10:00Z"
CONFIG = """\
stats: {backfill_days: 1}
sources: [{id: shop, preset: waverless, read_dsn_env: SHOP_DSN}]
"""


@pytest.fixture
def shop(mariadb_db: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    """Two tasks of one endpoint, finished before noon, with events; configuration in the current folder."""
    monkeypatch.setenv("SHOP_DSN", mariadb_db.dsn)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MP_CONFIG", raising=False)
    Path("monitoring.yaml").write_text(CONFIG)
    mariadb_db.script(WAVERLESS)
    for number in (1, 2):
        mariadb_db.execute(
            "insert into tasks (task_id, endpoint, status, worker_id, output, created_at, started_at, completed_at, "
            "updated_at) values (%s, 'flux', 'COMPLETED', 'w1', '{}', '2026-02-01 11:00:00', '2026-02-01 11:00:10', "
            "'2026-02-01 11:00:40', '2026-02-01 11:00:40')",
            (f"t{number}",),
        )
        for kind, second in (("TASK_CREATED", 0), ("TASK_STARTED", 10), ("TASK_COMPLETED", 40)):
            mariadb_db.execute(
                "insert into task_events (event_id, task_id, endpoint, event_type, event_time, worker_id) "
                "values (%s, %s, 'flux', %s, %s, 'w1')",
                (f"e{number}{second}", f"t{number}", kind, f"2026-02-01 11:00:{second:02d}"),
            )
    return mariadb_db


def call(capsys: pytest.CaptureFixture[str], *arguments: str, now: str = NOW) -> tuple[int, Any]:
    capsys.readouterr()
    code = run([*arguments, "--json", "--now", now])
    return code, json.loads(capsys.readouterr().out)


def hour(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code, data = call(capsys, "stats", "flux", "--from", "2026-02-01T11:00:00Z", "--to", "2026-02-01T12:00:00Z")
    assert code == 0, data
    assert len(data["rows"]) == 1
    return data["rows"][0]


def rows_read(src_table: str) -> int:
    """What ``/metrics`` says of a table."""
    services = Services.of(load_settings(Path("monitoring.yaml")), FixedClock(parse_instant(NOW)))
    text = collector_of(services).everything_text().whole().decode()
    services.close()
    (line,) = (
        line for line in text.splitlines() if line.startswith("mp_extract_rows_total{") and f'"{src_table}"' in line
    )
    return int(line.split()[-1])


def test_from_source_to_statistics_by_hand(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """Extraction, statistics, publishing and showing, each as its own command."""
    code, data = call(capsys, "extract", "--once")
    assert code == 0, data
    assert data["sources"]["shop"]["first_load"] is True
    code, data = call(capsys, "aggregate")
    assert code == 0, data
    assert data["windows"]
    row = hour(capsys)
    assert (row["tasks_submitted"], row["tasks_completed"], row["avg_execution_ms"]) == (2, 2, 30000)
    assert row["state"] == "closed"
    code, minutes = call(capsys, "stats", "flux", "--granularity", "minute", "--from", "2026-02-01T11:00:00Z")
    assert [r["tasks_completed"] for r in minutes["rows"] if r["tasks_completed"]] == [2]
    code, data = call(capsys, "status")
    assert code == 0, data
    assert data["sources"][0]["late"] is False
    assert data["published"]["version"] >= 1


def test_status_answers_from_published_files_while_the_warehouse_cannot_be_opened(
    shop: TestDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """Readers never open the live warehouse: with garbage in its place the answer is the same."""
    call(capsys, "extract", "--once")
    call(capsys, "aggregate")
    code, before = call(capsys, "status")
    assert (code, {mark["src_table"] for mark in before["marks"]} >= {"tasks", "task_events"}) == (0, True)
    for warehouse in Path().rglob("*.duckdb"):
        warehouse.write_bytes(b"no database")
    assert call(capsys, "status") == (code, before)
    assert run(["status", "--now", NOW]) == 0
    assert f"published: version {before['published']['version']} at " in capsys.readouterr().out
    assert call(capsys, "status", "--source", "shopp")[0] == 2


def test_stats_shows_every_family_and_suggests_names_of_each(
    shop: TestDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-607: --family chooses the statistics; the subject is looked for among that family's names."""
    call(capsys, "extract", "--once")
    call(capsys, "aggregate")
    span = ("--from", "2026-02-01T11:00:00Z", "--to", "2026-02-01T12:00:00Z")
    code, data = call(capsys, "stats", "flux", "--family", "output", *span)
    assert (code, data["family"], data["endpoint"], len(data["rows"])) == (0, "output", "flux", 1)
    assert data["rows"][0]["success_tasks"] == 2
    assert run(["stats", "flux", "--family", "output", *span, "--now", NOW]) == 0
    assert "tasks_with_outputs" in capsys.readouterr().out
    for family, word in (("job", "job"), ("resource", "process"), ("ingest", "process"), ("notification", "channel")):
        code, data = call(capsys, "stats", "none", "--family", family)
        assert (code, data["error"]["message"]) == (2, f"no {word} 'none'"), data
    assert call(capsys, "stats", "flux", "--family", "task")[0] == 2


def test_reset_marks_and_full_reading_change_nothing(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """E-602: setting a mark back repeats reading, not counting."""
    call(capsys, "extract", "--once")
    call(capsys, "aggregate")
    before = hour(capsys)
    code, data = call(capsys, "extract", "--reset-mark", "task_events")
    assert code == 0
    events = next(t for t in data["sources"]["shop"]["tables"] if t["table"] == "task_events")
    assert (events["rows_read"], events["inserted"], events["updated"]) == (6, 0, 0)
    code, data = call(capsys, "extract", "--full")
    assert (code, data["sources"]["shop"]["first_load"]) == (0, True)
    call(capsys, "aggregate")
    assert hour(capsys) == before
    call(capsys, "extract", "--reset-mark", "task_events")
    call(capsys, "aggregate")
    # S-303: marks that were dropped stay counted. The first load reads 6, each reset 6; --full finds all days equal and reads none.
    assert rows_read("task_events") == 18
    code, data = call(capsys, "extract", "--reset-mark", "nothing")
    assert code == 2
    assert "tables with marks" in data["error"]["hint"]


def test_rebuild_gives_the_same_rows(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """M-805: what is computed again from raw rows equals what the schedule computed; equal values are not restated."""
    call(capsys, "extract", "--once")
    call(capsys, "aggregate")
    before = hour(capsys)
    code, data = call(capsys, "rebuild", "--from", "2026-02-01", "--to", "2026-02-02")
    assert code == 0, data
    assert (data["tasks"], data["rows_restated"]) == (2, 0)
    assert hour(capsys) == before
    code, data = call(capsys, "aggregate", "--grain", "hour", "--from", "2026-02-01T11:00:00Z", "--to",
                      "2026-02-01T12:00:00Z", "--endpoint", "flux")  # fmt: skip
    assert code == 0, data
    assert data["rows"][0]["tasks_completed"] == 2
    assert {w["table"] for w in data["windows"]} == {f"mart.{family}_hourly_stats" for family in FAMILIES}


def test_reconcile_finds_and_repairs_a_changed_row(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """E-609: --verify only compares (exit code 1 when it differs); without it the row is read again."""
    call(capsys, "extract", "--once")
    days = ("--from", "2026-02-01", "--to", "2026-02-01")
    assert call(capsys, "reconcile", "--verify", *days)[0] == 0
    shop.execute("update tasks set status = 'FAILED' where task_id = 't2'")
    assert call(capsys, "reconcile", "--verify", *days)[0] == 1
    code, data = call(capsys, "reconcile", *days)
    assert code == 0, data
    assert sum(result["rows_reread"] for result in data["results"]) >= 1
    assert call(capsys, "reconcile", "--verify", *days)[0] == 0


def test_commands_on_an_empty_store_say_what_to_do(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """No warehouse, nothing published: a hint, not a trace."""
    for arguments in (["aggregate"], ["rebuild", "--from", "2026-02-01", "--to", "2026-02-02"]):
        code, data = call(capsys, *arguments)
        assert (code, data["error"]["code"]) == (2, "usage")
    for arguments in (["stats", "flux"], ["tasks"], ["jobs"], ["rules", "backtest", "endpoint.failure_share"]):
        code, data = call(capsys, *arguments)
        assert (code, data["error"]["code"]) == (2, "nothing_published"), arguments
        assert "mp aggregate" in data["error"]["hint"]
    code, data = call(capsys, "status")
    assert (code, data["sources"][0]["as_of"], data["published"]) == (1, None, None)
    assert run(["status", "--now", NOW]) == 1
    assert "nothing has been published yet: run `mp extract --once` and `mp aggregate`" in capsys.readouterr().out


def test_unknown_endpoints_and_sources_are_suggested(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """Did you mean."""
    call(capsys, "extract", "--once")
    call(capsys, "aggregate")
    code, data = call(capsys, "stats", "fluxx")
    assert (code, data["error"]["message"]) == (2, "no endpoint 'fluxx'; did you mean flux?")
    code, data = call(capsys, "extract", "--once", "--source", "shopp")
    assert code == 2
    assert "did you mean shop?" in data["error"]["message"]


def test_an_unreachable_source_gives_code_3(
    shop: TestDatabase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-613: nothing is stored but the error; status shows it."""
    monkeypatch.setenv("SHOP_DSN", "mysql://u:hunter2@127.0.0.1:1/d")
    code, data = call(capsys, "extract", "--once")
    assert (code, data["error"]["code"]) == (3, "source_unavailable")
    code, data = call(capsys, "status")
    assert code == 1
    assert "hunter2" not in json.dumps(data)
