"""What pages show of rows that are in the store, and what they say when a part of it is missing (S-801 to S-820)."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from monitoring_pipelines.alerts import engine
from monitoring_pipelines.alerts.model import Observation
from monitoring_pipelines.api.pages import endpoints
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun
from monitoring_pipelines.state import StateStore, checks, tables

from .conftest import Client, Serve, with_world
from .world import World

SHOP = {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"}
SCHEDULER = {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"}
MINUTE = timedelta(minutes=1)
SAID = "The state store cannot be used"


def fire(settings: Settings, at: datetime, type_: str, severity: str, for_s: float = 0, **labels: str) -> None:
    """An alert that begins at ``at``."""
    seen = Observation(
        type_, "shop", "true", severity, severity, type_, f"{type_} {labels}", labels or {"check": type_}, for_s=for_s
    )  # type: ignore[arg-type]
    engine.apply(settings, StateStore.of(settings), at, [seen])


@pytest.fixture
def shop(serve: Serve) -> tuple[Client, World]:
    return with_world(serve, [SHOP])


def text_of(client: Client, path: str, status: int = 200, **params: Any) -> str:
    """The page's text without its tags."""
    answer = client.request("GET", path, headers={"Accept": "text/html"}, params={"lang": "en"} | params)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


def test_pages_without_the_state_store_show_what_they_can_and_say_what_they_cannot(serve: Serve) -> None:
    """S-802: published figures stay; alerts are unknown, and unknown is not good."""
    client = serve({"sources": [SHOP, SCHEDULER]})
    world = World(client.settings, client.clock)
    world.source()
    world.source("sched")
    world.task("t1")
    world.job_run("nightly", "success", 400, source="sched")
    world.publish()
    file = Path(str(StateStore.of(client.settings).url.database))
    file.write_bytes(b"this is no database " * 500)
    home = text_of(client, "/")
    assert SAID in home
    assert "Alerts unknown" in home
    assert "All 2 sources are healthy" not in home
    assert "100.0%" in home
    for path in ("/consistency", "/partitions", "/ingest", "/scheduler-monitoring", "/resources"):
        assert SAID in text_of(client, path), path
    for path in ("/endpoints", "/tasks?show=all", "/runbooks"):
        assert SAID not in text_of(client, path), path
    assert "state_store" in text_of(client, "/self")
    for path in ("/alerts", "/checks", "/repair"):
        assert SAID in text_of(client, path, 503), path
    assert client.get("/api/v1/overview").status_code == 503


def test_alerts_are_firing_and_gravest_first_over_all_pages(shop: tuple[Client, World]) -> None:
    """S-819: the second page does not hold a graver one than the first."""
    client, _ = shop
    now = client.clock.now()
    for number, severity in enumerate(("low", "critical", "medium", "info", "high", "critical")):
        fire(client.settings, now - (10 - number) * MINUTE, f"t{number}", severity)
    fire(client.settings, now, "waits", "critical", for_s=3600)
    order: list[str] = []
    for page in (1, 2, 3, 4):
        answer = client.get("/alerts", lang="en", source="shop", page=page, page_size=2).text
        order += re.findall(r'href="/alerts/[^"]+">(?:<[^>]+>)?(t\d|waits)', answer)
    assert order == ["t5", "t1", "t4", "t2", "t0", "t3", "waits"]
    rows = client.get(
        "/download/alerts.csv", show="firing", severity="critical", source="shop", sort="since"
    ).text.splitlines()
    assert [re.search(r"t\d", row).group() for row in rows[1:]] == ["t1", "t5"]  # type: ignore[union-attr]


def test_the_link_of_the_alerts_page_asks_the_api_for_what_the_page_shows(shop: tuple[Client, World]) -> None:
    client, _ = shop
    now = client.clock.now()
    for number, severity in enumerate(("low", "critical", "critical")):
        fire(client.settings, now - (10 - number) * MINUTE, f"t{number}", severity)
    seen = []
    for params in (
        {}, {"show": "firing", "severity": "critical"}, {"show": "resolved"},
        {"show": "all", "type": "t1", "source": "shop"},
    ):  # fmt: skip
        page = client.get("/alerts", lang="en", **params).text
        link = html.unescape(re.search(r'href="(/api/v1/alerts[^/"]*)"', page).group(1))  # type: ignore[union-attr]
        shown = set(
            re.findall(r'<td class="key"><a href="/alerts/([^"?]+)"', page.partition('<section class="panel">')[0])
        )
        assert {row["alert_id"] for row in client.get(link).json()["data"]["items"]} == shown, (params, link)
        seen.append(len(shown))
    assert seen[0] >= 3
    assert seen[1:] == [2, 0, 1]


