"""What the dashboard marks: hours of endpoints, our own blind time, estimates; and axes that say what they mean (S-802, S-803)."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, timedelta
from typing import Any

import pytest

from monitoring_pipelines.api.pages.resources import whole_cores
from monitoring_pipelines_tests.api.conftest import SOURCE, Client, Serve, with_world
from monitoring_pipelines_tests.api.world import World

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TICK = "minute_tick_job"


@pytest.fixture
def shop(serve: Serve) -> tuple[Client, World]:
    return with_world(serve, [SOURCE, SOURCE | {"id": "sched", "preset": "scheduler"}])


def charts_of(page: str) -> list[dict[str, Any]]:
    return [json.loads(html.unescape(one)) for one in re.findall(r'data-chart="([^"]+)"', page)]


def test_the_list_of_endpoints_shows_the_last_24_hours_of_each(shop: tuple[Client, World]) -> None:
    client, world = shop
    last = client.clock.now() - HOUR
    for name in ("good", "bad"):
        world.hour(name, last)
    world.write((
        ("UPDATE mart.endpoint_hourly_stats SET tasks_completed = CASE endpoint WHEN 'good' THEN 10 ELSE 1 END, "
        "tasks_failed = CASE endpoint WHEN 'good' THEN 0 ELSE 9 END, tasks_timeout = 0"), {},
    ))  # fmt: skip
    world.publish()
    page = client.get("/endpoints", lang="en").text
    for name, word in (("good", "healthy"), ("bad", "unhealthy")):
        row = next(part for part in page.split("<tr>") if f">{name}</a>" in part)
        (strip,) = re.findall(r'<span class="strip".*?</span>', row.split("</tr>")[0])
        cells = re.findall(r'<i class="(\w*)"', strip)
        assert len(cells) == 24
        assert [cell for cell in cells if cell] == [word]


def test_charts_of_jobs_and_completeness_hatch_the_time_in_which_this_monitor_did_not_run(
    shop: tuple[Client, World],
) -> None:
    client, world = shop
    for minutes in (*range(1, 60), *range(240, 300)):
        world.job_run(TICK, "success", 100, ago=minutes * MINUTE, source="_self")
    for hours in (1, 3, 5):
        world.job_run("nightly", "success", 1000, ago=hours * HOUR, source="sched")
    world.task("t1")
    world.publish()
    spec = charts_of(client.get("/scheduler-monitoring/jobs/nightly", source="sched", lang="en").text)[0]
    assert len(spec["blind"]) == 1
    first, last = spec["blind"][0]
    assert last - first == pytest.approx(181 * 60, abs=60)
    page = client.get("/consistency", source="shop", lang="en").text
    trend = charts_of(page)[0]
    # The trend draws local days (UTC+8 here) as if they were days of UTC.
    assert trend["blind"] == [[first + 8 * 3600, last + 8 * 3600]]
    assert "Red stripes" in page


def test_lanes_of_workers_hatch_the_time_in_which_this_monitor_did_not_run(shop: tuple[Client, World]) -> None:
    """The same spans as the charts of the same hours, at their place in the drawing and in every lane."""
    client, world = shop
    now = client.clock.now()
    for minutes in (*range(1, 60), *range(120, 400)):
        world.job_run(TICK, "success", 100, ago=minutes * MINUTE, source="_self")
    world.hour("e", now - HOUR)
    for n in range(2):
        world.task(f"t{n}", ago=(30 + 200 * n) * MINUTE)
    world.write(("UPDATE core.task_attempt SET worker_key = 'w2' WHERE task_key = 't1'", {}))
    world.publish()
    page = client.get("/endpoints/e", source="shop", range="6h", tab="timeline", lang="en").text
    (span,) = charts_of(client.get("/endpoints/e", source="shop", range="6h", lang="en").text)[0]["blind"]
    start = (now - 6 * HOUR).replace(tzinfo=UTC).timestamp()
    found = re.findall(r'<rect fill="url\(#(\w+)\)" x="([\d.]+)" y="0" width="([\d.]+)"', page)
    assert len(found) == page.count("<svg") == 2
    for name, x, width in found:
        assert page.count(f'<pattern id="{name}"') == 1
        assert [float(x), float(x) + float(width)] == pytest.approx([(at - start) / 21.6 for at in span], abs=0.1)
    assert "Red stripes" in page
    assert "This monitor did not run 12:00:" in page
    world.write(("DELETE FROM raw.job_run WHERE source_id = '_self'", {}))
    for minutes in range(1, 400):
        world.job_run(TICK, "success", 100, ago=minutes * MINUTE, source="_self")
    world.publish()
    page = client.get("/endpoints/e", source="shop", range="6h", tab="timeline", lang="en").text
    assert page.count("<svg") == 2
    assert "unwatched" not in page
    assert "Red stripes" not in page


def test_an_axis_of_cpu_ends_at_whole_cores() -> None:
    assert whole_cores([]) == 100
    assert whole_cores([None, 3.0, 100.0]) == 100
    assert whole_cores([100.1, None]) == 200
    assert whole_cores([371.0]) == 400


def test_percentiles_that_are_estimated_say_so_and_measured_ones_do_not(shop: tuple[Client, World]) -> None:
    client, world = shop
    last = client.clock.now() - 5 * MINUTE
    for name in ("one", "two"):
        world.hour(name, client.clock.now() - 2 * HOUR)
    world.minute("one", last)
    for n in range(2):
        world.minute("two", last - n * MINUTE)
    world.write((
        ("UPDATE mart.endpoint_minute_stats SET execution_n = 1, execution_sum_ms = 1000, min_execution_ms = 1000, "
        "max_execution_ms = 1000, p95_execution_ms = 1000, exec_hist = '{\"348\": 1}'"), {},
    ))  # fmt: skip
    world.publish()
    for name, is_estimated in (("one", False), ("two", True)):
        summary = client.get(
            f"/api/v1/endpoints/{name}/stats", source="shop", granularity="minute",
            from_=(client.clock.now() - HOUR).isoformat(), to=client.clock.now().isoformat(),
        )  # fmt: skip
        assert summary.status_code == 200, summary.text
        found = summary.json()["data"]["summary"]
        assert (found["percentile_source"] == "histogram") is is_estimated
        page = client.get(f"/endpoints/{name}", source="shop", range="1h", lang="en").text
        assert ("P95 ≈ 1" in page) is is_estimated
        assert ("estimated from histograms, at most 1 % off" in page) is is_estimated


def test_the_link_of_the_jobs_page_keeps_search_and_category(shop: tuple[Client, World]) -> None:
    client, world = shop
    for job, category in (("sum_a", "billing"), ("sum_b", "mail"), ("other", "billing")):
        world.job(job, category, source="sched")
        world.job_run(job, "success", 10, source="sched")
    world.publish()
    page = client.get("/scheduler-monitoring", scope="all", q="SUM", category="billing", lang="en").text
    link = html.unescape(re.search(r'href="(/api/v1/scheduler/metrics\?[^"]+)"', page).group(1))  # type: ignore[union-attr]
    data = client.get(link).json()["data"]
    assert [row["job_id"] for row in data["metrics"]] == ["sum_a"]
    assert data["total"] == 1
