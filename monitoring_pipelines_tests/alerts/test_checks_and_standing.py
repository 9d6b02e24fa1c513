"""Alerts fed by check runs (A-001, A-002), silences (A-306) and inhibition (A-307)."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring_pipelines.alerts import actions
from monitoring_pipelines.alerts.model import fingerprint
from monitoring_pipelines.quality.model import Finding
from monitoring_pipelines.state import tables
from monitoring_pipelines_tests.alerts.conftest import T0

MISSING = "missing_task_outputs"


def test_fingerprint_is_the_digest_of_canonical_json():
    """A-001: sorted keys, no spaces, UTF-8."""
    import hashlib

    text = '{"labels":{"endpoint":"图","job":"a"},"source":"shop","type":"t"}'
    assert fingerprint("t", "shop", {"job": "a", "endpoint": "图"}) == hashlib.sha256(text.encode()).hexdigest()


def test_quick_full_and_deep_carry_one_alert_that_ends_when_all_are_clean(world):
    """A-002."""
    world.check("quick", ("high", "quick says"))
    world.run(0)
    world.check("full", ("critical", "full says"))
    world.run(30)
    row = world.alert(MISSING)
    assert (row["severity"], row["message"], row["occurrences"]) == ("critical", "full says", 2)
    world.check("quick")
    world.run(60)
    assert world.alert(MISSING)["state"] == "firing"
    world.check("full", ("medium", "full says less"))
    world.run(90)
    row = world.alert(MISSING)
    assert (row["severity"], row["message"], row["occurrences"]) == ("medium", "full says less", 3)
    world.check("full")
    world.run(120)
    assert world.alert(MISSING)["state"] == "resolved"
    assert len([a for a in world.alerts() if a["type"] == MISSING]) == 1
    assert [(at, title.split()[0]) for at, title in world.sent] == [
        (10, "[FIRING]"), (30, "[FIRING]"), (120, "[RESOLVED]"),
    ]  # fmt: skip


def test_of_equally_grave_results_the_newest_speaks_and_at_one_instant_that_of_the_widest_window(world):
    """A-002: the message does not depend on which run was stored first."""
    for at, first, second in ((0, "quick", "full"), (30, "full", "quick"), (60, "deep", "full"), (90, "full", "deep")):
        world.check(first, ("high", f"{first} says at {at}"))
        world.check(second, ("high", f"{second} says at {at}"))
        world.run(at)
        widest = "deep" if "deep" in (first, second) else "full"
        assert world.alert(MISSING)["message"] == f"{widest} says at {at}"
    world.check("quick", ("high", "quick is newer"))
    world.run(120)
    assert world.alert(MISSING)["message"] == "quick is newer"


def test_a_run_that_failed_resolves_nothing_and_raises_its_own_alert(world):
    """C-025, A-202."""
    world.check("quick", ("high", "x"))
    world.run(0)
    broken = Finding("shop", "missing_outputs", "monitoring_error", "high", "cannot be read", T0)
    world.check("quick", broken, status="error")
    world.run(30)
    assert {a["type"]: a["state"] for a in world.alerts() if a["source_id"] == "shop"} == {
        MISSING: "firing", "monitoring_error": "firing",
    }  # fmt: skip
    world.check("quick", status="insufficient_data")
    world.check("quick", ("high", "x"))
    world.run(60)
    assert world.alert("monitoring_error")["state"] == "resolved"
    assert world.alert(MISSING)["state"] == "firing"


def test_a_window_without_tasks_holds_no_loss_and_lets_a_repaired_night_end(world):
    """C-002, A-002: n = 0 is no alert; another insufficiency is no answer."""
    world.check("quick", ("critical", "x"))
    world.check("full", ("critical", "x"))
    world.run(0)
    world.check("quick", status="insufficient_data", metrics={"success_tasks": 0})
    world.run(30)
    assert world.alert(MISSING)["state"] == "firing"  # the day as a whole still has the loss
    world.check("full")
    world.run(60)
    assert world.alert(MISSING)["state"] == "resolved"


def test_skipped_and_missed_runs_say_nothing(world):
    world.check("quick", ("high", "x"))
    world.run(0)
    run = world.check("quick")
    with world.state.begin() as con:
        con.execute(tables.check_run.update().where(tables.check_run.c.run_id == run).values(status="skipped"))
    world.run(30)
    assert world.alert(MISSING)["state"] == "firing"


def test_a_run_is_counted_once_however_often_it_is_looked_at(world):
    world.check("quick", ("high", "x"))
    world.run(300)
    assert world.alert(MISSING)["occurrences"] == 1
    assert world.alert(MISSING)["last_seen_at"] == T0


def test_another_source_is_another_alert(world):
    world.check("quick", ("high", "x"))
    world.check("quick", ("high", "x"), source="other")
    world.run(0)
    assert len([a for a in world.alerts() if a["type"] == MISSING]) == 2


def test_the_tick_is_one_more_contribution_to_the_alert_of_its_check(world):
    """A-002, C-107."""
    labels: dict[str, str] = {}
    found = Finding("shop", "output_flow", "output_flow", "critical", "no output in the last hour", T0)
    world.says("output_flow", source_id="shop", labels=labels, service=None)
    world.check("full", found, check="output_flow")
    world.run(30)
    assert len([a for a in world.alerts() if a["type"] == "output_flow"]) == 1
    world.says("output_flow", condition="false", source_id="shop", labels=labels, service=None)
    world.run(60)
    assert world.alert("output_flow")["state"] == "firing", "the full run still stands"
    world.check("full", check="output_flow")
    world.run(90)
    assert world.alert("output_flow")["state"] == "resolved"


@settings(max_examples=20, deadline=None)
@given(
    results=st.lists(
        st.tuples(st.sampled_from(["quick", "full", "deep"]), st.sampled_from([None, "low", "high", "critical"])),
        max_size=6,
    ),
    together=st.booleans(),
)
def test_the_alert_follows_from_each_types_newest_result_alone(tmp_path_factory, results, together):
    """A-002, whether runs are taken in one by one or all at once."""
    from monitoring_pipelines.clock import FixedClock
    from monitoring_pipelines.severity import highest
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines_tests.alerts.conftest import World
    from monitoring_pipelines_tests.support.receiver import Receiver

    clock = FixedClock(T0)
    root = tmp_path_factory.mktemp("contributions")
    for name in ("ops.url", "ops.secret"):
        (root / name).write_text("http://127.0.0.1:9/unused")
    state = StateStore(f"sqlite:///{root}/state.sqlite3")
    world = World(root, clock, Receiver(clock), {}, state)
    newest: dict[str, str | None] = {}
    for number, (type_, severity) in enumerate(results):
        world.check(type_, *([(severity, "x")] if severity else []), at=float(number))
        newest[type_] = severity
        if not together:
            world.tick()
    world.tick()
    expected = highest(newest.values())
    alerts = [a for a in world.alerts() if a["type"] == MISSING and a["state"] != "resolved"]
    assert [a["severity"] for a in alerts] == ([expected] if expected else [])
    state.dispose()


def silence(world, start: float, end: float, **matcher: str):
    matchers = [{"name": name, "op": "=", "value": value} for name, value in matcher.items()]
    at = [T0 + timedelta(seconds=s) for s in (start, end)]
    return actions.create_silence(world.state, matchers, *at, "li", "upgrade", world.clock.now())


def test_a_silenced_alert_is_stored_sends_nothing_and_speaks_at_the_tick_after_its_end(world):
    """A-306."""
    silence(world, 0, 95, type="target.down")
    world.says()
    world.run(60)
    assert world.alert()["state"] == "silenced"
    world.run(800)
    assert world.instants == [120, 720]
    assert world.sent[0][1].startswith("[FIRING]")


def test_a_silence_that_begins_before_the_first_message_holds_it(world):
    world.says()
    world.run(5)
    silence(world, 5, 200, source="collector")
    world.run(300)
    assert world.instants == [210]
    assert [n["reason"] for n in world.notes(state="suppressed")] == ["silenced"]


def test_a_silence_between_two_messages_delays_the_repeat_to_its_end(world):
    world.says()
    world.run(100)
    silence(world, 100, 1000, alertname="target.down")
    world.run(1700)
    assert [(at, title.split()[0]) for at, title in world.sent] == [
        (10, "[FIRING]"), (1020, "[REPEAT]"), (1620, "[REPEAT]"),
    ]  # fmt: skip


def test_an_ended_silence_speaks_at_the_next_tick_and_other_alerts_are_not_held(world):
    row = silence(world, 0, 5000, target="a")
    world.says(labels={"target": "a"}, service="a")
    world.says(labels={"target": "b"}, service="b")
    world.run(100)
    assert world.sent == [(10, "[FIRING] target.down (b)")]
    actions.end_silence(world.state, row["silence_id"], world.clock.now())
    world.run(130)
    assert world.sent[1] == (120, "[FIRING] target.down (a)")


def test_an_alert_that_ends_while_silenced_sends_nothing_and_says_so(world):
    """A-306: silenced alerts send nothing, their end neither."""
    world.says()
    world.run(30)
    silence(world, 30, 5000, type="target.down")
    world.run(100)
    world.says(condition="false")
    world.run(130)
    assert [title.split()[0] for _, title in world.sent] == ["[FIRING]"]
    assert [(n["kind"], n["reason"]) for n in world.notes(state="suppressed")] == [("resolved", "silenced")]


def test_an_inhibited_alert_is_stored_and_speaks_one_tick_after_its_parent_has_ended(world):
    """A-307 with the default rules: the broker explains the collector."""
    world.says("broker", alertname="BrokerDown", service="broker", labels={"target": "nats"})
    world.says("ingest.none", labels={"process": "p"}, service="collector")
    world.run(100)
    assert world.sent == [(10, "[FIRING] BrokerDown (broker)")]
    assert world.alert("ingest.none")["state"] == "inhibited"
    assert world.alert("ingest.none")["inhibited_by"] == world.alert("broker")["alert_id"]
    world.says("broker", "false", alertname="BrokerDown", service="broker", labels={"target": "nats"})
    world.run(200)
    assert world.sent[1:] == [(120, "[RESOLVED] BrokerDown (broker)"), (150, "[FIRING] ingest.none (collector)")]


def test_a_child_that_clears_just_after_its_parent_is_never_told(world):
    for condition, until in (("true", 100), ("false", 120)):
        world.says("broker", condition, alertname="BrokerDown", service="broker", labels={"target": "nats"})
        world.says("ingest.none", "true", labels={"process": "p"}, service="collector")
        world.run(until)
    world.says("ingest.none", "false", labels={"process": "p"}, service="collector")
    world.run(400)
    assert [title for _, title in world.sent] == ["[FIRING] BrokerDown (broker)", "[RESOLVED] BrokerDown (broker)"]


def test_inhibition_needs_equal_labels_and_wins_over_a_silence(world):
    silence(world, 0, 5000, type="ingest.low")
    world.says("ingest.none", labels={"process": "p"})
    world.says("ingest.low", severity="medium", labels={"process": "p"})
    world.says("ingest.low", severity="medium", labels={"process": "q"})
    world.run(0)
    assert {(a["labels"]["process"], a["state"]) for a in world.alerts() if a["type"] == "ingest.low"} == {
        ("p", "inhibited"), ("q", "silenced"),
    }  # fmt: skip


def test_a_target_that_is_down_does_not_hide_missing_data(world):
    world.says("target.down")
    world.says("ingest.none", labels={"process": "p"})
    world.run(20)
    assert len(world.sent) == 2


def test_configured_rules_are_added_to_the_defaults(make_world):
    world = make_world(alerts="  inhibit: [{source: {type: disk.full}, target: {type: ~check\\..*}, equal: [host]}]")
    for host in "ab":
        world.says("check.x", severity="high", labels={"host": host})
    world.says("disk.full", labels={"host": "a"})
    world.says("ingest.none", labels={"process": "p"})
    world.says("ingest.low", severity="high", labels={"process": "p"})
    world.run(0)
    states = {(a["type"], a["labels"].get("host")): a["state"] for a in world.alerts()}
    assert states["check.x", "a"] == "inhibited"
    assert states["check.x", "b"] == "firing"
    assert states["ingest.low", None] == "inhibited"


def test_an_exported_life_goes_on_where_it_is_read_in(world, tmp_path, capsys):
    """S-607: timers and what carries an alert move with it, so nothing is repeated early and clean runs end it."""
    from monitoring_pipelines.cli.app import run
    from monitoring_pipelines.state import StateStore

    world.check("full", ("critical", "19 of 40"))
    world.run(100)
    config = ["--config", str(world.root / "monitoring.yaml")]
    world.config["more"] = "state: {url_file: first.url}"
    for name in ("first", "second"):
        (world.root / f"{name}.url").write_text(
            str(world.state.url) if name == "first" else f"sqlite:///{tmp_path}/second.sqlite3"
        )
    assert world.settings
    assert run([*config, "export", "state", "--output", str(tmp_path / "state.json")]) == 0
    world.config["more"] = "state: {url_file: second.url}"
    assert world.settings
    assert run([*config, "import", "state", str(tmp_path / "state.json")]) == 0
    capsys.readouterr()
    world.state.dispose()
    world.state = StateStore(f"sqlite:///{tmp_path}/second.sqlite3")
    world.run(1000)
    world.check("full")
    world.run(1100)
    assert [(at, title.split()[0]) for at, title in world.sent] == [
        (10, "[FIRING]"),
        (630, "[REPEAT]"),
        (1020, "[RESOLVED]"),
    ]
