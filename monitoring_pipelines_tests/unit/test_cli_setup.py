"""`mp init`, `validate`, `doctor` against a real server and against SQLite (E-507, E-510, E-511, E-403)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from monitoring_pipelines.cli.app import run
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.propose import unified_word
from monitoring_pipelines_tests.support.mysql_server import TestDatabase
from monitoring_pipelines_tests.support.source_tables import SCHEDULER, TABLES, WAVERLESS


@pytest.fixture
def shop(mariadb_db: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    """An empty database that SHOP_DSN names; the current folder is a fresh one."""
    monkeypatch.setenv("SHOP_DSN", mariadb_db.dsn)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MP_CONFIG", raising=False)
    return mariadb_db


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def filled(shop: TestDatabase) -> None:
    shop.script(WAVERLESS)
    shop.execute(
        "insert into tasks (task_id, endpoint, status, input, output, error, created_at) values "
        "('task-000001', 'flux', 'COMPLETED', '{\"prompt\": \"very secret\"}', '{}', 'stack trace of a user', "
        "'2026-02-01 10:00:00.125'), ('task-000002', 'flux', 'EXPLODED', null, null, null, '2026-02-01 10:01:00')"
    )


@pytest.mark.parametrize("preset", sorted(TABLES))
def test_init_recognises_the_preset(preset: str, shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """By table and column names, with a share; the file it writes is accepted."""
    shop.script(TABLES[preset])
    code, data = call(capsys, "init", "--dsn-env", "SHOP_DSN", "--id", "shop")
    assert code == 0
    assert data["preset"] == preset
    assert data["presets"][preset] >= 0.8
    text = Path("monitoring.yaml").read_text()
    assert "read_dsn_env: SHOP_DSN" in text
    assert shop.dsn not in text
    assert load_settings("monitoring.yaml").sources[0].preset == preset


def test_init_writes_what_differs_from_the_preset(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """A column that the schema lacks is removed from the mapping, so that validate passes."""
    shop.script(WAVERLESS)
    shop.execute("alter table tasks drop column worker_id")
    assert call(capsys, "init", "--dsn-env", "SHOP_DSN")[0] == 0
    assert "worker_key: null" in Path("monitoring.yaml").read_text()
    code, data = call(capsys, "validate")
    assert code == 0, data["sources"][0]["errors"]


def test_init_matches_unknown_schemas_by_name_and_type(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """No preset fits: columns by names and types, status words from the data, and how sure it is."""
    shop.script(
        """
        create table users (id bigint auto_increment primary key, name varchar(50), status varchar(10));
        create table render_tasks (id bigint auto_increment primary key, task_no varchar(40) unique, model varchar(40),
          state varchar(20), create_time datetime, begin_time datetime, finish_time bigint, err_msg text, user_id bigint);
        create table render_results (id bigint auto_increment primary key, task_no varchar(40), file_url varchar(500),
          file_size bigint, create_time timestamp null);
        """
    )
    shop.execute("insert into render_tasks (task_no, state) values ('a', 'done'), ('b', 'FAIL'), ('c', 'weird')")
    code, data = call(capsys, "init", "--dsn-env", "SHOP_DSN")
    assert code == 0
    assert data["preset"] is None
    assert {entity: guess["table"] for entity, guess in data["tables"].items()} == {
        "task": "render_tasks", "task_output": "render_results",
    }  # fmt: skip
    text = Path("monitoring.yaml").read_text()
    assert "not understood, they count as unknown: weird" in text
    task = load_settings("monitoring.yaml").sources[0].tables["task"][0]
    assert (task.table, task.row_id) == ("render_tasks", "id")
    columns = task.columns
    assert columns["task_key"].column == "task_no"
    assert columns["endpoint"].column == "model"
    assert columns["status"].map == {"done": "succeeded", "FAIL": "failed"}
    assert (columns["ended_at"].column, columns["ended_at"].time) == ("finish_time", "epoch_ms")
    assert str(columns["error_message"].expr) == "left(`err_msg`, 500)"
    code, report = call(capsys, "validate")
    assert code == 0, report["sources"][0]["errors"]


def test_init_does_not_overwrite(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration is replaced only with --force."""
    Path("monitoring.yaml").write_text("# mine\n")
    assert run(["init", "--preset", "tts"]) == 2
    assert Path("monitoring.yaml").read_text() == "# mine\n"
    assert run(["init", "--preset", "tts", "--force"]) == 0
    assert load_settings("monitoring.yaml").sources[0].min_output_bytes == 5000