def test_a_file_of_check_runs_counts_the_findings_of_all_of_them(shop: tuple[Client, World]) -> None:
    client, _ = shop
    state, now = StateStore.of(client.settings), client.clock.now()
    runs = [CheckRun(f"r{n:04}", "quick", "schedule", "issues_detected", now - n * MINUTE) for n in range(1203)]
    with state.begin() as con:
        con.execute(
            insert(tables.check_run), [checks._run_row(run) | {"alerts_by_severity": {"high": 1}} for run in runs]
        )
    lines = client.get("/download/checks.csv").text.splitlines()
    place = lines[0].split(",").index("total_alerts")
    assert [line.split(",")[place] for line in lines[1:]] == ["1"] * len(runs)


def test_hours_of_minute_statistics_hold_all_their_minutes(shop: tuple[Client, World]) -> None:
    """The matrix counts every minute of an hour, not the first one only."""
    client, world = shop
    hour = client.clock.now() - timedelta(hours=2)
    for minute in (5, 6, 40):
        world.minute("e", hour + minute * MINUTE)
    world.publish()
    cells = re.findall(r'title="([^"]+, 3 rows[^"]*)"', client.get("/partitions", lang="en").text)
    assert len(cells) == 1, cells
    assert f"{hour + timedelta(hours=8):%m-%d %H}:00" in cells[0]


def test_a_range_of_a_process_is_drawn_with_as_many_points_as_a_screen_shows_and_with_its_gaps(
    shop: tuple[Client, World],
) -> None:
    """S-803, S-817: 30 days of samples are thinned by the server; a day without samples is a gap, not a line."""
    client, world = shop
    now = client.clock.now()
    for hours in (*range(200), *range(224, 720)):
        world.sample("feed", now - timedelta(hours=hours))
    world.publish()
    for chosen, most in (("1h", 1), ("24h", 24), ("7d", 168), ("30d", 402)):
        page = client.get("/resources", process="feed", range=chosen, lang="en")
        specs = [json.loads(html.unescape(one)) for one in re.findall(r'data-chart="([^"]+)"', page.text)]
        memory = specs[0]
        assert 0 < len(memory["x"]) <= most
        assert memory["x"] == sorted(memory["x"])
        assert memory["series"][0]["values"].count(None) == (1 if chosen == "30d" else 0)
    assert 'aria-current="page">30d<' in page.text
    assert client.get("/download/samples.csv", process="feed", range="30d").text.count("\n") == 1 + 696


def test_pages_refresh_as_often_as_configured_and_say_how_old_they_are(serve: Serve) -> None:
    """S-801: task monitor 5 s, charts 60 s, others 30 s; old data is marked."""
    client = serve({"sources": [SHOP], "api": {"refresh_s": {"tasks": 4}}})
    world = World(client.settings, client.clock)
    world.source(as_of=client.clock.now() - timedelta(minutes=10))
    world.sample("feed", client.clock.now() - timedelta(minutes=10))
    world.publish()
    for path, seconds in (("/tasks", 4), ("/resources", 60), ("/", 30), ("/consistency", 30), ("/alerts", 30)):
        page = client.get(path, lang="en").text
        assert float(re.search(r'data-refresh="([\d.]+)"', page)[1]) == seconds, path  # type: ignore[index]
        assert "Last updated" in page, path
        assert ("Data is stale" in page) == (path != "/alerts"), path
    assert "最后更新" in client.get("/", lang="zh-CN").text


