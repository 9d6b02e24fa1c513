"""One gap from the check that finds it to the alert that resolves, and back (R-412, A-002)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring_pipelines.alerts import engine
from monitoring_pipelines.compensation.after import after_run
from monitoring_pipelines.compensation.approve import approve
from monitoring_pipelines.compensation.notices import summary_for_alert
from monitoring_pipelines.compensation.rollback import Rollbacker
from monitoring_pipelines.pipeline import Pipeline, tick
from monitoring_pipelines.quality import runs
from monitoring_pipelines.state import alerts as stored
from monitoring_pipelines.warehouse.lake import Lake


@pytest.fixture
def pipe(shop):
    return Pipeline.of(shop.settings, shop.clock)


def open_alerts(shop):
    rows, _ = stored.list_alerts(shop.state, open_only=True, types=("missing_task_outputs",))
    return rows


def origins(pipe):
    with pipe.warehouse.reader("test") as con:
        return dict(con.execute("SELECT task_key, origin FROM raw.task_output").fetchall())


def live_outputs(pipe):
    """Tasks with an output, as pages show them."""
    lake = Lake(pipe.settings.lake_path)
    with lake.connect() as con:
        return {key for (key,) in con.execute("SELECT task_key FROM core.task WHERE outputs > 0").fetchall()}


def test_gap_alert_repair_resolved_rollback(shop, pipe):
    for key in ("a", "b", "c"):
        shop.task(key)
    shop.output("c")
    tick(pipe)
    runs.execute(pipe, shop.state, "full")
    engine.tick(pipe, shop.state, shop.clock.now())
    (alert,) = open_alerts(shop)
    assert summary_for_alert(shop.state, "shop") is None

    shop.api.results["r-b"] = []  # this one cannot be brought back
    plan = shop.plan(alert_id=alert["alert_id"])
    approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob")
    run = after_run(shop.settings, shop.state, shop.clock, shop.applier().apply(plan["plan_id"], "carl"))
    assert run["verification"]["after"] == {"settled": 3, "with_output": 2, "rate_pct": 66.67}
    assert origins(pipe) == {"a": "repair", "c": "app"}

    shop.clock.advance(60)
    runs.execute(pipe, shop.state, "full")
    engine.tick(pipe, shop.state, shop.clock.now())
    (alert,) = open_alerts(shop)
    assert alert["task_ids"] == ["b"]
    told = summary_for_alert(shop.state, "shop")
    assert told["text"] == f"repair plan {plan['plan_id']} is applied: 1 task repaired, 1 left"

    shop.output("b")
    shop.clock.advance(60)
    tick(pipe)
    runs.execute(pipe, shop.state, "full")
    engine.tick(pipe, shop.state, shop.clock.now())
    assert open_alerts(shop) == []

    undone = Rollbacker(shop.settings, shop.state, shop.clock).rollback("dora", plan_id=plan["plan_id"])
    after_run(shop.settings, shop.state, shop.clock, undone)
    assert live_outputs(pipe) == {"b", "c"}, "at once, not when the source is compared next"
    shop.clock.advance(60)
    runs.execute(pipe, shop.state, "full")
    engine.tick(pipe, shop.state, shop.clock.now())
    (alert,) = open_alerts(shop)
    assert alert["task_ids"] == ["a"]


def test_repaired_rows_stay_those_of_a_repair_when_its_process_was_killed_or_the_warehouse_is_gone(shop, pipe):
    """R-412: the journal knows them; nothing depends on what follows a run."""
    for key in ("a", "b"):
        shop.task(key)
    shop.output("b")
    tick(pipe)
    plan = shop.plan()
    approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob")
    shop.applier().apply(plan["plan_id"], "carl")  # and no ``after_run``
    with pipe.warehouse.writer("test") as con:  # a cycle that could not tell, but has read the rows
        con.execute("INSERT INTO meta.own_mark VALUES ('repair_run', ?)", [shop.clock.now() + timedelta(days=1)])
    shop.clock.advance(60)
    tick(pipe)
    assert origins(pipe) == {"a": "app", "b": "app"}
    with pipe.warehouse.writer("test") as con:
        con.execute("DELETE FROM meta.own_mark WHERE name = 'repair_run'")
    shop.clock.advance(60)
    tick(pipe)
    assert origins(pipe) == {"a": "repair", "b": "app"}
    with pipe.warehouse.reader("test") as con:
        assert con.execute("SELECT count(*) FROM meta.dirty_task").fetchone() == (0,)

    pipe.warehouse.path.unlink()
    pipe.warehouse.path.with_name(pipe.warehouse.path.name + ".wal").unlink(missing_ok=True)
    shop.clock.advance(60)
    tick(pipe)
    assert origins(pipe) == {"a": "repair", "b": "app"}