def test_validate_shows_what_will_be_read(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """E-507: SQL, masked samples, status words, index advice, grants, fingerprint, features."""
    filled(shop)
    Path("monitoring.yaml").write_text("sources: [{id: shop, preset: waverless, read_dsn_env: SHOP_DSN}]\n")
    code, data = call(capsys, "validate")
    source = data["sources"][0]
    assert (code, source["errors"]) == (0, [])
    assert source["dialect"] == shop.server.dialect
    assert len(source["fingerprint"]) == 16
    assert any(grant.startswith("GRANT") for grant in source["grants"])
    assert source["surplus_grants"], "the test account is root"
    task = next(t for t in source["tables"] if t["entity"] == "task")
    assert "`input`" not in task["sql"]
    assert "left" in task["sql"]
    assert [(w["source"], w["unified"], w["rows"]) for w in sorted(task["words"]["status"], key=str)] == [
        ("COMPLETED", "succeeded", 1), ("EXPLODED", None, 1),
    ]  # fmt: skip
    sample = task["sample"][-1]
    assert sample["created_at"] == "2026-02-01 10:00:00.125000"
    assert sample["task_key"] == "tas***01"
    assert sample["endpoint"] == "flux"
    everything = json.dumps(data)
    assert "very secret" not in everything
    assert "stack trace of a user" not in everything
    worker_event = [t for t in source["tables"] if t["entity"] == "worker_event"]
    assert [t["exists"] for t in worker_event] == [False, True]
    features = {f["name"]: f["on"] for f in source["features"]}
    assert features["endpoint counts and durations"]
    assert features["completeness, trend, split"]
    assert not features["output delay"]
    assert not features["job statistics"]


def test_validate_refuses_whole_payload_columns(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """E-403: JSON, TEXT and BLOB only through left, a JSON path, or a null test."""
    shop.script(
        "create table t (id bigint auto_increment primary key, k varchar(9), s varchar(9), j json, x text, b longblob)"
    )

    json = "json" if shop.server.dialect == "mysql" else "longtext"

    def check(columns: str) -> list[str]:
        Path("monitoring.yaml").write_text(
            "sources:\n- id: s\n  read_dsn_env: SHOP_DSN\n  tables:\n    task:\n      table: t\n      key: k\n"
            f"      row_id: id\n      columns: {{status: s, {columns}}}\n"
        )
        code, data = call(capsys, "validate")
        assert code == (2 if data["sources"][0]["errors"] else 0)
        return data["sources"][0]["errors"]

    assert any("longblob column b can only be read" in e for e in check("owner_key: b"))
    assert any(f"{json} column j can only" in e for e in check("owner_key: {expr: 'lower(j)'}"))
    assert any("text column x can only be read through left" in e for e in check("owner_key: {expr: 'lower(x)'}"))
    assert any("text column x" in e for e in check("owner_key: {expr: \"json_value(x, '$.a')\"}"))
    assert any(f"{json} column j" in e for e in check("owner_key: {expr: 'left(j, 1001)'}"))
    assert check("owner_key: {expr: \"json_value(j, '$.a')\"}") == []
    assert check("owner_key: {expr: 'left(x, 1000)'}") == []
    assert check("error_message: {column: x, max_len: 500}") == []
    assert check("owner_key: {expr: \"if(b is null, 'n', 'y')\"}") == []


def test_validate_suggests_columns_and_indexes(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """E-501 against the live schema; E-511; C-117."""
    shop.script(
        """
        create table tasks (task_id varchar(50) primary key, statuss varchar(20), created datetime, ended datetime);
        create table outs (id bigint auto_increment primary key, task_id varchar(36), created datetime);
        """
    )
    config = (
        "sources:\n- id: s\n  read_dsn_env: SHOP_DSN\n  tables:\n    task: {table: tasks, key: task_id, columns: "
        "{status: STATUS, created_at: created, ended_at: ended}}\n"
        "    task_output: {table: outs, key: id, row_id: id, columns: {task_key: task_id, created_at: created}}\n"
    )
    Path("monitoring.yaml").write_text(config.replace("STATUS", "status"))
    code, data = call(capsys, "validate")
    assert code == 2
    assert data["sources"][0]["errors"] == ["task.columns.status: tasks has no column status; did you mean statuss?"]
    Path("monitoring.yaml").write_text(config.replace("STATUS", "statuss"))
    code, data = call(capsys, "validate")
    assert code == 0
    tables = {t["entity"]: t for t in data["sources"][0]["tables"]}
    assert tables["task"]["indexes_missing"] == ["tasks(ended)", "tasks(statuss, ended)"]
    assert tables["task_output"]["indexes_missing"] == ["outs(task_id)", "outs(created)"]
    assert "C-117" in tables["task_output"]["findings"][0]["message"]


def test_validate_reports_an_unreachable_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3; the password is not shown."""
    monkeypatch.setenv("SHOP_DSN", "mysql://u:hunter2@127.0.0.1:1/d")
    file = tmp_path / "m.yaml"
    file.write_text("sources: [{id: shop, preset: waverless, read_dsn_env: SHOP_DSN}]\n")
    code, data = call(capsys, "validate", "--config", str(file))
    assert code == 3
    assert data["sources"][0]["error"]["code"] == "source_unavailable"
    assert "hunter2" not in json.dumps(data)


def test_doctor_checks_machine_and_sources(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions, folders, disk, connection, privileges, time zone, clock (C-508, C-512)."""
    Path("monitoring.yaml").write_text("sources: [{id: shop, preset: waverless, read_dsn_env: SHOP_DSN}]\n")
    code, data = call(capsys, "doctor")
    levels = {check["name"]: check["level"] for check in data["checks"]}
    assert code == 0, data
    assert {"python", "packages", "data folder", "log folder", "disk", "warehouse", "dagster home"} <= set(levels)
    assert levels["source shop: connection"] == "ok"
    assert levels["source shop: privileges"] == "warning"
    assert levels["source shop: clock"] == "ok"
    assert "not exist yet" in next(c["detail"] for c in data["checks"] if c["name"] == "warehouse")


def test_doctor_measures_the_clock_difference(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """C-512: more than a minute is an error; the product's clock is the one of --now (E-005)."""
    Path("monitoring.yaml").write_text("sources: [{id: shop, preset: waverless, read_dsn_env: SHOP_DSN}]\n")
    code, data = call(capsys, "doctor", "--now", "2020-01-01T00:00:00Z")
    clock = next(c for c in data["checks"] if c["name"] == "source shop: clock")
    assert (code, clock["level"]) == (1, "error")


def test_a_writing_account_is_refused_when_strict(shop: TestDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """strict_readonly: the read account may do nothing but read."""
    shop.script(WAVERLESS)
    Path("monitoring.yaml").write_text(
        "sources: [{id: shop, preset: waverless, read_dsn_env: SHOP_DSN, strict_readonly: true}]\n"
    )
    assert call(capsys, "validate")[0] == 5
    assert call(capsys, "doctor")[0] == 5


def test_doctor_with_a_broken_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is the first check."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "monitoring.yaml").write_text("extrakt: 1\n")
    code, data = call(capsys, "doctor")
    assert code == 2
    assert data["checks"][0]["name"] == "configuration"
    assert "monitoring.yaml:1: extrakt" in data["checks"][0]["detail"]


def test_ddl_runs_on_a_server_and_is_what_the_presets_read(
    shop: TestDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """E-512: the printed tables exist afterwards and the presets that name them are valid on them."""
    for part in call(capsys, "ddl", "--dialect", shop.server.dialect)[1]["sql"].split(";\n"):
        if part.strip():
            shop.execute(part)
    shop.script(SCHEDULER.split(";")[0])
    shop.execute(
        "insert into scheduler_task_configs (task_id, cron_config, sla_config, is_enabled, risk_level) values "
        "('a', '{\"hour\": 2, \"day_of_week\": \"0-4\"}', '{\"max_execution_time_seconds\": 300}', 1, 'HIGH')"
    )
    Path("monitoring.yaml").write_text(
        "sources: [{id: a, preset: scheduler, read_dsn_env: SHOP_DSN}, "
        "{id: b, preset: collector, read_dsn_env: SHOP_DSN}]\n"
    )
    code, data = call(capsys, "validate")
    assert code == 0, [source["errors"] for source in data["sources"]]
    job = data["sources"][0]["tables"][0]["sample"][0]
    assert job["schedule"] == "0 2 * * mon-fri"
    assert job["risk_level"] == "high"
    assert {t["entity"] for t in data["sources"][1]["tables"] if t["exists"]} == {
        "process_sample", "probe_result", "ingest_counter",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ('{"minute": "*/5"}', "*/5 * * * *"),
        ('{"hour": 3, "minute": 30}', "30 3 * * *"),
        ('{"day": 1}', "0 0 1 * *"),
        ('{"month": 6}', "0 0 1 6 *"),
        ('{"day_of_week": "mon,fri", "hour": "8"}', "0 8 * * mon,fri"),
        ('{"day_of_week": 6}', "0 0 * * sun"),
        ('{"second": 10}', "* * * * * 10"),
        ('{"year": 2027}', "0 0 1 1 * 0 2027"),
        ('{"week": 5}', None),
        ("{}", None),
        ("null", None),
    ],
)
def test_cron_fields_become_a_cron_line(
    cron: str, expected: str | None, shop: TestDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """§9.4 schedule: fields that are not given default as the source's scheduler defaults them."""
    from monitoring_pipelines.config.propose import preset_source

    expr = preset_source("scheduler").tables["job"][0].columns["schedule"].expr
    assert expr is not None
    shop.execute("create table c (cron_config json)")
    shop.execute("insert into c values (%s)", (cron,))
    assert shop.execute(f"select {expr.render('mariadb')} from c".replace("%", "%%"), ()) == [(expected,)]


def test_sqlite_sources_work_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo's dialect: init, validate, doctor."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "platform.db"
    with sqlite3.connect(file) as con:
        con.execute(
            "create table tasks (task_id text primary key, workflow_id text, status text, runninghub_task_id text, "
            "created_at text, started_at text, completed_at text, timeout_at text)"
        )
        con.execute(
            "create table task_outputs (id integer primary key, task_id text, node_id text, name text, file_type text, "
            "file_size integer, file_url text, created_at text)"
        )
        con.execute("insert into tasks (task_id, status) values ('t1', 'SUCCESS')")
    monkeypatch.setenv("SHOP_DSN", f"sqlite:///{file}")
    assert call(capsys, "init", "--dsn-env", "SHOP_DSN")[1]["preset"] == "tktool"
    code, data = call(capsys, "validate")
    assert (code, data["sources"][0]["errors"]) == (0, [])
    assert call(capsys, "doctor")[0] == 0


@pytest.mark.parametrize(
    ("word", "status"),
    [("SUCCESS", "succeeded"), ("In-Progress", "running"), ("TASK_TIMEOUT", "timed_out"), ("weird", None)],
)
def test_usual_status_words_are_recognised(word: str, status: str | None) -> None:
    """A proposal only; an unknown word is never guessed (E-202)."""
    assert unified_word(word) == status
