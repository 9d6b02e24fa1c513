"""The same timelines on a state store in MySQL and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from monitoring_pipelines.alerts import actions, outbox
from monitoring_pipelines.state import alerts as stored


@pytest.fixture(params=["mysql", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "mysql":
        yield request.getfixturevalue("mariadb_db").dsn.replace("mysql://", "mysql+pymysql://")
    else:
        with request.getfixturevalue("postgres").database() as found:
            yield found


def test_a_whole_life(make_world, url):
    world = make_world(url=url, group_wait="0", ops=", per_minute: 3", critical_repeat="60")
    for n in range(5):
        world.says(labels={"target": f"目标{n}"}, service=f"s{n}")
    world.check("quick", ("high", "缺失 🍄"))
    world.run(0)
    assert [title.split()[0] for _, title in world.sent] == ["[FIRING]", "[FIRING]", "[DIGEST]"]
    actions.acknowledge(world.state, world.alert()["alert_id"], "li", None, world.clock.now())
    world.run(60)
    assert world.instants == [0, 0, 0, 60, 60, 60], "four repeat: two messages and a digest"
    for n in range(5):
        world.says(condition="false", labels={"target": f"目标{n}"}, service=f"s{n}")
    world.check("quick")
    world.run(200)
    assert {a["state"] for a in world.alerts()} == {"resolved"}
    assert {n["state"] for n in world.notes()} <= {"sent", "suppressed"}
    assert stored.list_alerts(world.state, open_only=False, page_size=3)[1] == 6
    for text, n in (("目标3", 1), ("缺失 🍄", 1), ("MISSING_", 1), ("%", 0), ("nothing", 0)):
        assert stored.list_alerts(world.state, text=text)[1] == n, text
    for sort in stored.NOTIFICATION_ORDERS:
        notes, total = stored.list_notifications(world.state, sort=f"-{sort}", page_size=500)
        assert [n[sort] for n in notes] == sorted((n[sort] for n in notes), reverse=True)
        assert len({n["notification_id"] for n in notes}) == len(notes) == total
    assert stored.prune(world.state, world.clock.now().replace(year=2028), 400, 400) > 0
    assert world.alerts() == []


def test_dispatchers_at_once_send_everything_once(make_world, url):
    """A-403: leases hold on every database."""
    world = make_world(url=url, group_wait="0")
    for n in range(12):
        world.says(labels={"target": str(n)}, service=f"s{n}")
    world.tick()
    start = threading.Barrier(4)

    def send() -> None:
        start.wait()
        outbox.dispatch(world.settings, world.state, world.clock)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.dispatch(world.settings, world.state, world.clock)
    assert sorted(title for _, title in world.sent) == sorted(f"[FIRING] target.down (s{n})" for n in range(12))


def test_what_waited_in_quiet_hours_is_merged(make_world, url):
    world = make_world(url=url, repeat="600", ops=", quiet_hours: {start: '14:10', end: '14:30'}")
    world.says(severity="medium", labels={"target": "a"})
    world.run(899)
    world.says(severity="medium", labels={"target": "b"})
    world.run(1800)
    assert [title for _, title in world.sent] == [
        "[FIRING] target.down (collector)",
        "[FIRING] target.down (collector) ×2",
    ]
    assert [n["reason"] for n in world.notes(state="suppressed")] == ["merged"]
