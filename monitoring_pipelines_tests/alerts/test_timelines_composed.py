"""Timelines in which several rules of A-201 to A-504 meet, to the second."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring_pipelines.alerts import actions
from monitoring_pipelines.state import StateStore
from monitoring_pipelines_tests.alerts.conftest import T0
from monitoring_pipelines_tests.support.receiver import Receiver

FIRING, REPEAT, RESOLVED = (f"[{tag}] target.down (collector)" for tag in ("FIRING", "REPEAT", "RESOLVED"))
BAD = (500, b"", {})


def silence(world, start, end, **match):
    matchers = [{"name": name, "op": "=", "value": value} for name, value in match.items()]
    times = T0 + timedelta(seconds=start), T0 + timedelta(seconds=end)
    return actions.create_silence(world.state, matchers, *times, "li", "work", world.clock.now())


def quiet(world_start: str, world_end: str) -> str:
    return f", quiet_hours: {{start: '{world_start}', end: '{world_end}'}}"


def ack(world, type_="target.down"):
    actions.acknowledge(world.state, world.alert(type_)["alert_id"], "li", None, world.clock.now())


@pytest.mark.parametrize(
    ("for_s", "instants"),
    [(0, [10, 630, 1230]), (30, [40, 660, 1260]), (45, [70, 690]), (60, [70, 690]), (300, [310, 930])],
)
def test_for_group_wait_and_repeat_add_up(world, for_s, instants):
    world.says(for_s=for_s)
    world.run(1270)
    assert world.instants[: len(instants)] == instants


def test_memory_over_its_limit_for_five_minutes_is_a_warning_every_two_hours(world):
    world.says("resource.memory", severity="medium", for_s=300)
    world.run(15000)
    assert world.instants == [310, 7530, 14730]


def test_a_condition_that_breaks_off_one_tick_early_never_speaks(world):
    for start in (0, 330, 660):
        world.says("resource.memory", severity="medium", for_s=300)
        world.run(start + 299)
        world.says("resource.memory", "false", "medium", for_s=300)
        world.run(start + 329)
    world.run(2000)
    assert world.sent == []
    assert world.alerts() == []


def test_a_rise_before_the_first_message_is_told_once_and_at_once(make_world):
    world = make_world(group_wait="45")
    world.says(severity="medium")
    world.run(29)
    world.says(severity="critical")
    world.run(700)
    assert world.instants == [30, 630]


def test_a_rise_from_a_severity_nobody_hears_of(world):
    world.says(severity="low")
    world.run(59)
    world.says(severity="high")
    world.run(1000)
    assert world.instants == [60]
    assert [n["kind"] for n in world.notes()] == ["severity_up"]


def test_a_rise_within_a_route_is_told_and_starts_its_timer_again(world):
    world.says(severity="medium")
    world.run(59)
    world.says(severity="high")
    world.run(7300)
    assert world.instants == [10, 60, 7260]


def test_a_fall_and_a_rise_again(world):
    world.says(severity="critical")
    world.run(59)
    world.says(severity="medium")
    world.run(299)
    world.says(severity="critical")
    world.run(1000)
    assert world.instants == [10, 300, 900]


def test_a_fall_to_nobody_keeps_quiet_and_its_end_is_told(world):
    world.says(severity="critical")
    world.run(59)
    world.says(severity="low")
    world.run(2999)
    world.says("target.down", "false", "low")
    world.run(4000)
    assert world.sent == [(10, FIRING), (3000, RESOLVED)]


def test_a_fall_does_not_clear_the_acknowledgement_and_a_later_rise_does(world):
    world.says(severity="critical")
    world.run(59)
    ack(world)
    world.says(severity="medium")
    world.run(8000)
    assert world.instants == [10]
    world.says(severity="high")
    world.run(8020)
    assert world.instants == [10, 8010]
    assert world.alert()["acknowledged_at"] is None


def test_an_acknowledgement_before_the_first_message(make_world):
    """A-305 stops repeats; the first message is none."""
    world = make_world(group_wait="45")
    world.says()
    world.run(20)
    ack(world)
    world.run(1000)
    assert world.instants == [45]


def test_a_silence_that_ends_before_the_next_repeat_speaks_at_the_next_tick(world):
    """A-306: whoever silenced it hears that it still fires; the timer goes on from there."""
    world.says()
    world.run(59)
    silence(world, 60, 200, type="target.down")
    world.run(900)
    assert world.instants == [10, 210, 810]


def test_a_silence_that_ends_at_a_tick(world):
    silence(world, 0, 300, type="target.down")
    world.says()
    world.run(1000)
    assert world.instants == [300, 900]


def test_an_acknowledged_alert_stays_quiet_when_its_silence_ends(world):
    world.says()
    world.run(59)
    ack(world)
    silence(world, 60, 200, type="target.down")
    world.run(2000)
    assert world.instants == [10]


def test_two_silences_one_after_the_other(world):
    silence(world, 0, 100, type="target.down")
    silence(world, 90, 200, source="collector")
    world.says()
    world.run(900)
    assert world.instants == [210, 810 + 0]


def test_a_silence_in_the_future_does_nothing_before_it_starts(world):
    silence(world, 500, 1000, type="target.down")
    world.says()
    world.run(1700)
    assert world.instants == [10, 1020, 1620]


def broker(world, condition="true"):
    world.says("broker", condition, alertname="BrokerDown", service="broker", labels={"target": "nats"})


def child(world, condition="true", **more):
    world.says("ingest.none", condition, labels={"process": "p"}, service="collector", **more)


CHILD = "[FIRING] ingest.none (collector)"


def test_a_child_that_was_told_before_its_parent_speaks_at_the_tick_after_the_parents_end(world):
    child(world)
    world.run(59)
    broker(world)
    world.run(119)
    broker(world, "false")
    world.run(200)
    assert [(at, title.split()[1]) for at, title in world.sent] == [
        (10, "ingest.none"), (70, "BrokerDown"), (120, "BrokerDown"), (150, "ingest.none"),
    ]  # fmt: skip


def test_a_parent_that_is_only_pending_hides_nothing(world):
    world.says("broker", alertname="BrokerDown", service="broker", labels={"target": "nats"}, for_s=120)
    child(world)
    world.run(100)
    assert world.sent == [(10, CHILD)]


def test_a_silenced_parent_still_hides_its_children(world):
    silence(world, 0, 5000, alertname="BrokerDown")
    broker(world)
    child(world)
    world.run(700)
    assert world.sent == []


@pytest.mark.parametrize(
    ("parent", "target", "hidden"),
    [
        ("BrokerDown", "hot-storage", True), ("BrokerDown", "cold-storage", True), ("BrokerDown", "collector", True),
        ("BrokerDown", "api", False), ("ClickHouseHotDown", "hot-storage", True), ("ClickHouseHotDown", "cold-storage", False),
        ("ClickHouseColdDown", "cold-storage", True), ("ClickHouseColdDown", "collector", False),
    ],
)  # fmt: skip
def test_default_inhibition_by_name_and_service(world, parent, target, hidden):
    world.says("x", alertname=parent, service="infra")
    world.says("y", service=target)
    world.run(20)
    assert (f"[FIRING] y ({target})" in [title for _, title in world.sent]) is not hidden


@pytest.mark.parametrize(
    ("parent", "target"),
    [
        ("ingest.none", "ingest.low"),
        ("tasks.failure_rate", "tasks.success_rate"),
        ("monitoring_error", "self.extract_lag"),
    ],
)
def test_default_inhibition_by_type(world, parent, target):
    labels = {"process": "p"} if parent.startswith("ingest") else {}
    world.says(parent, severity="high", labels=labels, service=None)
    world.says(target, severity="high", labels=labels, service=None)
    world.says(target, severity="high", labels=labels, source_id="elsewhere", service=None)
    world.run(20)
    assert [title for _, title in world.sent] == [f"[FIRING] {parent} (collector)", f"[FIRING] {target} (elsewhere)"]


def test_both_fire_at_once_and_the_child_clears_first(world):
    broker(world)
    child(world)
    world.run(59)
    child(world, "false")
    world.run(89)
    broker(world, "false")
    world.run(400)
    assert [at for at, _ in world.sent] == [10, 90]


def test_quiet_hours_hold_a_repeat_and_its_timer_goes_on_from_their_end(make_world):
    """14:10 to 14:30 local is 600 to 1800."""
    world = make_world(ops=quiet("14:10", "14:30"), repeat="600")
    world.says(severity="medium")
    world.run(2500)
    assert world.sent == [(10, FIRING), (1800, REPEAT), (2400, REPEAT)]


def test_an_end_in_quiet_hours_of_an_alert_that_was_told_before_waits_for_their_end(make_world):
    world = make_world(ops=quiet("14:10", "14:30"))
    world.says(severity="medium")
    world.run(899)
    world.says(condition="false", severity="medium")
    world.run(2500)
    assert world.sent == [(10, FIRING), (1800, RESOLVED)]


def test_a_rise_to_critical_in_quiet_hours_is_told_at_once_and_once(make_world):
    world = make_world(ops=quiet("14:00", "14:30"))
    world.says(severity="medium")
    world.run(299)
    world.says(severity="critical")
    world.run(2200)
    assert world.instants == [300, 900, 1500, 2100]


def test_a_critical_end_ignores_quiet_hours(make_world):
    world = make_world(ops=quiet("14:00", "14:30"))
    world.says()
    world.run(119)
    world.says(condition="false")
    world.run(2000)
    assert world.sent == [(10, FIRING), (120, RESOLVED)]


def test_what_waited_for_the_end_of_quiet_hours_is_one_message_per_group(make_world):
    """A-301: a message contains all due alerts of one group."""
    world = make_world(ops=quiet("14:00", "14:30"))
    for n in range(4):
        world.says(severity="medium", labels={"target": str(n)})
        world.run(n * 120 + 119)
    world.says("disk", severity="high", service="db")
    world.run(2000)
    assert sorted(world.sent) == [(1800, "[FIRING] disk (db)"), (1800, FIRING + " ×4")]
    assert {n["state"] for n in world.notes()} == {"sent"}


def test_a_repeat_and_a_first_message_that_waited_together_are_one_message(make_world):
    world = make_world(ops=quiet("14:10", "14:30"), repeat="600")
    world.says(severity="medium", labels={"target": "a"})
    world.run(899)
    world.says(severity="medium", labels={"target": "b"})
    world.run(2000)
    assert world.sent == [(10, FIRING), (1800, FIRING + " ×2")]


def test_ends_that_waited_for_the_end_of_quiet_hours_are_one_message(make_world):
    world = make_world(ops=quiet("14:10", "14:30"))
    for n in "ab":
        world.says(severity="medium", labels={"target": n})
    world.run(899)
    for n in "ab":
        world.says(condition="false", severity="medium", labels={"target": n})
        world.run(world.now + 60)
    world.run(2000)
    assert world.sent == [(10, FIRING + " ×2"), (1800, RESOLVED + " ×2")]


def test_a_message_at_exactly_the_start_of_quiet_hours_waits(make_world):
    """14:00:30 is a tick; the second alert's message is due at 14:01:00 = the start."""
    world = make_world(ops=quiet("14:01", "14:05"), group_wait="30")
    world.says(severity="medium", service="a", labels={"target": "a"})
    world.run(29)
    world.says(severity="medium", service="b", labels={"target": "b"})
    world.run(400)
    assert world.sent == [(30, "[FIRING] target.down (a)"), (300, "[FIRING] target.down (b)")]


