"""Instants of messages, to the second, under a clock that the test moves (A-2xx, A-3xx)."""

from __future__ import annotations

from monitoring_pipelines.alerts import actions
from monitoring_pipelines.state import tables
from monitoring_pipelines_tests.alerts.conftest import T0
from monitoring_pipelines_tests.support.receiver import Receiver

FIRING, REPEAT, RESOLVED = (f"[{tag}] target.down (collector)" for tag in ("FIRING", "REPEAT", "RESOLVED"))


def test_critical_speaks_after_the_group_wait_and_then_at_the_first_tick_after_each_interval(world):
    """A-302: 10, 630, 1230, 1830 s."""
    world.says()
    world.run(1900)
    assert world.sent == [(10, FIRING), (630, REPEAT), (1230, REPEAT), (1830, REPEAT)]


def test_warning_repeats_after_two_hours(world):
    world.says(severity="medium")
    world.run(7300)
    assert world.instants == [10, 7230]


def test_group_wait_zero_sends_at_once(make_world):
    world = make_world(group_wait="0")
    world.says()
    world.run(700)
    assert world.instants == [0, 600]


def test_low_and_info_are_stored_only(world):
    world.says(severity="low")
    world.says("leak.trend", severity="info")
    world.run(1000)
    assert world.sent == []
    assert world.notes() == []
    assert {row["state"] for row in world.alerts()} == {"firing"}


def test_for_counts_from_the_first_true_evaluation_and_a_false_one_starts_over(world):
    """A-201."""
    world.says(for_s=90)
    world.run(60)
    world.says(condition="false", for_s=90)
    world.run(90)
    world.says(for_s=90)
    world.run(300)
    assert world.sent == [(220, FIRING)]  # true again at 120, firing at 210
    assert [event[1:] for event in world.history() if event[0] == "transition"] == [
        ("inactive", "pending"), ("pending", "inactive"), ("inactive", "pending"), ("pending", "firing"),
    ]  # fmt: skip
    assert len(world.alerts()) == 1, "a pending alert that ends leaves only its history"


def test_an_answer_that_is_none_neither_fires_nor_resolves(world):
    """C-440, C-451, A-202."""
    world.says(for_s=60)
    world.run(30)
    for word in ("not_measurable", "insufficient_data", "error"):
        world.says(condition=word, for_s=60)
        world.run(world.now + 60)
    assert world.alert()["state"] == "pending"
    world.says(for_s=60)
    world.run(240)
    assert world.alert()["state"] == "firing"
    world.says(condition="not_measurable")
    world.run(600)
    world.forgets()
    world.run(900)
    assert world.alert()["state"] == "firing"
    assert world.instants == [250, 870]


def test_resolution_is_told_once_at_once_and_nothing_follows(world):
    """A-304."""
    world.says()
    world.run(100)
    world.says(condition="false")
    world.run(3000)
    assert world.sent == [(10, FIRING), (120, RESOLVED)]
    assert world.alert()["state"] == "resolved"


def test_what_was_never_told_is_not_resolved_either(world):
    world.says(severity="low")
    world.run(100)
    world.says(condition="false", severity="low")
    world.run(1000)
    assert world.sent == []


def test_an_alert_that_ends_before_its_first_message_sends_nothing(make_world):
    world = make_world(group_wait="45")
    world.says()
    world.run(15)
    world.says(condition="false")
    world.run(1000)
    assert world.sent == []
    assert [(n["state"], n["reason"]) for n in world.notes()] == [("suppressed", "resolved_before_delivery")]


def test_a_new_occurrence_is_a_new_alert_with_the_same_fingerprint(world):
    """A-203."""
    for condition, until in (("true", 60), ("false", 100), ("true", 200)):
        world.says(condition=condition)
        world.run(until)
    first, second = world.alerts()
    assert first["fingerprint"] == second["fingerprint"]
    assert (first["state"], second["state"]) == ("resolved", "firing")
    assert world.sent == [(10, FIRING), (90, RESOLVED), (130, FIRING)]


def test_acknowledged_alerts_do_not_repeat_are_listed_and_tell_their_end(world):
    """A-305, A-304."""
    world.says()
    world.run(60)
    actions.acknowledge(world.state, world.alert()["alert_id"], "li", "on it", world.clock.now())
    world.run(2000)
    assert world.instants == [10]
    assert world.alert()["state"] == "firing"
    world.says(condition="false")
    world.run(2100)
    assert world.sent == [(10, FIRING), (2010, RESOLVED)]


def test_withdrawn_acknowledgement_repeats_at_the_next_tick(world):
    world.says()
    world.run(60)
    alert_id = world.alert()["alert_id"]
    actions.acknowledge(world.state, alert_id, "li", None, world.clock.now())
    world.run(1000)
    actions.withdraw_acknowledgement(world.state, alert_id, "li", world.clock.now())
    world.run(1100)
    assert world.instants == [10, 1020]