PAGES = (
    "/", "/endpoints", "/tasks", "/tasks?show=all", "/consistency", "/scheduler-monitoring", "/resources", "/ingest",
    "/partitions", "/self",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_a_store_in_which_nothing_was_published_yet_has_its_pages_and_they_say_so(serve: Serve, path: str) -> None:
    """S-802: the first minutes of every installation; what is not known is neither good nor stopped."""
    client = serve({"sources": [SHOP, SCHEDULER]})
    text = text_of(client, path)
    assert text.count("Nothing has been published yet") == 1
    assert "Stopped" not in text
    if path == "/":
        assert "no current data of shop, sched" in text
        assert "Healthy" not in text
        assert "Not applicable" not in text, "nobody has looked yet"


def test_an_empty_store_has_the_same_tiles_as_a_full_one(shop: tuple[Client, World]) -> None:
    """S-202: a reader of the API finds every field, NULL where nothing is known."""
    client, world = shop
    before = client.get("/api/v1/overview").json()["data"]["sources"][0]
    assert before["tasks_24h"]["submitted"] is None
    assert before["workers"] is None
    world.task("t1")
    world.publish()
    assert before.keys() == client.get("/api/v1/overview").json()["data"]["sources"][0].keys()


def test_a_source_with_a_grave_alert_is_not_called_healthy_on_the_first_page(shop: tuple[Client, World]) -> None:
    """S-810: completeness of 100 % says nothing about tasks that run into their time limit."""
    client, world = shop
    world.task("t1")
    world.publish()
    assert "shop Health Healthy" in text_of(client, "/")
    fire(client.settings, client.clock.now(), "tasks.timeouts", "high")
    text = text_of(client, "/")
    assert "shop Health Grave alerts" in text
    assert "Health Healthy" not in text


def test_an_alert_leads_to_the_rows_of_its_own_source(shop: tuple[Client, World]) -> None:
    """S-819: a list of other sources' running tasks is not what an alert about timeouts speaks of."""
    client, _ = shop
    now = client.clock.now()
    fire(client.settings, now, "tasks.timeouts", "high")
    fire(client.settings, now, "ingest.none", "critical", process="feed/1")
    fire(client.settings, now, "resource.memory", "high", process="feed/1")
    fire(client.settings, now, "jobs.failing", "high", job="nightly")
    pages = {
        alert["type"]: html.unescape(client.get(f"/alerts/{alert['alert_id']}").text)
        for alert in client.get("/api/v1/alerts").json()["data"]["items"]
    }
    assert 'href="/tasks?source=shop&show=failed"' in pages["tasks.timeouts"]
    assert 'href="/ingest?source=shop"' in pages["ingest.none"]
    assert pages["resource.memory"].count('href="/resources?source=shop&process=feed%2F1"') == 2, "button and label"
    assert pages["jobs.failing"].count('href="/scheduler-monitoring/jobs/nightly?source=shop"') == 2


def test_history_and_cause_of_an_alert_are_in_the_readers_language_and_zone(serve: Serve) -> None:
    """S-819: 14 h UTC beside local times would be looked for in the wrong half of the day; a person's words stay."""
    client = serve({"sources": [SHOP], "timezone": "Asia/Shanghai", "language": "zh-CN"})
    fire(client.settings, client.clock.now(), "missing_task_outputs", "high")
    alert_id = client.get("/api/v1/alerts").json()["data"]["items"][0]["alert_id"]
    reasons = {
        "firing to ops: sent": "触发 · ops · 已发送", "repeat to ops: abandoned": "重复 · ops · 已放弃",
        "high → critical": "高 → 严重", "by silence 01ABC": "被静默规则 01ABC 覆盖", "the severity rose": "级别升高",
        "restarted by hand: sent home": "restarted by hand: sent home",
    }  # fmt: skip
    share = {"missing": 9, "tasks": 24, "share_of_loss": 9.8, "share_of_traffic": 6.2, "missing_rate": 37.5,
             "missing_rate_before": 0.0}  # fmt: skip
    with StateStore.of(client.settings).begin() as con:
        for number, reason in enumerate(reasons):
            event = {"event_id": f"e{number}", "alert_id": alert_id, "at": client.clock.now(), "kind": "message",
                     "from_state": "firing", "to_state": "firing", "severity": "high", "reason": reason}  # fmt: skip
            con.execute(insert(tables.alert_event).values(**event))
        details = {"carried_by": [{"dimension": "hour_of_day", "value": "14", **share}]}
        con.execute(update(tables.alert).values(details=details))
    text = text_of(client, f"/alerts/{alert_id}", lang="zh-CN")
    for shown in reasons.values():
        assert shown in text
    assert "firing to" not in text
    assert "时刻 22:00 9 / 24" in text


def test_the_timeline_of_a_task_is_told_in_words(shop: tuple[Client, World]) -> None:
    """S-812: the words of the API are no language of a reader."""
    client, world = shop
    world.task("t1")
    world.publish()
    text = text_of(client, "/tasks/t1", lang="zh-CN")
    assert "执行完成 · w1 · 第 1 次执行" in text
    assert "attempt" not in text


def test_jobs_of_the_product_have_names_in_the_readers_language(serve: Serve) -> None:
    client = serve({"sources": [SHOP, SCHEDULER]})
    world = World(client.settings, client.clock)
    world.source("sched")
    world.job("zebra", source="sched")
    world.publish()
    for language, name in (("en", "Full check"), ("zh-CN", "完整检查")):
        assert name in text_of(client, "/scheduler-monitoring?scope=self", lang=language)
        both = text_of(client, "/scheduler-monitoring?scope=all", lang=language)
        assert name in both
        assert "zebra" in both
        assert name in text_of(client, "/scheduler-monitoring/jobs/full_check_job?source=_self", lang=language)


def test_a_chart_without_a_single_value_says_so_instead_of_empty_axes(shop: tuple[Client, World]) -> None:
    """S-802: an endpoint whose source tells nothing about GPUs has no GPU chart."""
    client, world = shop
    world.minute("e", client.clock.now() - 5 * MINUTE)
    world.hour("e", client.clock.now() - 60 * MINUTE)
    world.publish()
    page = client.get("/endpoints/e", lang="en", source="shop", range="1h").text
    gpu = page.split("<h2>GPU</h2>")[1].split("</section>")[0]
    assert "No values in this range" in gpu
    assert "data-chart" not in gpu
    assert "data-chart" in page.split("<h2>Requests</h2>")[1].split("</section>")[0]


def test_workers_of_a_source_that_tells_nothing_about_them_are_unknown_also_in_minutes_without_a_row(
    shop: tuple[Client, World],
) -> None:
    """E-510, M-110: tasks of such a minute are a known zero, workers are not."""
    client, world = shop
    world.minute("e", client.clock.now() - 5 * MINUTE)
    world.hour("e", client.clock.now() - 60 * MINUTE)
    world.publish()
    found = client.get("/api/v1/endpoints").json()["data"]["items"][0]["latest"]
    assert (found["tasks_submitted"], found["active_workers"], found["idle_workers"]) == (0, None, None)
    start = (client.clock.now() - 30 * MINUTE).isoformat() + "Z"
    answer = client.get("/api/v1/endpoints/e/stats", from_=start, granularity="minute", fill="true").json()
    rows = answer["data"]["rows"]
    assert {row["tasks_submitted"] for row in rows} == {0, 1}
    assert {row["total_workers"] for row in rows} == {None}
    assert {row["cold_starts"] for row in rows} == {None}, "no stored row knows it"


def test_checks_that_do_not_apply_stand_apart_from_those_that_were_made(serve: Serve) -> None:
    """Dozens of lines about what a source does not map hide the one check that was made."""
    client = serve()
    state = StateStore.of(client.settings)
    now = client.clock.now()
    run = checks.start(state, CheckRun("run-1", "full", "manual", "running", now, now))
    outcomes = [CheckOutcome("shop", "orphans", "passed")]
    outcomes += [CheckOutcome("shop", name, "not_applicable", message="not mapped") for name in ("trend", "ratio")]
    checks.finish(state, replace(run, status="healthy", ended_at=now, outcomes=tuple(outcomes)))
    judged, apart = client.get("/checks/run-1", lang="en").text.split("<details>")
    assert "Checks (1)" in judged
    assert "not mapped" not in judged
    assert "(2)" in apart
    assert apart.count("not mapped") == 2


def test_channels_of_a_source_show_their_newest_attempt_and_how_fast_their_gateway_was(
    shop: tuple[Client, World],
) -> None:
    """S-815: to the minute, or to the day once minutes are past retention; NULL where nothing arrived."""
    client, world = shop
    now = client.clock.now()
    today, yesterday = now.replace(hour=4, minute=31), now.replace(hour=5, minute=7) - timedelta(days=1)
    world.messages("EMAIL", yesterday, ok=2, latency_ms=250, p95_ms=400)
    world.messages("EMAIL", today, ok=0, failed=1)
    world.messages("WECHAT", yesterday - timedelta(days=60), ok=1, grains=["day"])
    world.publish()
    page = client.request("GET", "/scheduler-monitoring", params={"lang": "en"}).text
    rows = {
        cells[0]: cells[1:]
        for row in re.findall(r"<tr>(.*?)</tr>", page)
        if len(cells := [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]) == 7
    }
    seen = set(re.findall(r'<time datetime="([^"]+)Z"', page))
    assert rows["EMAIL"][:5] == ["2", "1", "–", "–", "250 ms (P95 400 ms)"]
    assert rows["WECHAT"][:5] == ["1", "0", "–", "–", "–"]
    assert {today.isoformat(), (yesterday - timedelta(days=60)).replace(hour=0, minute=0).isoformat()} <= seen
    assert yesterday.isoformat() not in seen


@pytest.mark.parametrize(
    ("show", "output", "expected"),
    [("active", "all", "e"), ("failed", "all", "cd"), ("all", "no", "bcde"), ("all", "yes", "a")],
)
def test_the_api_call_of_the_task_monitor_is_of_the_rows_it_shows(
    shop: tuple[Client, World], show: str, output: str, expected: str
) -> None:
    client, world = shop
    for key, status, outputs in (("a", "succeeded", 1), ("b", "succeeded", 0), ("c", "failed", 0), ("d", "timed_out", 0),
                                 ("e", "running", 0)):  # fmt: skip
        world.task(key, status, outputs=outputs)
    world.publish()
    page = client.request("GET", "/tasks", params={"lang": "en", "show": show, "output": output}).text
    shown = set(re.findall(r'href="/tasks/(\w)\?source=shop"', page))
    call = html.unescape(re.findall(r'href="(/api/v1/tasks[^"]*)"', page)[0])
    assert {row["task_key"] for row in client.get(call).json()["data"]["items"]} == shown
    assert shown == set(expected)


def test_timeouts_alarm_where_executors_could_have_reported_their_end(serve: Serve) -> None:
    """C-330: without events and snapshots every task that ever timed out is a leaked slot, for ever."""
    client = serve({"sources": [SHOP, {"id": "rows", "preset": "tktool", "read_dsn_env": "SHOP_DSN"}]})
    world = World(client.settings, client.clock)
    for source in ("shop", "rows"):
        world.source(source)
        world.task(f"late-{source}", "timed_out", source=source, outputs=0)
    world.publish()
    page = client.request("GET", "/tasks", params={"lang": "en"}).text
    heads, cards = (
        re.findall(r'<h2 id="c-\w+">(\w+)', page),
        re.findall(r'<div class="card (\w*)"><div class="label">Active tasks', page),
    )
    assert dict(zip(heads, cards, strict=True)) == {"shop": "bad", "rows": ""}
    assert page.count("leaked 1") == 2


def test_figures_of_cards_lead_to_the_rows_they_are_of(shop: tuple[Client, World]) -> None:
    client, world = shop
    world.task("a")
    world.minute("e", client.clock.now() - MINUTE)
    world.hour("e", client.clock.now().replace(minute=0) - timedelta(hours=1))
    world.job("nightly")
    world.job_run("nightly", "failure", 10)
    world.publish()
    for path in ("/tasks?show=all", "/endpoints/e?source=shop", "/scheduler-monitoring?scope=mapped", "/self"):
        page = client.request("GET", path, params={"lang": "en"}).text
        leading = [html.unescape(one) for one in re.findall(r'<div class="value"><a href="([^"]+)">', page)]
        assert leading, path
        for address in leading:
            assert client.request("GET", address, headers={"Accept": "text/html"}).status_code == 200, address


def test_charts_of_a_process_show_when_this_monitor_did_not_run(shop: tuple[Client, World]) -> None:
    client, world = shop
    now = client.clock.now()
    for minutes in (90, 60, 5):
        world.sample("p", now - minutes * MINUTE)
    for minutes in (80, 79, 20, 19):
        world.job_run("minute_tick_job", "success", 1000, ago=minutes * MINUTE, source="_self")
    world.publish()
    page = client.request("GET", "/resources", params={"lang": "en", "source": "shop", "process": "p"}).text
    specs = [json.loads(html.unescape(found)) for found in re.findall(r'data-chart="([^"]+)"', page)]
    zero = int(now.replace(tzinfo=UTC).timestamp())
    for spec in specs:
        ((first, last),) = spec["blind"]
        assert (first, last) == (zero - 79 * 60, zero - 20 * 60 - 1)
    assert "this monitor did not run" in page


def test_tables_and_components_are_called_by_words_of_the_readers_language(shop: tuple[Client, World]) -> None:
    client, world = shop
    world.hour("e", client.clock.now().replace(minute=0) - timedelta(hours=1))
    world.publish()
    for language, table, component in (("zh-CN", "端点 · 小时", "状态库"), ("en", "Endpoints · hour", "State store")):
        assert table in text_of(client, "/partitions", lang=language)
        assert f"{component} state_store" in text_of(client, "/self", lang=language)


def test_before_the_first_publication_no_page_says_that_there_is_nothing(serve: Serve) -> None:
    """S-802: no data yet is not zero, and no missing output, job or failure is claimed."""
    client = serve()
    client.headers["Cookie"] = "mp_lang=en"
    paths = ("/consistency", "/endpoints", "/scheduler-monitoring", "/scheduler-monitoring?tab=heatmap")
    text = {path: client.get(path).text for path in paths}
    for path, page in text.items():
        assert "Nothing has been published yet" in page, path
        for claim in (
            "No task lacks its output",
            "No matching job",
            "No failures",
            "Missing list (0)",
            ">0</a>",
            "0 of 0",
            "No endpoint",
        ):
            assert claim not in page, (path, claim)


def test_each_number_of_tasks_on_the_first_page_leads_to_a_list_of_as_many(shop: tuple[Client, World]) -> None:
    """By status over all time, and by endpoint: what is counted is what is listed."""
    client, world = shop
    world.source()
    for n, status in enumerate(("succeeded", "succeeded", "failed", "timed_out", "timed_out", "timed_out", "running")):
        world.task(f"counted-{n}", status)
    world.publish()
    page = client.get("/", lang="en").text
    counts = re.findall(r'<a href="(/tasks\?show=status_\w+)">([\d,]+)</a>', page)
    assert len(counts) >= 4
    for path, n in counts:
        listed = client.get(f"{path}&lang=en").text
        assert re.search(rf"Page 1 of \d+, {n} in all", listed), (path, n)


def test_charts_and_rows_of_an_endpoint_show_what_its_statistics_say(shop: tuple[Client, World]) -> None:
    """S-811: every line of every chart is its column of the series, and no column of it is left out."""
    client, world = shop
    at = client.clock.now().replace(second=0) - 5 * MINUTE
    with world.warehouse.writer("columns") as con:
        kinds = con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'mart' AND table_name = 'endpoint_minute_stats'"
        ).fetchall()
    numbers = [
        name for name, kind in kinds if kind.startswith(("INT", "BIGINT", "SMALLINT", "DECIMAL", "DOUBLE", "HUGEINT"))
    ]
    texts = {"source_id": "'shop'", "endpoint": "'e'", "stat_minute": f"TIMESTAMP '{at}'", "state": "'closed'",
             "quality": "'exact'", "worker_source": "'lifecycle'", "exec_hist": """'{"469": 9}'""",
             "execution_time_distribution": """'{"0-500": 0, "5000+": 9}'""", "revision": "2"}  # fmt: skip
    values = {name: str(7 + number) for number, name in enumerate(numbers)} | texts
    world.hour("e", at)
    world.write(
        (f"INSERT INTO mart.endpoint_minute_stats ({', '.join(values)}) VALUES ({', '.join(values.values())})", {}),
        world._changed("mart.endpoint_minute_stats", at.replace(minute=0)),
    )
    world.publish()
    page = client.get("/endpoints/e", lang="en", source="shop", range="1h").text
    specs = [json.loads(html.unescape(text)) for text in re.findall(r'data-chart="([^"]+)"', page)]
    row = client.get("/api/v1/endpoints/e/stats", from_=at.isoformat() + "Z", granularity="minute").json()["data"][
        "rows"
    ][0]
    assert specs.pop(endpoints._DISTRIBUTION_AT)["series"][0]["values"] == [0, 9]
    assert len(specs) == len(endpoints._LINES)
    for spec, (title, parts, _) in zip(specs, endpoints._LINES, strict=True):
        place = spec["x"].index(int(at.replace(tzinfo=UTC).timestamp()))
        for line, (label, column, *_) in zip(spec["series"], parts, strict=True):
            assert row[column] is not None, column
            assert line["values"][place] == row[column], (title, label, column)
    assert all(name in dict(kinds) for name in (*endpoints._SHOWN, *endpoints._CHARTED))
    shown = text_of(client, "/endpoints/e", source="shop", range="1h", tab="rows")
    for column in ("tasks_submitted", "tasks_completed", "tasks_failed", "tasks_timeout"):
        assert f" {row[column]} " in shown, column
    summary = client.get("/api/v1/endpoints/e/stats", from_=at.isoformat() + "Z", granularity="minute").json()["data"][
        "summary"
    ]
    for tab in ("charts", "workers", "tasks", "timeline", "rows"):
        cards = text_of(client, "/endpoints/e", source="shop", range="1h", tab=tab)
        assert f"{summary['success_rate']:.2f}%" in cards, tab
        assert f"Submitted {summary['tasks_submitted']}" in cards, tab
        for first, second, name in (("Avg execution", "P95", "execution"), ("Queue wait", "Maximum", "queue_wait")):
            mean, other = summary[f"avg_{name}_ms"], summary[f"{'p95' if second == 'P95' else 'max'}_{name}_ms"]
            assert f"{first} {mean:.0f} ms {second} {other:.0f} ms" in cards, (tab, name)