def test_a_silence_over_the_end_of_quiet_hours(make_world):
    world = make_world(ops=quiet("14:00", "14:10"))
    world.says(severity="medium")
    world.run(300)
    silence(world, 300, 900, type="target.down")
    world.run(1000)
    assert world.sent == [(900, FIRING)]


def test_an_acknowledgement_in_quiet_hours_stops_the_message_about_it(make_world):
    """The first message still goes out: A-305 stops repeats only."""
    world = make_world(ops=quiet("14:00", "14:10"))
    world.says(severity="medium")
    world.run(300)
    ack(world)
    world.run(8000)
    assert world.sent == [(600, FIRING)]


def test_twenty_posts_a_minute_and_the_last_one_names_the_rest(world):
    for n in range(25):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.run(29)
    assert [at for at, _ in world.sent] == [10] * 20
    assert world.sent[19][1].startswith("[DIGEST] 6 alerts")
    world.says(labels={"target": "late"}, service="late")
    world.run(100)
    assert world.sent[20:] == [(70, "[FIRING] target.down (late)")]


def test_repeats_of_a_digest_follow_from_the_instant_of_the_digest(world):
    for n in range(25):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.run(700)
    assert world.instants == [10] * 20 + [630] * 20


def test_ends_of_alerts_told_by_a_digest_are_told(world):
    for n in range(25):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.run(119)
    for n in (3, 24):
        world.says(condition="false", labels={"target": str(n)}, service=f"s{n}")
    world.run(200)
    assert sorted(world.sent[20:]) == [(120, "[RESOLVED] target.down (s24)"), (120, "[RESOLVED] target.down (s3)")]


