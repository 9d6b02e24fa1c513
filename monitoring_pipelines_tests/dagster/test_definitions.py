"""The code location: names, lineage, documentation, and what loading it may not do."""

import json
import os
import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest
from dagster import AssetKey, DefaultScheduleStatus, DefaultSensorStatus, TableSchema

from monitoring_pipelines.definitions import build_defs
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.orchestration import catalog

HEAVY = ("pandas", "pyarrow", "numpy", "connectorx", "great_expectations", "sqlalchemy", "fastapi", "sqlfluff")
ROOT = Path(__file__).parents[2]


def load_in_subprocess(cwd: Path, **env: str) -> dict:
    code = (
        "import json, sys\n"
        "from monitoring_pipelines.definitions import defs\n"
        "keys = sorted(k.to_user_string() for k in defs.get_repository_def().asset_graph.get_all_asset_keys())\n"
        f"print(json.dumps([keys, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("MP_CONFIG", "MP_NOW")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    keys, heavy = json.loads(result.stdout.splitlines()[-1])
    return {"keys": keys, "heavy": heavy}


def test_loading_imports_nothing_heavy_and_creates_nothing(new_site):
    """Ground rule 6: every run loads the location; it opens no warehouse and needs no password."""
    (new_site.root / "shop.dsn").unlink()
    before = sorted(new_site.root.rglob("*"))
    loaded = load_in_subprocess(new_site.root, MP_CONFIG=str(new_site.config))
    assert loaded["heavy"] == []
    assert "mart/endpoint_minute_stats" in loaded["keys"]
    assert sorted(new_site.root.rglob("*")) == before


def test_without_configuration_the_location_loads_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MP_CONFIG", raising=False)
    defs = build_defs()
    (spec,) = defs.resolve_all_asset_specs()
    assert spec.key == AssetKey(["setup", "configuration"])
    assert "mp init" in spec.description
    assert load_in_subprocess(tmp_path)["keys"] == ["setup/configuration"]


def test_wrong_configuration_names_file_and_line(tmp_path):
    """E-501: the product does not start."""
    path = tmp_path / "monitoring.yaml"
    path.write_text("version: 1\nsurces: []\n")
    with pytest.raises(ConfigError, match=r"monitoring.yaml:2"):
        build_defs(config_path=path)


def test_assets_are_named_like_their_tables_and_files(new_site):
    keys = {key.to_user_string() for key in new_site.defs().resolve_asset_graph().get_all_asset_keys()}
    files = {
        f"{path.parent.name}/{path.stem}"
        for folder in ("core", "mart")
        for path in ROOT.glob(f"dbt_like_sql/{folder}/*.sql")
    }
    assert files <= keys
    assert {"raw/task", "raw/task_event", "audit/reconciliation", "meta/window_run", "lake/manifest"} <= keys
    assert "raw/job_run" not in keys, "an entity that no source maps is no asset"


def test_lineage_follows_the_references_in_the_sql(new_site):
    graph = new_site.defs().resolve_asset_graph()
    parents = graph.get(AssetKey(["mart", "endpoint_minute_stats"])).parent_keys
    assert {AssetKey(["core", "task_attempt"]), AssetKey(["core", "worker_interval"])} <= parents
    assert AssetKey(["raw", "task_event"]) in graph.get(AssetKey(["core", "task_attempt"])).parent_keys
    hourly = graph.get(AssetKey(["mart", "endpoint_hourly_stats"]))
    lineage = hourly.metadata["dagster/column_lineage"].deps_by_column
    assert [d.asset_key for d in lineage["tasks_completed"]] == [AssetKey(["mart", "endpoint_minute_stats"])]


def test_every_table_documents_every_column(new_site):
    graph = new_site.defs().resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        if key.path[0] in ("core", "mart"):
            schema = node.metadata["dagster/column_schema"]
            assert isinstance(schema, TableSchema)
            missing = [c.name for c in schema.columns if not c.description]
            assert not missing, (key, missing)
            assert "string" not in {c.type for c in schema.columns}


def test_stored_catalog_belongs_to_the_sql_files():
    """Otherwise every run parses 40 queries; ``python -m monitoring_pipelines.orchestration.catalog`` renews it."""
    assert json.loads(catalog.STORED.read_text()) == catalog.compute()


def test_schedules_run_by_default_in_the_configured_zone(new_site):
    """S-701."""
    repository = new_site.defs().get_repository_def()
    schedules = {s.name: s for s in repository.schedule_defs}
    assert schedules["minute_tick_job_every_minute"].cron_schedule == "* * * * *"
    assert schedules["minute_tick_job_every_minute"].execution_timezone == "Asia/Shanghai"
    assert {s.default_status for s in schedules.values()} == {DefaultScheduleStatus.RUNNING}
    sensors = {s.name: s.default_status for s in repository.sensor_defs}
    assert sensors["dirty_hours_sensor"] == DefaultSensorStatus.RUNNING
    # Plans are made without being asked for only where that is configured.
    assert sensors.pop("auto_plan_sensor") == DefaultSensorStatus.STOPPED
    assert set(sensors.values()) == {DefaultSensorStatus.RUNNING}


def test_ticks_are_in_no_pool_and_long_steps_in_one(new_site):
    """A backfill step occupies its pool for minutes; the minute tick must not wait for it."""
    repository = new_site.defs().get_repository_def()
    # Checks that only read, for moments, wait for nothing either.
    pools = {
        name: {n.definition.pool for n in repository.get_job(name).nodes if not n.name.startswith("check_")}
        for name in repository.job_names
    }
    assert pools["minute_tick_job"] == {None}
    assert pools["hourly_stats_job"] == {"duckdb"}
    assert pools["daily_stats_job"] == {"duckdb"}
    assert pools["reconciliation_job"] == {"duckdb"}
    for name in repository.job_names:
        assert repository.get_job(name).executor_def.name == "in_process", name


def test_a_job_started_by_hand_is_given_all_it_needs_or_cannot_be_started(new_site):
    """S-425: every partitioned job names a partition that exists, every job that asks for an id is refused."""
    from dagster import validate_run_config

    from monitoring_pipelines.self_jobs import product_jobs

    repository, now = new_site.defs().get_repository_def(), new_site.clock.now()
    for name, own in product_jobs(new_site.settings).items():
        job = repository.get_job(name)
        key = own.partition(now)
        assert (key is not None) == (job.partitions_def is not None), name
        if job.partitions_def is not None:
            assert key in job.partitions_def.get_partition_keys(current_time=now.replace(tzinfo=UTC)), name
        # What a person has to fill in stands in the prefilled configuration as "ID of …".
        asks_for_a_plan = "ID of" in str(validate_run_config(job)) and name != "plan_compensation_job"
        assert asks_for_a_plan == (own.scope == "plan"), name
