"""A target has one health, wherever one asks for it (S-250, S-341, S-817)."""

from __future__ import annotations

import re
from datetime import timedelta

from monitoring_pipelines.alerts.rules.targets import _jsonable
from monitoring_pipelines.api.pages.alerts import rows_at
from monitoring_pipelines.collect.health import TargetHealth
from monitoring_pipelines.state import StateStore, expectations, tables

from .conftest import Serve
from .world import World

SHOP = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}


def test_health_of_a_target_is_the_same_on_its_page_in_the_api_in_metrics_and_in_the_list(serve: Serve) -> None:
    client = serve({"sources": [SHOP]})
    world, now = World(client.settings, client.clock), client.clock.now()
    world.source()
    world.publish()
    since, state = now - timedelta(hours=1), StateStore.of(client.settings)
    with state.begin() as con:
        con.execute(tables.expectation.insert(), [
            {"source_id": "shop", "kind": "target", "name": word, "first_seen_at": since, "last_seen_at": now,
             "state": {probe: _jsonable(TargetHealth(word, 3, 0, now, since)), "interval_s": 30.0}}
            for word, probe in (("unhealthy", "scrape"), ("healthy", "http"))
        ])  # fmt: skip

    def healths() -> list[dict[str, str]]:
        rows = client.get("/api/v1/targets").json()["data"]["items"]
        page = client.get("/resources", lang="en").text
        codes = re.findall(
            r'^mp_target_health\{source="shop",target="(\w+)"\} (\d)$', client.get("/metrics").text, re.M
        )
        words = {"0": "unknown", "1": "healthy", "3": "unhealthy"}
        return [
            {row["target"]: row["health_state"] for row in rows},
            dict(re.findall(r'<td class="key">(\w+)</td><td>shop</td><td><span class="badge (\w+)">', page)),
            {name: words[code] for name, code in codes},
            {
                row["name"]: row["health"]
                for row in expectations.listed(state, client.settings, client.clock.now(), "target")
            },
        ]

    assert healths() == [{"unhealthy": "unhealthy", "healthy": "healthy"}] * 4
    assert client.get("/api/v1/targets").json()["data"]["items"][0]["since"] == since.isoformat() + "Z"
    client.clock.advance(62)  # two intervals and a second without a probe (C-480)
    assert healths() == [{"unhealthy": "unknown", "healthy": "unknown"}] * 4, (
        "by time alone, whoever else has stopped too"
    )
    state.dispose()


def test_an_alert_about_a_target_leads_to_the_targets() -> None:
    assert (
        rows_at({"source_id": "shop", "type": "target.down", "labels": {"target": "x"}})
        == "/resources?source=shop#targets"
    )
