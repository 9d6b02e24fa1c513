"""The state of a process: the worst of its target and of what its figures reach, unknown without samples (S-817, C-480, C-484).

What belongs here: what the tile and the API say. What does not: alerts about processes (``rules``).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from monitoring_pipelines.alerts.rules.targets import _jsonable
from monitoring_pipelines.collect.health import TargetHealth
from monitoring_pipelines.state import StateStore, tables
from monitoring_pipelines_tests.api.conftest import SOURCE, Client, Serve, data, with_world
from monitoring_pipelines_tests.api.world import World

MINUTE = timedelta(minutes=1)


@pytest.fixture
def shop(serve: Serve) -> tuple[Client, World]:
    return with_world(serve, [SOURCE])


def said(client: Client) -> tuple[str, str]:
    """(word, what it follows from) of the tile; the API has the same word."""
    (row,) = data(client, "/api/v1/processes", source="shop")["items"]
    page = client.get("/resources", source="shop", lang="en").text
    tile = re.search(
        r'<div class="label">Status</div><div class="value">(.*?)</div><div class="note">(.*?)</div>', page
    )
    assert tile
    word = re.sub("<[^>]*>", "", tile[1])
    assert row["health_state"] == word.lower()
    why, _, sampled = tile[2].rpartition(" · ")
    assert sampled.startswith("sampled")
    return word, why


def measured(world: World, at: datetime, **figures: int) -> None:
    world.sample("p", at)
    for name, value in figures.items():
        world.write((f"UPDATE raw.process_sample SET {name} = $v", {"v": value}))
    world.publish()


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({}, ("Healthy", "")),
        ({"rss_bytes": 3_000_000_000}, ("Healthy", "")),
        ({"rss_bytes": 3_000_000_001}, ("Degraded", "Memory")),
        ({"conns": 49}, ("Healthy", "")),
        ({"conns": 50}, ("Degraded", "Connections")),
        ({"conns": 100}, ("Unhealthy", "Connections")),
        ({"fds": 85, "fds_max": 100, "rss_bytes": 4_000_000_000}, ("Unhealthy", "Memory, Open FDs")),
        ({"fds": 85}, ("Healthy", "")),
    ],
)
def test_a_status_is_as_bad_as_the_worst_threshold_its_figures_reach(
    shop: tuple[Client, World], figures: dict[str, int], expected: tuple[str, str]
) -> None:
    """C-401 to C-403; what is not measurable says nothing."""
    client, world = shop
    measured(world, client.clock.now(), **figures)
    assert said(client) == expected


def test_without_samples_for_two_intervals_a_status_is_unknown_whatever_its_last_figures_were(
    shop: tuple[Client, World],
) -> None:
    """C-480: the interval is that of its own samples, so one that is asked every five minutes is not lost after three."""
    client, world = shop
    now = client.clock.now()
    for minutes in (9, 14, 19, 24):
        world.sample("p", now - minutes * MINUTE)
    measured(world, now - 10 * MINUTE, conns=100)
    world.write(('DELETE FROM raw.process_sample WHERE "at" = $t', {"t": now - 10 * MINUTE}))
    world.publish()
    assert said(client) == ("Unhealthy", "Connections")
    client.clock.advance(10 * 60)
    world.source()
    world.publish()
    assert said(client) == ("Unknown", "no current sample")


def test_while_nobody_reads_the_source_a_status_is_unknown(shop: tuple[Client, World]) -> None:
    client, world = shop
    measured(world, client.clock.now())
    client.clock.advance(180)
    assert said(client) == ("Healthy", "")
    client.clock.advance(1)
    assert said(client) == ("Unknown", "no current sample")


def test_a_target_that_does_not_answer_is_the_status_of_its_process(shop: tuple[Client, World]) -> None:
    """C-421, C-480; a retired target says nothing (C-440)."""
    client, world = shop
    now = client.clock.now()
    measured(world, now)
    state = StateStore.of(client.settings)
    seen = {"source_id": "shop", "kind": "target", "first_seen_at": now, "last_seen_at": now}
    with state.begin() as con:
        con.execute(tables.expectation.insert(), [
            seen | {"name": name, "state": {"scrape": _jsonable(TargetHealth(word, 3, 0, now, now)), "interval_s": 30.0}}
            for name, word in (("p", "unhealthy"), ("other", "healthy"))
        ])  # fmt: skip
    assert said(client) == ("Unhealthy", "Target")
    with state.begin() as con:
        con.execute(tables.expectation.update().values(retired_at=now))
    assert said(client) == ("Healthy", "")
    state.dispose()