def test_a_rise_is_told_at_once_clears_the_acknowledgement_and_starts_the_new_timer(world):
    """A-303."""
    world.says(severity="high")
    world.run(100)
    actions.acknowledge(world.state, world.alert()["alert_id"], "li", None, world.clock.now())
    world.run(300)
    world.says(severity="critical")
    world.run(1600)
    assert world.sent == [(10, FIRING), (330, FIRING), (930, REPEAT), (1530, REPEAT)]
    assert world.alert()["acknowledged_at"] is None
    assert [n["kind"] for n in world.notes()] == ["firing", "severity_up", "repeat", "repeat"]


def test_a_fall_waits_for_the_milder_routes_interval_since_the_last_message(make_world):
    """A-303."""
    world = make_world(repeat="1500")
    world.says(severity="critical")
    world.run(100)
    world.says(severity="medium")
    world.run(1600)
    assert world.instants == [10, 1530]


def test_a_fall_to_another_receiver_waits_too(make_world, clock):
    with Receiver(clock) as mild:
        world = make_world(warning="mild", repeat="1500", more="  - {id: mild, type: webhook, webhook_file: mild.url}")
        (world.root / "mild.url").write_text(mild.url)
        world.says(severity="critical")
        world.run(100)
        world.says(severity="high")
        world.run(1600)
        assert world.instants == [10]
        assert [(r.at - T0).total_seconds() for r in mild.requests] == [1530]


def test_alerts_of_one_group_share_a_message_and_newcomers_wait_for_the_group_interval(make_world):
    """A-301."""
    world = make_world(group_wait="5")
    world.says(labels={"target": "a"})
    world.says(labels={"target": "b"})
    world.run(29)
    assert world.sent == [(5, FIRING + " ×2")]
    world.says(severity="medium", labels={"target": "c"})
    world.says(severity="medium", labels={"target": "c", "process": "1"})
    world.run(31)
    world.says(severity="medium", labels={"target": "d"})
    world.run(200)
    assert world.sent[1:] == [(35, FIRING + " ×2"), (95, FIRING)], "warning: 60 s after the group's last message"


def test_a_group_that_waits_takes_newcomers_along(make_world):
    world = make_world(group_wait="45")
    world.says(labels={"target": "a"})
    world.run(20)
    world.says(labels={"target": "b"})
    world.run(100)
    assert world.sent == [(45, FIRING + " ×2")]


def test_each_alert_of_a_group_keeps_its_own_timer(make_world):
    world = make_world(group_wait="0")
    world.says(labels={"target": "a"})
    world.run(100)
    world.says(labels={"target": "b"})
    world.run(750)
    assert world.instants == [0, 120, 600, 720]


def test_other_groups_do_not_wait(world):
    world.says(labels={"target": "a"})
    world.run(29)
    world.says(labels={"target": "b"}, service="other")
    world.run(100)
    assert world.sent == [(10, FIRING), (40, "[FIRING] target.down (other)")]


def test_null_route_fires_and_is_never_shown_as_sent(make_world):
    """A-308."""
    world = make_world(ops=", enabled: false")
    world.says()
    world.run(2000)
    (row,) = world.notes()
    assert (row["state"], row["reason"], row["kind"]) == ("suppressed", "no_receiver", "firing")
    assert world.alert()["state"] == "firing"
    assert {a["message"] for a in world.alerts() if a["type"] == "self.config"} == {
        "nobody hears of critical alerts: the route critical has no receiver",
        "nobody hears of high, medium alerts: the route warning has no receiver",
    }
    world.config["ops"] = ""
    world.run(2100)
    assert world.sent[0] == (2010, FIRING), "a receiver that comes later still hears"
    assert {a["state"] for a in world.alerts() if a["type"] == "self.config"} == {"resolved"}


def test_flapping_speaks_once_per_repeat_interval(world):
    """From the fifth occurrence within half an hour on, it is one problem."""
    for n in range(20):
        world.says(condition="false" if n % 2 else "true")
        world.run(60 * n + 59)
    assert [title for _, title in world.sent] == [*[FIRING, RESOLVED] * 4, REPEAT, RESOLVED]
    assert world.instants[-3:] == [420, 990, 1020], "the timer of the last message, at 370, goes on"
    assert len(world.notes(reason="flapping")) == 6
    world.says()
    world.run(1900)
    assert world.sent[10:] == [(1590, REPEAT)]


def test_history_names_every_step(world):
    """A-204."""
    world.says(for_s=30)
    world.run(60)
    world.says(condition="false")
    world.run(100)
    assert world.history(world.alert()["alert_id"]) == [
        ("transition", "inactive", "pending"), ("transition", "pending", "firing"), ("message", "firing", "firing"),
        ("message", "firing", "firing"), ("transition", "firing", "resolved"), ("message", "resolved", "resolved"),
    ]  # fmt: skip


def test_ticks_move_last_seen_and_value_and_count_nothing(world):
    world.says(value=1.0)
    world.run(60)
    world.says(value=2.0)
    world.run(90)
    row = world.alert()
    assert (row["value"], row["occurrences"]) == (2.0, 1)
    assert (row["last_seen_at"] - row["active_at"]).total_seconds() == 90
    assert len(world.rows(tables.alert_event)) == 3, "fired, recorded, told"