def test_abandoned_after_110_minutes_and_the_next_repeat_an_interval_later(world):
    """A-501: attempts at 10, 310, 1210, 3010, 6610 s."""
    world.ops.answer = lambda got: BAD
    world.says()
    world.run(7229)
    assert world.instants == [10, 310, 1210, 3010, 6610]
    world.ops.answer = lambda got: (200, b'{"errcode":0}', {})
    world.run(8000)
    assert world.sent[5:] == [(7230, REPEAT), (7830, REPEAT)]


def test_a_retry_that_arrives_starts_the_timer(world):
    world.ops.answer = lambda got: BAD if len(world.ops.requests) < 2 else (200, b'{"errcode":0}', {})
    world.says()
    world.run(1000)
    assert world.instants == [10, 310, 930]


def test_a_repeat_in_retry_and_an_end_meanwhile(world):
    """The receiver heard of it once, so it hears of the end."""
    world.says()
    world.run(629)
    world.ops.answer = lambda got: BAD
    world.run(700)
    world.ops.answer = lambda got: (200, b'{"errcode":0}', {})
    world.says(condition="false")
    world.run(2000)
    assert world.sent == [(10, FIRING), (630, REPEAT), (720, RESOLVED)]


def test_a_rise_while_the_first_message_is_in_retry(world):
    """A-303: at once; the message in retry is not repeated beside it."""
    world.ops.answer = lambda got: BAD if len(world.ops.requests) < 2 else (200, b'{"errcode":0}', {})
    world.says(severity="medium")
    world.run(119)
    world.says(severity="critical")
    world.run(1000)
    assert world.instants == [10, 120, 720]


