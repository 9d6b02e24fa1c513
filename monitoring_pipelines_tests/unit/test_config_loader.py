"""Reading the configuration: errors with file, line and path, defaults, secrets (E-501, E-006, E-508)."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.loader import load_text
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.config.secrets import mask, mask_dsn
from monitoring_pipelines.errors import ConfigError


def load(text: str, base: Path | None = None) -> Settings:
    return load_text(textwrap.dedent(text), "m.yaml", base or Path("/"))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


MINIMAL = """\
sources:
  - id: shop
    read_dsn_env: SHOP_DSN
    tables:
      task:
        table: app.tasks
        key: task_id
        columns: {status: state}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extrakt: {}", "m.yaml:1: extrakt: unknown key; did you mean extract?"),
        ("version: 1\nextract:\n  interval_s: -3", "m.yaml:3: extract.interval_s: must be greater than 0, not -3"),
        ("extract: {overlap_s: true}", "m.yaml:1: extract.overlap_s: a number is needed"),
        ("extract: {interval_s: '30'}", "m.yaml:1: extract.interval_s: a number is needed"),
        ("extract: {interval_s: .nan}", "m.yaml:1: extract.interval_s: must be greater than 0"),
        ("retention: {raw_days: 0}", "m.yaml:1: retention.raw_days: must be greater than or equal to 1, not 0"),
        ("extract: 5", "m.yaml:1: extract: a block of keys is needed"),
        ("language: de", "m.yaml:1: language: 'de' is not one of zh-CN, en"),
        ("timezone: Asia/Shangha", "m.yaml:1: timezone: 'Asia/Shangha' is not a time zone"),
        ("checks: {quick: {cron: '61 * * * *'}}", "m.yaml:1: checks.quick.cron: '61' is outside 0-59"),
        ("checks: {disabled: [trent]}", "m.yaml:1: checks.disabled: unknown check 'trent'; did you mean trend?"),
        ("checks: {bands: {healthy: 70}}", "m.yaml:1: checks.bands: bands must fall"),
        ("rules: [{id: resource.memry, for: 5m}]", "unknown rule 'resource.memry'; did you mean resource.memory?"),
        ("rules:\n  - {id: mine, metric: x}", "m.yaml:2: rules[0]: a rule with its own metric needs op, threshold"),
        ("api: {host: 0.0.0.0}", "m.yaml:1: api: host 0.0.0.0 is reachable from outside"),
        ("channels: [{id: ops, type: dingtalk}]", "a dingtalk channel needs webhook_env or webhook_file"),
        ("channels: [{id: ops, type: dingtalk, webhook: 'https://x'}]", "a secret is never written"),
        ("deadman: {url: 'https://x'}", "m.yaml:1: deadman.url: a secret is never written in the configuration"),
        ("alerts: {routes: {critical: {channels: [nobody]}}}", "alerts.routes.critical.channels[0]: unknown channel"),
        ("alerts: {routes: {night: {severities: [low]}}}", "alerts.routes.night: group_interval_s is missing"),
        ("probes: [{target: a, url: 'ftp://x'}]", "m.yaml:1: probes[0].url: an http(s) URL is needed"),
        ("a: 1\na: 2", "m.yaml:2: not valid YAML"),
        ("a: [1, 2", "m.yaml:1: not valid YAML"),
        ("- 1", "m.yaml:1: a block of keys is needed"),
        ("sources: {id: x}", "m.yaml:1: sources: a list is needed"),
        ("sources: [{preset: waverles}]", "unknown preset 'waverles'; did you mean waverless?"),
    ],
)
def test_an_error_names_file_line_and_path(text: str, expected: str) -> None:
    """E-501: unknown keys, wrong types, values out of range: file, line, path, and a suggestion."""
    assert any(expected in problem for problem in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("change", "line", "expected"),
    [
        (("key: task_id", "kee: task_id"), 7, "sources[0].tables.task.kee: unknown key; did you mean key?"),
        (("{status: state}", "{statuz: state}"), 8, "tables.task.columns.statuz: unknown column; did you mean status?"),
        (("task:", "tsk:"), 5, "sources[0].tables.tsk: unknown entity; did you mean task?"),
        (
            ("{status: state}", "{endpoint: e}"),
            8,
            "sources[0].tables.task.columns: required column status is not mapped",
        ),
        (("        key: task_id\n", ""), 7, "required column task_key is not mapped"),
        (("table: app.tasks", "table: a.b.c"), 6, "sources[0].tables.task.table"),
        (("{status: state}", "{status: {column: a, expr: b}}"), 8, "exactly one of column, expr, const, derive"),
        (("{status: state}", "{status: {map: {A: queued}}}"), 8, "exactly one of column, expr, const, derive"),
        (("{status: state}", "{status: {const: dne}}"), 8, "columns.status.const: unknown value 'dne'"),
        (
            ("{status: state}", "{status: {column: s, map: {A: succeded}}}"),
            8,
            "columns.status.map.A: unknown value 'succeded'; did you mean succeeded?",
        ),
        (("{status: state}", "{status: {expr: 'a; b'}}"), 8, "columns.status.expr: bad expression: a semicolon"),
        (("{status: state}", "{status: s, is_deleted: d}"), 8, "columns.is_deleted: computed by the product"),
        (("{status: state}", "{status: {column: s, time: epoch_s}}"), 8, "columns.status.time: status is not a time"),
        (("{status: state}", "{status: s, created_at: {column: c, time: utc}}"), 8, "'utc' is not one of naive_utc"),
        (("{status: state}", "{status: s, created_at: {column: c, zone: UTC}}"), 8, "zone is only used with"),
        (("{status: state}", "{status: s, owner_key: {derive: outputs}}"), 8, "derive: outputs is for task.status"),
        (("key: task_id", "key: [a, b]"), 7, "sources[0].tables.task.key: task needs 1 key column(s): task_key"),
        (("key: task_id", "key: task_id\n        strategy: updated"), 8, "strategy updated needs updated_at"),
        (("    read_dsn_env: SHOP_DSN\n", ""), 2, "sources[0]: read_dsn_env is missing"),
        (("read_dsn_env: SHOP_DSN", "read_dsn: mysql://u:secretpw@h/d"), 3, "read_dsn: a secret is never written"),
        (("read_dsn_env: SHOP_DSN", "read_dsn_env: mysql://u:secretpw@h/d"), 3, "never the secret itself"),
        (("id: shop", "id: Shop"), 2, "sources[0].id: lower-case letters"),
        (("id: shop", "id: _self"), 2, "sources[0].id: lower-case letters"),
    ],
)
def test_mapping_errors_point_into_the_users_block(change: tuple[str, str], line: int, expected: str) -> None:
    """E-501, E-503, E-504, E-006: the place is the one the user wrote; a secret is never echoed."""
    text = MINIMAL.replace(*change)
    assert text != MINIMAL
    found = problems(text)
    assert any(f"m.yaml:{line}: " in problem and expected in problem for problem in found), found
    assert "secretpw" not in " ".join(found)


