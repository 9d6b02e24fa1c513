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


def test_the_launchpad_opens_with_a_configuration_that_runs_or_says_what_to_fill_in(shop, run_job):
    """The plan runs as it is; what needs an id says so in words and writes nothing; a rollback begins dry."""
    shop.task("a")
    defs = build_defs(settings=shop.settings, clock=shop.clock)

    def prefilled(name, op, **filled_in):
        config = defs.get_job_def(name).run_config
        assert list(config["ops"]) == [op]
        return run_job(name, op, config["ops"][op]["config"] | filled_in)

    done, _ = prefilled("plan_compensation_job", "plan")
    assert done.success
    plan, _ = newest(shop)
    (output,) = [event.step_output_data for event in done.all_events if event.is_successful_output]
    assert output.metadata["page"].value.endswith(f"/repair/plans/{plan['plan_id']}")
    assert f"mp repair approve {plan['plan_id']} --by NAME" in output.metadata["next"].value
    assert plan["counters"]["rows_planned"] == 1
    for name, op in (("apply", "plan"), ("resume", "run"), ("verify", "run"), ("rollback", "run")):
        done, _ = prefilled(f"{name}_compensation_job", name)
        assert not done.success
        assert f"ID of a{'n approved' if op == 'plan' else ' repair'} {op}" in said(done)
    done, _ = prefilled("apply_compensation_job", "apply", plan_id=plan["plan_id"])
    assert "not approved" in said(done)
    assert len(shop.rows()) == 0
    approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob")
    done, tags = prefilled("apply_compensation_job", "apply", plan_id=plan["plan_id"])
    assert done.success
    run_id = tags["repair_run_id"]
    assert prefilled("verify_compensation_job", "verify", run_id=run_id)[0].success
    assert prefilled("rollback_compensation_job", "rollback", run_id=run_id)[0].success
    assert len(shop.rows()) == 1, "it was dry"
    assert prefilled("rollback_compensation_job", "rollback", run_id=run_id, dry_run=False)[0].success
    assert len(shop.rows()) == 0


def test_a_plan_takes_one_kind_of_scope(shop, run_job):
    shop.task("a")
    done, _ = run_job("plan_compensation_job", "plan", {"source_id": "shop", "hours": 12, "task_ids": ["a"]})
    assert "exclude each other" in said(done)


def said(done) -> str:
    """What the Dagster UI shows of a failed step: words without a stack trace."""
    (failed,) = [event.step_failure_data for event in done.all_events if event.is_step_failure]
    assert failed.error.cause is None, "no chain of exceptions"
    return failed.user_failure_data.description
