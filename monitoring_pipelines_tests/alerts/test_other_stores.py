"""The same timelines on a state store in MySQL."""

from __future__ import annotations

from monitoring_pipelines.alerts import actions
from monitoring_pipelines.state import alerts as stored


def test_a_whole_life_on_mariadb(make_world, mariadb_db):
    world = make_world(
        url=mariadb_db.dsn.replace("mysql://", "mysql+pymysql://"), group_wait="0", ops=", per_minute: 3",
        critical_repeat="60",
    )  # fmt: skip
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
    assert stored.prune(world.state, world.clock.now().replace(year=2028), 400, 400) > 0
    assert world.alerts() == []
