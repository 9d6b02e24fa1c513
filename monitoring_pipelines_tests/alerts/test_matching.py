"""Matchers, routes and what people may ask for (A-306, A-308, S-242, S-606)."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from sqlalchemy import insert

from monitoring_pipelines.alerts import actions, routing
from monitoring_pipelines.alerts.matching import matches, parse_matcher, read_matchers
from monitoring_pipelines.cli.app import run
from monitoring_pipelines.config.schema_alerts import InhibitRule
from monitoring_pipelines.errors import Refused, UsageError
from monitoring_pipelines.state import alerts as stored
from monitoring_pipelines.state import tables
from monitoring_pipelines_tests.alerts.conftest import T0

ALERT = {"type": "target.down", "alertname": "Down", "source_id": "shop", "service": None, "severity": "high",
         "labels": {"target": "api-1"}}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=target.down", True),
        ("type = other", False),
        ("source!=other", True),
        ("target=~api-.*", True),
        ("target=~api", False),
        ("target!~web.*", True),
        ("missing=", True),
        ("missing=x", False),
        ("service=", True),
        ("severity=~high|critical", True),
    ],
)
def test_matchers_compare_whole_values_and_a_missing_label_is_empty(text, expected):
    assert matches(ALERT, [parse_matcher(text)]) is expected


@pytest.mark.parametrize(
    "items", [[], "x", [{}], [{"name": "a"}], [{"name": "a", "op": "<", "value": "1"}], [{"name": "a", "value": 1}],
              [{"name": "a", "op": "=~", "value": "("}], [{"name": "a", "value": "b", "more": 1}]]
)  # fmt: skip
def test_broken_matchers_are_refused(items):
    with pytest.raises(UsageError):
        read_matchers(items)


def test_a_pattern_is_matched_in_time_that_grows_with_the_text_only():
    alert = ALERT | {"labels": {"target": "a" * 5000 + "!"}}
    began = time.process_time()
    for pattern in ("(a+)+$", "(a|aa)+$", "(.*a){20}", "a?" * 200 + "a" * 200):
        assert not matches(alert, [parse_matcher(f"target=~{pattern}")]), pattern
    assert time.process_time() - began < 5, "Python's own engine needs longer than the universe is old"


@pytest.mark.parametrize("pattern", ["(", "(?=a)a", r"(a)\1", "a{5000}", "\ud800"])
def test_what_cannot_be_matched_in_such_a_time_is_no_pattern(pattern):
    with pytest.raises(UsageError, match="is no pattern"):
        read_matchers([{"name": "type", "op": "=~", "value": pattern}])
    with pytest.raises(ValueError, match="is no pattern"):
        InhibitRule(source={"type": "~" + pattern}, target={"type": "x"})


def test_a_stored_silence_that_cannot_be_read_holds_back_neither_alerts_nor_other_silences(world):
    now = world.clock.now()
    row = {"starts_at": now, "ends_at": now + timedelta(hours=1), "creator": "li", "created_at": now}
    broken = [[{"name": "type", "op": "=~", "value": "(?=t)target.*"}], [], {"type": "x"}]
    with world.state.begin() as con:
        for number, matchers in enumerate(broken):
            con.execute(insert(tables.silence).values(row | {"silence_id": str(number), "matchers": matchers}))
    world.says()
    world.run(20)
    assert world.alert()["state"] == "firing"
    actions.create_silence(
        world.state, [{"name": "type", "op": "=~", "value": "target.*"}], now, now + timedelta(hours=1), "li", None, now
    )
    world.run(60)
    assert world.alert()["state"] == "silenced"


def test_silences_need_a_future(world):
    now = world.clock.now()
    matcher = [{"name": "type", "op": "=", "value": "x"}]
    for start, end in ((0, -10), (10, 5), (-100, -50)):
        with pytest.raises(UsageError):
            actions.create_silence(
                world.state, matcher, now + timedelta(seconds=start), now + timedelta(seconds=end), "li", None, now
            )


def test_only_what_fires_can_be_acknowledged(world):
    world.says(for_s=60)
    world.run(0)
    with pytest.raises(Refused):
        actions.acknowledge(world.state, world.alert()["alert_id"], "li", None, world.clock.now())
    with pytest.raises(actions.NotFound):
        actions.acknowledge(world.state, "nothing", "li", None, world.clock.now())


def test_routes_explain_who_hears_and_why(make_world):
    world = make_world(ops=", quiet_hours: {start: '22:00', end: '08:00'}")
    high = routing.explain(world.settings, ALERT)
    assert (high["route"], [r["channel"] for r in high["receivers"]], high["repeat_s"]) == ("warning", ["ops"], 7200)
    assert "deferred" in high["receivers"][0]["quiet_hours"]
    assert high["group"] == "warning/Down/shop"
    low = routing.explain(world.settings, ALERT | {"severity": "low"})
    assert (low["route"], low["receivers"]) == (None, [])
    world.config["ops"] = ", enabled: false"
    assert "no receiver" in routing.explain(world.settings, ALERT)["why"]
    assert routing.explain(world.settings, ALERT)["switched_off"] == ["ops"]


def mp(world, capsys, *arguments: str, now: float | None = None):
    at = (T0 + timedelta(seconds=world.now if now is None else now)).isoformat() + "Z"
    _ = world.settings
    code = run(["--config", str(world.root / "monitoring.yaml"), "--now", at, "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def cli_world(make_world):
    """A world whose store is where the command line looks for it."""
    world = make_world()
    (world.root / "data").mkdir()
    world.state.dispose()
    from monitoring_pipelines.state import StateStore

    world.state = StateStore.of(world.settings)
    return world


def test_the_command_line_lists_shows_acknowledges_and_silences(cli_world, capsys):
    world = cli_world
    world.says()
    world.run(20)
    code, data = mp(world, capsys, "alerts", "list")
    assert (code, [a["type"] for a in data["items"]]) == (1, ["target.down"])
    alert_id = data["items"][0]["alert_id"]
    assert mp(world, capsys, "alerts", "ack", alert_id, "--note", "on it")[0] == 0
    code, data = mp(world, capsys, "alerts", "show", alert_id)
    assert data["alert"]["acknowledged_note"] == "on it"
    assert [e["kind"] for e in data["events"]] == ["transition", "message", "message", "acknowledge"]
    code, made = mp(world, capsys, "alerts", "silence", "type=target.down", "--for", "30m", "--comment", "x")
    assert made["ends_at"] == "2026-02-01T06:30:20Z"
    assert mp(world, capsys, "alerts", "list", "--silences")[1]["total"] == 1
    assert mp(world, capsys, "route", "test", "--severity", "critical", "--type", "target.down")[0] == 1, "silenced"
    assert mp(world, capsys, "alerts", "unsilence", made["silence_id"])[0] == 0
    assert mp(world, capsys, "alerts", "list", "--silences")[1]["total"] == 0
    code, found = mp(world, capsys, "route", "test", "--severity", "critical")
    assert (code, found["receivers"][0]["channel"]) == (0, "ops")
    code, found = mp(world, capsys, "route", "test", "ingest.low")
    assert (code, found["severity"], found["route"]) == (0, "medium", "warning")
    assert found["may_be_inhibited_by"] == ["type=ingest.none"]
    assert mp(world, capsys, "route", "test", "ingest.lo")[0] == 2
    assert mp(world, capsys, "route", "test")[0] == 2
    assert mp(world, capsys, "alerts", "history")[1]["total"] == 4
    assert mp(world, capsys, "alerts", "show", "nothing")[0] == 2


def test_the_command_line_sends_tests_and_drills(cli_world, capsys):
    world = cli_world
    code, data = mp(world, capsys, "test-alert", "--channel", "ops")
    assert (code, data["items"][0]["state"]) == (0, "sent")
    assert mp(world, capsys, "test-alert", "--channel", "opps")[0] == 2
    world.ops.answer = lambda _: (500, b"", {})
    assert mp(world, capsys, "test-alert")[0] == 1
    assert mp(world, capsys, "test-alert", "--drill", "target.dwn")[0] == 2
    assert mp(world, capsys, "test-alert", "--drill", "target.down", "--lasts-s", "60")[0] == 0
    world.run(0)
    assert world.alert()["is_drill"]


def test_a_test_message_that_fails_makes_no_alert(cli_world, capsys):
    """A-504: whoever tests sees it at once; a channel is down when messages fail."""
    world = cli_world
    world.ops.answer = lambda _: (500, b"", {})
    assert mp(world, capsys, "test-alert")[0] == 1
    mp(world, capsys, "alerts", "tick")
    assert [a["type"] for a in world.alerts() if a["type"].startswith("notify.")] == []
    world.says()
    world.run(20)
    mp(world, capsys, "alerts", "tick")
    assert "notify.channel_down" in {a["type"] for a in world.alerts()}


def test_paging_filters_and_retention(world):
    for n in range(5):
        world.says(labels={"target": str(n)}, severity="critical" if n % 2 else "high")
    world.run(20)
    rows, total = stored.list_alerts(world.state, severities=["high"], open_only=True, page=2, page_size=2)
    assert (len(rows), total) == (1, 3)
    world.says(condition="false", labels={"target": "0"}, severity="high")
    world.run(40)
    assert stored.list_alerts(world.state, open_only=False)[1] == 1
    assert stored.list_notifications(world.state, channel="ops", kind="resolved")[1] == 1
    removed = stored.prune(world.state, T0 + timedelta(days=401), 400, 400)
    assert removed > 0
    assert {a["state"] for a in world.alerts()} == {"firing"}, "what is open stays"
    assert world.notes() == []