def test_each_channel_keeps_its_own_timer(make_world, clock):
    with Receiver(clock) as second:
        world = make_world(critical="ops, two", more="  - {id: two, type: webhook, webhook_file: two.url}")
        (world.root / "two.url").write_text(second.url)
        second.answer = lambda got: (503, b"", {}) if len(second.requests) < 3 else (200, b"", {})
        world.says()
        world.run(1300)
        assert world.instants == [10, 630, 1230]
        assert [(r.at - T0).total_seconds() for r in second.requests] == [10, 310, 1210]


def test_alerts_of_one_group_that_end_together_are_one_message(world):
    for n in "ab":
        world.says(labels={"target": n})
    world.run(59)
    for n in "ab":
        world.says(condition="false", labels={"target": n})
    world.run(200)
    assert world.sent == [(10, FIRING + " ×2"), (60, RESOLVED + " ×2")]


def test_the_second_occurrence_speaks_after_its_own_group_wait(world):
    world.says(severity="medium")
    world.run(59)
    world.says(condition="false", severity="medium")
    world.run(299)
    world.says(severity="medium")
    world.run(400)
    assert world.sent == [(10, FIRING), (60, RESOLVED), (310, FIRING)]


@pytest.mark.parametrize("every", [1, 7])
def test_a_restart_at_any_tick_changes_no_instant(world, every):
    world.says(severity="high", for_s=60)
    world.says("x", service="y")
    for tick in range(0, 100, every):
        world.run(tick * 30 + 15)
        world.state.dispose()
        world.state = StateStore(str(world.state.url))
    world.run(3015)
    assert world.sent == [(10, "[FIRING] x (y)"), (70, FIRING)] + [(630 + 600 * n, "[REPEAT] x (y)") for n in range(4)]


def test_downtime_over_a_repeat_speaks_at_the_first_tick_after_it(world):
    world.says()
    world.run(300)
    world.clock.instant = T0 + timedelta(seconds=5003)
    world.ticked = 5003
    world.tick()
    world.run(5700)
    assert world.instants == [10, 5003, 5603]


def test_downtime_before_the_first_message_loses_nothing(world):
    world.says()
    world.run(5)
    world.clock.instant = T0 + timedelta(seconds=4000)
    world.ticked = 3990
    world.run(4700)
    assert world.instants == [4000, 4620]


def test_checks_rise_fall_and_end_by_their_types(world):
    """A-002, A-303: quick medium, full critical, quick clean, full high, full clean."""
    world.check("quick", ("medium", "37 of 40"), at=0)
    world.run(899)
    world.check("full", ("critical", "19 of 40"), at=899)
    world.run(1000)
    world.check("quick", at=1000)
    world.run(1799)
    world.check("full", ("high", "31 of 40"), at=1799)
    world.run(4000)
    world.check("full", at=4000)
    world.run(9000)
    kinds = [(n["kind"], (n["sent_at"] - T0).total_seconds()) for n in world.notes()]
    assert kinds == [("firing", 10), ("severity_up", 900), ("repeat", 1500), ("resolved", 4020)]


def test_a_silence_by_expression_over_labels(world):
    actions.create_silence(
        world.state, [{"name": "target", "op": "=~", "value": "a|b"}, {"name": "source", "op": "=", "value": "collector"}],
        T0, T0 + timedelta(hours=1), "li", None, world.clock.now(),
    )  # fmt: skip
    for n in ("a", "b", "ab"):
        world.says(labels={"target": n}, service=n)
    world.run(100)
    assert world.sent == [(10, "[FIRING] target.down (ab)")]
