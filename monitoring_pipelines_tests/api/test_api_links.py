"""Every number links to its API call: what a page shows with its filters is what the linked path answers (S-804)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import tables as t

from .conftest import NOW, Client, serving
from .stored import fill
from .world import World

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SOURCES = [
    *({"id": name, "preset": "waverless", "read_dsn_env": "SHOP_DSN"} for name in ("shop", "depot")),
    {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"},
]
#: Where a page says how many there are: in its pager, in the heading of a list, or in as many rows.
PAGER = r"Page \d+ of \d+, ([\d,]+) in all"


def head(words: str) -> str:
    """The number behind a heading."""
    return rf"<h2[^>]*>(?:<a [^>]*>)?{words}(?:</a>)? \(([\d,]+)\)"


STATS, JOBS = "/api/v1/endpoints/e/stats", "/api/v1/scheduler"
#: Page with filters set → path of each of its API links → how the page says its total; None: the answer is not a list.
#: A list of one pattern is of rows that are counted; a mapping are parameters of a list whose total the page does not say.
PAGES: dict[str, dict[str, Any]] = {
    "/": {"/api/v1/overview": None},
    "/endpoints?source=shop&q=E&sort=-tasks_submitted": {"/api/v1/endpoints": PAGER},
    "/endpoints/e?source=shop&range=6h&tab=charts": {STATS: None},
    "/endpoints/e?source=shop&range=1h&tab=rows": {STATS: head("Rows")},
    "/endpoints/e?source=shop&range=6h&tab=timeline": {STATS: None},
    "/endpoints/e?source=shop&range=6h&tab=workers": {STATS: None, "/api/v1/endpoints/e/workers": head("Workers")},
    "/endpoints/e?source=shop&range=30d&tab=workers": {STATS: None, "/api/v1/endpoints/e/workers": head("Workers")},
    "/endpoints/e?source=shop&range=1h&tab=tasks": {STATS: None, "/api/v1/tasks": PAGER},
    "/endpoints/e?source=shop&range=7d&tab=tasks": {STATS: None, "/api/v1/tasks": PAGER},
    "/tasks?source=shop&show=failed&output=no&endpoint=e&q=T&sort=created_at": {
        "/api/v1/tasks": PAGER, "/api/v1/task-counters": None,
    },
    "/tasks?source=shop&show=all&endpoint=e&from=2026-01-01&to=2999-01-01": {
        "/api/v1/tasks": PAGER, "/api/v1/task-counters": None,
    },
    "/tasks?source=depot&show=all&output=yes": {"/api/v1/tasks": PAGER, "/api/v1/task-counters": None},
    "/tasks/t0?source=shop": {"/api/v1/tasks/t0": None, "/api/v1/tasks/t0/timeline": head("Timeline")},
    **{
        f"/consistency?source=shop&date=2026-02-01&hours={hours}&show={show}{'&sort=endpoint' if show == 'missing' else ''}": {
            "/api/v1/completeness": {"from": str(NOW - hours * HOUR).replace(" ", "T") + "Z"}, "/api/monitoring/data-consistency/metrics": None,
            "/api/v1/completeness/split": {"date": "2026-02-01"},
            f"/api/v1/completeness/{'missing' if show == 'missing' else 'tasks'}": head(r"[\w ]+"),
        }
        for hours, show in ((24, "missing"), (72, "missing"), (72, "with_output"), (72, "duplicates"))
    },
    "/checks?source=shop&type=quick&status=issues_detected&sort=-total_alerts": {"/api/v1/checks/runs": PAGER},
    "/checks/R1?sort=check_id": {"/api/v1/checks/runs/R1": None, "/api/v1/checks/runs/R1/findings": PAGER},
    "/alerts?source=shop&show=firing&severity=high&type=missing_task_outputs&q=MISSING&sort=since": {
        "/api/v1/alerts": PAGER, "/api/v1/silences": head("Silences"), "/api/v1/notifications": head("Notifications"),
    },
    "/alerts/notifications?channel=ops&state=sent&kind=firing&sort=-attempts": {"/api/v1/notifications": PAGER},
    "/alerts/silences?show=active&sort=-creator": {"/api/v1/silences": PAGER},
    "/alerts/A1": {"/api/v1/alerts/A1": None},
    "/repair?source=depot&sort=-created_by": {"/api/v1/repair/plans": PAGER},
    "/repair/plans/P1?class=eligible&sort=-task_key": {"/api/v1/repair/plans/P1": None, "/api/v1/repair/plans/P1/items": PAGER},
    "/repair/runs/R1?sort=-at": {"/api/v1/repair/runs/R1": None, "/api/v1/repair/runs/R1/journal": head("Journal")},
    "/scheduler-monitoring?scope=all&q=SUM&category=billing&sort=-success_rate": {
        f"{JOBS}/metrics": PAGER, f"{JOBS}/metrics/prometheus": None,
    },
    "/scheduler-monitoring/jobs/sum_a?source=sched&sort=-duration_ms": {f"{JOBS}/jobs/sum_a/runs": PAGER},
    "/scheduler-monitoring/jobs/sum_a?source=sched&outcome=success&from=2026-02-10&to=2026-02-11": {
        f"{JOBS}/jobs/sum_a/runs": PAGER
    },
    "/scheduler-monitoring/runs?scope=all&category=billing&outcome=success&from=2026-02-10": {f"{JOBS}/runs": PAGER},
    **{
        f"/resources?source=shop&process=collector&range={hours}h": {
            "/api/v1/processes/collector/samples": head("Samples"), "/api/v1/targets": head("Targets"),
        }
        for hours in (1, 6, 24)
    },
    "/ingest?source=shop": {"/api/v1/ingest": [r'<tr><td class="key">']},
    "/self": {"/api/v1/self": None},
    **{
        f"/partitions?source={source}&shown={shown}": {
            "/api/v1/partitions": [r"<tr><th scope=\"row\">[^<]+</th><td>(?!<a href=\"/checks)"]
        }
        for source, shown in (("shop", "48h"), ("shop", "30d"), ("_self", "24h"))
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Two platforms and a scheduler with something of everything, of which each filter leaves a part."""
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("links"), patch) as start:
        client = start({"sources": SOURCES})
        client.headers["Accept-Language"] = "en"
        world, now = World(client.settings, client.clock), client.clock.now()
        for name in ("shop", "depot", "sched"):
            world.source(name)
        statuses = ("succeeded", "succeeded", "failed", "running", "timed_out")
        for n in range(40):
            world.task(
                f"{'ts'[n % 9 == 8]}{n}", statuses[n % 5], ago=(10 + 90 * n) * MINUTE, outputs=n % 3,
                source=("shop", "depot")[n % 4 == 3], endpoint=("e", "f")[n % 7 == 6],
            )  # fmt: skip
        # Some have the same output twice.
        world.write(("UPDATE raw.task_output SET natural_key = 'same' WHERE task_key < 't3'", {}))
        for name in ("e", "f"):
            for n in range(40):
                world.minute(name, now - (1 + n) * MINUTE)
            for n in range(1, 9):
                world.hour(name, now - n * HOUR)
            world.write(
                *(
                    (
                        "INSERT INTO core.worker_interval VALUES ('shop', $w, 1, $e, 'online', $a, $b, 'lifecycle', 'exact')",
                        {"w": f"w{ago}", "e": name, "a": now - ago * HOUR, "b": now - (ago - 1) * HOUR},
                    )
                    for ago in (1, 4, 100, 300)
                ),
                world._changed("core.worker_interval", now - 300 * HOUR),
            )
            world._statistics("mart.endpoint_daily_stats", "stat_date", name, now.replace(hour=0) - 24 * HOUR, "shop")
        for series, source in (("a", "shop"), ("b", "shop"), ("c", "depot")):
            at = now - MINUTE
            world.write(
                (
                    (
                        'INSERT INTO raw.ingest_counter (source_id, process_id, series, "at", kind, value, first_seen_at) '
                        "VALUES ($s, 'collector', $n, $t, 'ok', 5, $t)"
                    ),
                    {"s": source, "n": series, "t": at},
                ),
                world._changed("raw.ingest_counter", at),
            )
        for job, category in (("sum_a", "billing"), ("sum_b", "mail"), ("other", "billing")):
            world.job(job, category, source="sched")
            for n in range(60):
                world.job_run(job, "success", 10 + n, ago=n * HOUR, source="sched")
        for n in range(300):
            world.sample("collector", now - 4 * n * MINUTE)
            world.job_run("minute_tick_job", "success", 100, ago=n * MINUTE, source="_self")
        world.write(
            *(
                (
                    f"INSERT INTO mart.job_{grain}_stats (source_id, job_id, {bucket}, state, revision) VALUES ('_self', 'minute_tick_job', $t, 'closed', 1)",
                    {"t": now.replace(hour=now.hour if grain == "hourly" else 0) - (HOUR if grain == "hourly" else 24 * HOUR)},
                )
                for grain, bucket in (("hourly", "stat_hour"), ("daily", "stat_date"))
            ),
            *(world._changed(f"mart.job_{grain}_stats", now - HOUR) for grain in ("hourly", "daily")),
        )  # fmt: skip
        world.publish()
        fill(client.settings, client.clock)
        with StateStore.of(client.settings).begin() as con:
            con.execute(t.expectation.insert(), [
                {"source_id": source, "kind": "target", "name": name, "first_seen_at": now, "last_seen_at": now}
                for source, name in (("shop", "a"), ("shop", "b"), ("depot", "c"))
            ])  # fmt: skip
            plan = dict(con.execute(t.repair_plan.select()).mappings().one())
            con.execute(t.repair_plan.insert().values(plan | {"plan_id": "P2", "source_id": "depot"}))
            con.execute(t.repair_item.insert().values([
                {"plan_id": "P1", "seq": n, "task_key": f"t{n}", "tries": 0, "run_state": "pending", "rows": [],
                 "class": "eligible"} for n in range(2, 5)
            ]))  # fmt: skip
        yield client