def test_every_problem_is_reported_in_one_run() -> None:
    """E-501: problems of merging and of types come together, in file order."""
    text = MINIMAL.replace("id: shop", "id: shop\n    colour: red").replace("{status: state}", "{statuz: state}")
    found = problems("timezone: Nowhere\n" + text)
    assert [problem.split(": ")[0] for problem in found] == ["m.yaml:1", "m.yaml:4", "m.yaml:10"]


def test_duplicate_source_ids_are_an_error() -> None:
    """E-501."""
    second = MINIMAL.removeprefix("sources:\n")
    assert any("sources[1].id: duplicate source id 'shop'" in p for p in problems(MINIMAL + second))


def test_derived_timeouts_need_a_limit() -> None:
    """E-508: mode derive without limit_s needs deadline_at or task_timeout_s."""
    text = MINIMAL + "    timeouts: {mode: derive}\n"
    assert any("sources[0].timeouts: mode derive needs limit_s" in p for p in problems(text))
    assert load(text.replace("{status: state}", "{status: state, deadline_at: d}")).sources[0].timeouts.limit_s is None


def test_defaults_are_those_of_the_specification() -> None:
    """Entities §6, checks_alerts §12, compensation §10, surfaces §1."""
    s = Settings()
    assert (s.timezone, s.language, s.version) == ("Asia/Shanghai", "zh-CN", 1)
    assert s.retention.model_dump() == {
        "raw_days": 30, "minute_days": 30, "hour_days": 400, "day_days": 3650, "check_days": 400, "alert_days": 400,
        "notification_days": 400,
    }  # fmt: skip
    assert s.extract.model_dump(exclude={"max_source_load"}) == {
        "interval_s": 30, "overlap_s": 600, "batch_rows": 50000, "connect_timeout_s": 10, "query_timeout_s": 30,
        "reconcile_hours": 24, "future_tolerance_s": 5,
    }  # fmt: skip
    assert s.stats.model_dump() == {
        "settle_s": 60, "snapshot_interval_s": 60, "snapshot_tolerance_s": 180, "clock_skew_max_s": 300,
        "max_duration_h": 168, "backfill_days": 30, "start": None,
    }  # fmt: skip
    assert s.checks.bands.model_dump() == {"healthy": 95, "degraded": 80, "critical": 50}
    assert (s.checks.quick.cron, s.checks.full.cron, s.checks.deep.cron) == ("*/15 * * * *", "0 * * * *", "0 2 * * *")
    assert s.thresholds.model_dump() == {
        "max_pending_tasks": 50, "max_queue_wait_time": 1800, "max_execution_time": 3600, "max_failed_rate": 0.3,
        "min_success_rate": 0.7,
    }  # fmt: skip
    assert s.alerts.routes["warning"].model_dump() == {
        "severities": ["high", "medium"], "channels": [], "group_interval_s": 60, "repeat_s": 7200,
    }  # fmt: skip
    assert (s.alerts.retry_min, s.health.grace_s, s.recovery.mode) == ([5, 15, 30, 60], 120, "observe")
    assert (s.repair.mode, s.repair.max_failed_share, s.repair.backoff_s) == ("only_if_empty", 0.2, [1, 2, 4])
    assert (s.api.host, s.api.port, s.metrics.max_series_per_family) == ("127.0.0.1", 8787, 2000)
    assert s.health.freshness["liquidation"] == 3600


