"""The repair jobs in a real Dagster instance: config, tags, failures, no schedule (R-901…R-903)."""

from __future__ import annotations

import pytest
from dagster import DagsterInstance

from monitoring_pipelines.compensation.approve import approve
from monitoring_pipelines.definitions import build_defs
from monitoring_pipelines.state import repair as store


@pytest.fixture
def run_job(shop):
    defs = build_defs(settings=shop.settings, clock=shop.clock)
    with DagsterInstance.ephemeral() as instance:

        def execute(name, op, config):
            done = defs.get_job_def(name).execute_in_process(
                run_config={"ops": {op: {"config": config}}}, instance=instance, raise_on_error=False
            )
            return done, instance.get_run_by_id(done.run_id).tags

        yield execute


def newest(shop):
    with shop.state.read() as con:
        plan = store.list_plans(con)[0]
        return plan, store.list_runs(con, plan["plan_id"])


def test_plan_apply_verify_rollback_through_jobs(shop, run_job):
    shop.task("a", outputs=2)
    done, tags = run_job("plan_compensation_job", "plan", {"source_id": "shop", "hours": 12, "alert_id": "A1"})
    assert done.success
    plan, _ = newest(shop)
    assert (tags["plan_id"], tags["alert_id"]) == (plan["plan_id"], "A1")
    refused, _ = run_job("apply_compensation_job", "apply", {"plan_id": plan["plan_id"]})
    assert not refused.success
    assert len(shop.rows()) == 0
    approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob")
    done, tags = run_job("apply_compensation_job", "apply", {"plan_id": plan["plan_id"]})
    assert done.success
    assert tags["alert_id"] == "A1"
    assert len(shop.rows()) == 2
    run_id = tags["repair_run_id"]
    assert run_job("verify_compensation_job", "verify", {"run_id": run_id})[0].success
    assert run_job("rollback_compensation_job", "rollback", {"run_id": run_id, "dry_run": True})[0].success
    assert len(shop.rows()) == 2
    assert run_job("rollback_compensation_job", "rollback", {"run_id": run_id})[0].success
    assert len(shop.rows()) == 0


def test_repair_jobs_have_no_schedule_and_the_planning_sensor_is_stopped(shop):
    defs = build_defs(settings=shop.settings, clock=shop.clock)
    scheduled = {schedule.job_name for schedule in defs.schedules}
    assert not {name for name in scheduled if "compensation" in name}
    sensor = next(s for s in defs.sensors if s.name == "auto_plan_sensor")
    assert sensor.default_status.value == "STOPPED"
    assert {job.job_name if hasattr(job, "job_name") else job.name for job in [sensor]} <= {"plan_compensation_job"}