def said(page: str, how: str | list[str]) -> int:
    """How many the page says there are."""
    if isinstance(how, list):
        return len(re.findall(how[0], page))
    found = re.findall(how, page)
    assert found, how
    return int(found[-1].replace(",", ""))


def total_of(data: dict[str, Any]) -> int:
    """How many an answer has, said or counted."""
    if "total" in data:
        return int(data["total"])
    return len(next(data[name] for name in ("rows", "workers", "timeline") if name in data))


@pytest.mark.parametrize("page", PAGES)
def test_each_api_link_of_a_page_is_answered_and_counts_what_the_page_counts(client: Client, page: str) -> None:
    answer = client.request("GET", page, headers={"Accept": "text/html", "Cookie": "mp_lang=en"})
    assert answer.status_code == 200, answer.text
    links = {html.unescape(link) for link in re.findall(r'href="(/api/[^"]*)"', answer.text)}
    expected = PAGES[page]
    assert {urlsplit(link).path for link in links} == expected.keys()
    for link in links:
        found = client.get(link)
        # A parameter that the path does not have would be a 400.
        assert found.status_code == 200, (link, found.text)
        how = expected[urlsplit(link).path]
        if isinstance(how, dict):
            assert how.items() <= dict(parse_qsl(urlsplit(link).query)).items(), link
        elif how is not None:
            total = total_of(found.json()["data"])
            assert total == said(answer.text, how), link
            assert total > 0, "nothing was compared"