def test_empty_blocks_mean_defaults() -> None:
    """``checks:`` with nothing below it is not an error."""
    assert load("checks:\nsources:\nrules:\n").checks == Settings().checks


def test_a_route_changes_only_what_it_names() -> None:
    """Checks §12: the user's route keeps the other defaults; ``for`` takes durations."""
    s = load(
        """\
        channels: [{id: ops, type: webhook, webhook_env: U}]
        alerts: {routes: {critical: {channels: [ops]}}}
        rules: [{id: resource.memory, threshold: 3000000000, for: 5m}]
        """
    )
    assert s.alerts.routes["critical"].repeat_s == 600
    assert s.alerts.routes["critical"].channels == ["ops"]
    assert s.rules[0].for_s == 300


def test_paths_start_at_the_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths do not depend on the current folder; MP_CONFIG names the file."""
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "m.yaml"
    file.write_text("paths: {data: ../d}\n")
    monkeypatch.setenv("MP_CONFIG", str(file))
    s = load_settings()
    assert s.warehouse_path == tmp_path / "d" / "warehouse.duckdb"
    assert s.lake_path == tmp_path / "d" / "lake"
    assert s.logs_path == tmp_path / "conf" / "logs"


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """E-501: no file, no guess."""
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "none.yaml")
    assert "no such configuration file" in str(caught.value)
    assert "mp init" in str(caught.value.hint)


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_dsn_comes_from_environment_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-006."""
    monkeypatch.setenv("SHOP_DSN", "mysql+pymysql://u:hunter2@h:3306/d")
    assert load(MINIMAL).sources[0].read_dsn() == "mysql://u:hunter2@h:3306/d"
    (tmp_path / "dsn").write_text("mariadb://u:hunter2@h/d\n")
    by_file = load(MINIMAL.replace("read_dsn_env: SHOP_DSN", "read_dsn_file: dsn"), tmp_path)
    assert by_file.sources[0].read_dsn() == "mariadb://u:hunter2@h/d"


@pytest.mark.parametrize("value", ["", "u:hunter2@h", "postgres://u:hunter2@h/d", "sqlite:relative.db"])
def test_a_bad_dsn_is_refused_without_showing_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-006: the message names the variable, never its content."""
    monkeypatch.setenv("SHOP_DSN", value)
    with pytest.raises(ConfigError) as caught:
        load(MINIMAL).sources[0].read_dsn()
    assert "SHOP_DSN" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_settings_never_hold_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-006: repr and dump of the settings show the name of the variable only."""
    monkeypatch.setenv("SHOP_DSN", "mysql://u:hunter2@h/d")
    s = load(MINIMAL)
    s.sources[0].read_dsn()
    assert "hunter2" not in repr(s) + s.model_dump_json(serialize_as_any=True, fallback=str)


@pytest.mark.parametrize(
    ("dsn", "masked"),
    [
        ("mysql://u:p%40ss@h:3306/d?x=1", "mysql://u:***@h:3306/d?x=1"),
        ("mysql://u:p@ss@h/d", "mysql://u:***@h/d"),
        ("mysql://u@h/d", "mysql://u@h/d"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_passwords_of_dsns_are_masked(dsn: str, masked: str) -> None:
    """E-006."""
    assert mask_dsn(dsn) == masked
    assert mask(f"connecting to {dsn} failed") == f"connecting to {masked} failed"


def test_a_secret_once_read_is_masked_in_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-006: also when a driver quotes the password alone, decoded or not."""
    monkeypatch.setenv("SHOP_DSN", "mysql://u:hunter%402@h/d")
    load(MINIMAL).sources[0].read_dsn()
    assert mask("denied for hunter@2 and hunter%402") == "denied for *** and ***"