def test_days_of_consistency_are_those_of_the_newest_version(shop: tuple[Client, World]) -> None:
    """C-108: what is kept of a version is not shown of the next one, and a split does not stay for who asks without."""
    client, world = shop
    seen = []
    for n in range(2):
        world.task(f"lost-{n}", outputs=0, ago=timedelta(hours=3))
        world.task(f"whole-{n}", ago=timedelta(hours=3))
        if n:
            world.task("whole", ago=timedelta(hours=3))
        world.publish()
        page = client.get("/consistency", lang="en").text
        assert "Before / after" not in page
        assert "Before / after" in client.get("/consistency", lang="en", date="2026-01-20").text
        assert client.get("/consistency", lang="en").text == page
        seen.append(re.findall(r"\d{4}-\d\d-\d\d ([\d.]+%);", page))
        assert "每日完整率" in client.get("/consistency", lang="zh-CN").text
    assert seen == [["50.0%"], ["60.0%"]]


def test_a_search_for_jobs_looks_at_each_of_their_columns_alone(serve: Serve) -> None:
    """S-815: an end of line in what is searched for finds nothing that begins in one column and ends in the next."""
    client = serve({"sources": [SHOP, SCHEDULER]})
    world = World(client.settings, client.clock)
    world.source("sched")
    for job, name in (("nightly", "Émile <b>"), ("hourly", "Other")):
        world.job(job, name=name, source="sched")
    world.publish()
    for wanted, found in (
        ("NIGHT", ["nightly"]),
        ("émile <", ["nightly"]),
        ("ly", ["hourly", "nightly"]),
        ("nightly\némile", []),
        ("x", []),
    ):
        page = client.get("/scheduler-monitoring", lang="en", q=wanted).text
        assert re.findall(r'data-pick="\w+/([^"]+)"', page) == found, wanted
        csv = client.get("/download/jobs.csv", q=wanted).text
        assert [line.split(",")[1] for line in csv.splitlines()[1:]] == found, wanted


def test_what_a_source_cannot_tell_is_not_told_as_nothing(serve: Serve) -> None:
    """S-802: without worker tables "no worker was online" would be a claim; an empty list says what to map instead."""
    client, world = with_world(serve, [SHOP, SCHEDULER, {"id": "flow", "preset": "tktool", "read_dsn_env": "SHOP_DSN"}])
    for source in ("flow", "sched"):
        world.source(source)
    for source in ("shop", "flow"):
        world.hour("e", client.clock.now() - timedelta(hours=2), source=source)
    world.publish()
    for tab in ("workers", "timeline"):
        known, unknown = (text_of(client, "/endpoints/e", source=name, tab=tab) for name in ("shop", "flow"))
        assert ("No worker was online" if tab == "workers" else "No worker in this range") in known
        assert "No worker" not in unknown
        assert "Not applicable: worker figures – needs worker(" in unknown
    for path, empty in (("/endpoints", "No endpoints"), ("/tasks", "No active tasks")):
        shown = text_of(client, path, source="sched")
        assert empty not in shown
        assert "Not applicable: endpoint counts and durations – needs task_event" in shown
        assert "不适用: 端点" in text_of(client, path, source="sched", lang="zh-CN")
