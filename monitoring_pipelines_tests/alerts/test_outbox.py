"""Delivery: retries (A-501), quiet hours (A-502), rates and digests (A-503), leases (A-403), tests (A-504)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from monitoring_pipelines.alerts import outbox, testing
from monitoring_pipelines.alerts.claims import quiet_until
from monitoring_pipelines.config.schema_alerts import QuietHours
from monitoring_pipelines.state import tables
from monitoring_pipelines_tests.alerts.conftest import T0

MIN = 60
BAD = (200, b'{"errcode":310000,"errmsg":"sign not match"}', {})


def attempts(world, channel: str = "ops") -> list[float]:
    rows = world.rows(tables.notification_attempt, "at")
    return [(row["at"] - T0).total_seconds() for row in rows if row["channel"] == channel]


def test_five_attempts_and_then_abandoned(world):
    """A-501: 0, 5, 20, 50, 110 minutes after the first."""
    world.ops.answer = lambda _: BAD
    world.says(severity="high")
    world.run(110 * MIN + 10)
    assert attempts(world) == [10 + m * MIN for m in (0, 5, 20, 50, 110)]
    (row,) = world.notes()
    assert (row["state"], row["attempts"], row["provider_code"]) == ("abandoned", 5, "310000")
    assert "sign not match" in row["error"]
    assert world.alert()["state"] == "firing"


def test_no_repeat_while_a_message_is_in_retry_and_the_next_one_an_interval_after_the_last_attempt(world):
    """A-501."""
    world.ops.answer = lambda _: BAD
    world.says()
    world.run(110 * MIN + 10)
    assert len(attempts(world)) == 5
    world.run(120 * MIN + 60)
    assert attempts(world)[5:] == [120 * MIN + 30], "the first tick 600 s after 110 min 10 s"


def test_a_retry_carries_the_current_content_and_starts_the_timer(world):
    world.ops.answer = lambda _: BAD if len(world.ops.requests) == 1 else (200, b'{"errcode":0}', {})
    world.says(message="first words")
    world.run(60)
    world.says(message="newer words")
    world.run(1000)
    assert "newer words" in world.ops.requests[1].json["markdown"]["text"]
    assert world.instants == [10, 310, 930]


def test_an_alert_that_ends_in_retry_is_not_told_at_all(world):
    world.ops.answer = lambda _: BAD
    world.says()
    world.run(60)
    world.says(condition="false")
    world.run(2000)
    assert attempts(world) == [10]
    assert [(n["state"], n["reason"]) for n in world.notes()] == [("suppressed", "resolved_before_delivery")]


def test_a_resolution_is_retried_until_it_arrives_and_sent_once(world):
    world.says()
    world.run(60)
    world.ops.answer = lambda _: (503, b"", {}) if len(world.ops.requests) < 4 else (200, b'{"errcode":0}', {})
    world.says(condition="false")
    world.run(3000)
    assert world.instants == [10, 90, 90 + 5 * MIN, 90 + 20 * MIN]
    assert [(n["kind"], n["state"]) for n in world.notes()] == [("firing", "sent"), ("resolved", "sent")]


def test_one_broken_channel_does_not_hold_another(make_world, clock):
    from monitoring_pipelines_tests.support.receiver import Receiver

    with Receiver(clock, answer=lambda _: (500, b"", {})) as second:
        world = make_world(critical="ops, second", more="  - {id: second, type: webhook, webhook_file: second.url}")
        (world.root / "second.url").write_text(second.url)
        world.says()
        world.run(700)
        assert world.instants == [10, 630]
        assert attempts(world, "second") == [10, 310]


def test_two_dispatchers_do_not_send_twice_and_a_dead_ones_message_is_sent_later(world):
    """A-403."""
    from monitoring_pipelines.alerts import claims

    world.says()
    world.tick()
    world.clock.advance(10)
    with world.state.begin() as con:
        claimed = claims.claim(con, world.settings, "ops", world.clock.now(), "the one that dies")
    assert claimed is not None
    outbox.dispatch(world.settings, world.state, world.clock)
    assert world.sent == []
    world.clock.advance(60)
    outbox.dispatch(world.settings, world.state, world.clock)
    assert world.instants == [70]


def test_an_alert_that_ends_while_its_message_is_posted_is_resolved_afterwards(world):
    """A-304: the receiver has heard of it, so it hears of the end."""

    def end_it(_):
        if len(world.ops.requests) == 1:
            world.says(condition="false")
            world.tick()
        return 200, b'{"errcode":0}', {}

    world.ops.answer = end_it
    world.says()
    world.run(200)
    assert [title.split()[0] for _, title in world.sent] == ["[FIRING]", "[RESOLVED]"]


QUIET = ", quiet_hours: {start: '22:00', end: '08:00'}"  # 14:00 to 00:00 UTC


def at(world, text: str) -> float:
    return (datetime.fromisoformat(text) - T0).total_seconds()


def test_quiet_hours_defer_to_their_end_and_critical_ignores_them(make_world):
    """A-502; the clock starts at 06:00 UTC = 14:00 local."""
    world = make_world(ops=QUIET)
    world.clock.instant = datetime(2026, 2, 1, 14, 0, 0)
    world.says(severity="high", service="a")
    world.says("other", service="b")
    world.run(at(world, "2026-02-01T14:05:00"))
    assert [title for _, title in world.sent] == ["[FIRING] other (b)"]
    world.says("other", condition="false", service="b")
    world.run(at(world, "2026-02-01T14:06:00"))
    world.forgets()
    world.clock.instant = datetime(2026, 2, 1, 23, 59, 30)
    world.run(at(world, "2026-02-02T00:01:00"))
    assert world.sent[2:] == [(at(world, "2026-02-02T00:00:00"), "[FIRING] target.down (a)")]


def test_both_messages_of_an_alert_that_ends_in_quiet_hours_are_suppressed(make_world):
    world = make_world(ops=QUIET)
    world.clock.instant = datetime(2026, 2, 1, 15, 0, 0)
    world.says(severity="high")
    world.run(world.now + 60)
    world.says(severity="high", condition="false")
    world.run(world.now + 60)
    assert world.sent == []
    assert [(n["kind"], n["state"], n["reason"]) for n in world.notes()] == [
        ("firing", "suppressed", "resolved_in_quiet_hours"), ("resolved", "suppressed", "resolved_in_quiet_hours"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "end", "local", "expected"),
    [
        ("22:00", "08:00", "21:59:59", None),
        ("22:00", "08:00", "22:00:00", "2026-02-02T08:00"),
        ("22:00", "08:00", "03:00:00", "2026-02-01T08:00"),
        ("22:00", "08:00", "08:00:00", None),
        ("12:00", "13:00", "12:00:00", "2026-02-01T13:00"),
        ("12:00", "13:00", "13:00:00", None),
    ],
)
def test_quiet_hours_include_their_start_and_not_their_end(start, end, local, expected):
    now = datetime.fromisoformat(f"2026-02-01T{local}") - timedelta(hours=8)
    found = quiet_until(QuietHours(start=start, end=end), now, "Asia/Shanghai")
    assert found == (datetime.fromisoformat(expected) - timedelta(hours=8) if expected else None)


def test_the_last_free_slot_carries_a_digest_of_all_that_wait(make_world):
    """A-503."""
    world = make_world(group_wait="0", ops=", per_minute: 5")
    for n in range(8):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.run(0)
    titles = [title for _, title in world.sent]
    assert len(titles) == 5
    assert titles[4] == "[DIGEST] 4 alerts in one message"
    text = world.ops.requests[4].json["markdown"]["text"]
    assert sum(f"(s{n})" in text for n in range(8)) == 4
    digest = world.notes(kind="digest")[0]
    assert {n["via_digest"] for n in world.notes(kind="firing") if n["via_digest"]} == {digest["notification_id"]}
    assert {n["state"] for n in world.notes()} == {"sent"}
    assert not [row for row in world.rows(tables.alert_channel) if row["notified_at"] is None]


def test_without_a_free_slot_the_next_one_to_become_free_carries_the_digest(make_world):
    world = make_world(group_wait="0", ops=", per_minute: 3")
    for n in range(3):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.run(20)
    for n in range(3, 6):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.run(100)
    assert world.instants == [0, 0, 0, 60]
    assert world.sent[3][1].startswith("[DIGEST] 3 alerts")


def test_no_minute_ever_has_more_posts_than_the_channel_allows(make_world):
    world = make_world(group_wait="0", ops=", per_minute: 4")
    for step in range(12):
        for n in range(step * 3, step * 3 + 3):
            world.says(labels={"target": str(n)}, service=f"s{n}")
        world.run(step * 20 + 19)
    posts = world.instants
    assert max(sum(1 for b in posts if a <= b < a + 60) for a in posts) <= 4
    assert {n["state"] for n in world.notes()} <= {"sent", "pending"}
    world.run(400)
    assert {n["state"] for n in world.notes()} == {"sent"}


def test_a_digest_that_fails_is_retried_with_its_messages(make_world):
    world = make_world(group_wait="0", ops=", per_minute: 1")
    world.ops.answer = lambda got: BAD if len(world.ops.requests) < 2 else (200, b'{"errcode":0}', {})
    for n in range(3):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.run(290)
    assert world.instants == [0]
    assert {n["state"] for n in world.notes(kind="firing")} == {"pending"}
    world.says(condition="false", labels={"target": "2"}, service="s2")
    world.run(310)
    assert world.instants == [0, 300]
    assert world.sent[1][1].startswith("[DIGEST] 2 alerts")
    assert sorted((n["state"], n["reason"]) for n in world.notes(kind="firing")) == [
        ("sent", None), ("sent", None), ("suppressed", "resolved_before_delivery"),
    ]  # fmt: skip


def test_a_test_message_takes_the_real_path_and_changes_no_alert(world):
    """A-504."""
    world.says()
    world.run(60)
    before = (world.alerts(), world.rows(tables.alert_channel))
    (row,) = testing.send_test(world.settings, world.state, world.clock, message="hello")
    assert (row["state"], row["kind"], row["alert_ids"]) == ("sent", "test", [])
    assert row["latency_ms"] > 0
    assert world.sent[-1] == (60, "[TEST] Test alert")
    assert (world.alerts(), world.rows(tables.alert_channel)) == before
    world.run(700)
    assert world.instants == [10, 60, 630]


def test_a_drill_runs_the_whole_life_cycle(world):
    from monitoring_pipelines.alerts.drills import start_drill

    start_drill(world.state, "target.down", world.clock.now(), 100, None, "li")
    world.run(300)
    assert world.sent == [(10, "[FIRING] CollectorTargetDown (drill)"), (120, "[RESOLVED] CollectorTargetDown (drill)")]
    assert "drill" in world.ops.requests[0].json["markdown"]["text"]
    row = world.alert("target.down")
    assert (row["is_drill"], row["labels"], row["state"]) == (True, {"drill": "true"}, "resolved")


def test_every_critical_firing_leaves_a_file(world):
    """S-503."""
    world.says(service="a")
    world.says("other", severity="high", service="b")
    world.run(30)
    world.says("other", severity="critical", service="b")
    world.run(60)
    files = sorted(path.name for path in (world.root / "logs" / "alerts").iterdir())
    first, second = world.alert("target.down"), world.alert("other")
    assert files == [
        f"critical_alert_20260201T060000Z_{first['alert_id']}.json",
        f"critical_alert_20260201T060100Z_{second['alert_id']}.json",
    ]
    content = json.loads((world.root / "logs" / "alerts" / files[0]).read_text())
    assert (content["alert_id"], content["severity"], content["fired_at"]) == (
        first["alert_id"], "critical", "2026-02-01T06:00:00.000000Z",
    )  # fmt: skip


def test_messages_of_a_channel_that_was_removed_do_not_wait_for_ever(world):
    world.says()
    world.tick()
    world.ticked = 0
    world.config["ops"] = ", enabled: false"
    world.run(60)
    assert [n["reason"] for n in world.notes() if n["channel"] == "ops"] == ["channel_removed"]
    world.config["ops"] = ""
    world.run(120)
    assert len(world.sent) == 1
