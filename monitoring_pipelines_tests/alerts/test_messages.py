"""What messages say, in both languages (A-309)."""

from __future__ import annotations

import pytest

from monitoring_pipelines.alerts.wording import escape, number, words_of
from monitoring_pipelines.quality.model import Finding
from monitoring_pipelines_tests.alerts.conftest import T0


def texts(world) -> list[str]:
    return [r.json["markdown"]["text"] for r in world.ops.requests]


def test_a_rule_tells_value_threshold_scope_start_and_where_to_look(world):
    world.says(
        "resource.memory", alertname="CollectorHighMemory", labels={"process": "c-1"}, value=3.2e9, threshold=3e9,
        message="memory is high",
    )  # fmt: skip
    world.run(700)
    alert_id = world.alert("resource.memory")["alert_id"]
    assert texts(world)[1].splitlines() == [
        "### [REPEAT] CollectorHighMemory (collector)",
        "",
        "**critical** memory is high",
        "- Value: 2.98 GiB (threshold 2.79 GiB)",
        "- Scope: source=collector, service=collector, process=c-1",
        "- Since: 2026-02-01 14:00:00 (UTC+08:00) = 06:00:00Z, for 10 min 30 s",
        "- Carried by: rule resource.memory",
        "- Occurrences: first time in 24 h",
        "",
        f"[Alert](http://127.0.0.1:8787/alerts/{alert_id}) · [Runbook](http://127.0.0.1:8787/runbooks/resource.memory)",
    ]


def test_a_check_tells_what_carries_it_and_which_tasks(make_world):
    world = make_world(ops=", language: zh-CN")
    tasks = tuple(f"task-{n}" for n in range(12))
    found = Finding(
        "shop", "missing_outputs", "missing_task_outputs", "critical", "缺 12 个输出", T0, {"missing_count": 12}, tasks
    )
    world.check("full", found)
    world.check("quick", ("high", "缺 1 个输出"))
    world.run(10)
    (text,) = texts(world)
    assert "**严重 (critical)** 缺 12 个输出" in text
    assert "- 依据: 完整检查 (critical), 快速检查 (high)" in text
    assert "- 次数: 24 小时内首次, 共 2 次运行发现" in text
    assert "task-9" in text
    assert "task-10" not in text, "at most ten tasks"
    assert "[处置手册](http://127.0.0.1:8787/runbooks/missing_outputs)" in text


LOSS = {
    "time_range_hours": 1, "total_success_tasks": 40, "missing_count": 6, "missing_rate": "15.0%", "pending_settle": 2,
    "since": {"at": "2026-02-01T05:00:00Z", "precision": "hour", "before_rate": 99.5, "after_rate": 80.0},
    "carried_by": [
        {"dimension": "endpoint", "value": "img2img", "tasks": 8, "missing": 6, "share_of_loss": 100.0, "share_of_traffic": 20.0}
    ],
    "as_of": "2026-02-01T05:59:30Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("language", "lines"),
    [
        ("en", [
            "- Completeness: 85.0% (6 of 40 tasks; healthy from 95%, high below 80%, critical below 50%)",
            "- Loss began: 2026-02-01 13:00:00 (UTC+08:00) = 05:00:00Z, completeness went from 99.5% to 80.0%",
            "- Mostly in: endpoint=img2img (6 of 8 tasks; 100.0% of the loss, 20.0% of the traffic)",
            "- Details: as_of 2026-02-01 13:59:30 (UTC+08:00) = 05:59:30Z, pending_settle 2",
        ]),
        ("zh-CN", [
            "- 完整率: 85.0%（40 个任务中 6 个异常；≥95% 健康，<80% 高，<50% 严重）",
            "- 缺失始于: 2026-02-01 13:00:00 (UTC+08:00) = 05:00:00Z，完整率由 99.5% 变为 80.0%",
            "- 主要来自: endpoint=img2img（8 个任务缺 6 个，占缺失 100.0%、占流量 20.0%）",
        ]),
    ],
)  # fmt: skip
def test_missing_outputs_are_told_with_share_since_when_and_where(make_world, language, lines):
    """Whoever is woken need not open the page to know what broke."""
    world = make_world(ops=f", language: {language}")
    world.check("quick", Finding("shop", "missing_outputs", "missing_task_outputs", "medium", "6 of 40", T0, LOSS))
    world.run(10)
    (text,) = texts(world)
    assert [line for line in lines if line not in text.splitlines()] == []


def test_an_alert_that_comes_and_goes_says_so(world):
    for n in range(5):
        world.says()
        world.run(60 * n + 29)
        world.says(condition="false")
        world.run(60 * n + 59)
    world.says()
    world.run(1000)
    assert "- Flapping: fired 6 times within 30 min; from here on told at most once every 10 min" in texts(world)[-1]
    assert "Flapping" not in texts(world)[0]


def test_a_test_message_names_channel_and_installation(world):
    from monitoring_pipelines.alerts.testing import send_test

    send_test(world.settings, world.state, world.clock)
    assert "Channel: ops" in texts(world)[0]
    assert "Page: http://127.0.0.1:8787" in texts(world)[0]


def test_the_end_is_told_with_how_long_it_lasted(world):
    world.says(value=3.0)
    world.run(60)
    world.says(condition="false")
    world.run(3 * 60)
    lines = texts(world)[1].splitlines()
    assert "**critical** Over: target.down is wrong" in lines
    assert "- Resolved: 2026-02-01 14:01:30 (UTC+08:00) = 06:01:30Z, after 1 min 30 s" in lines
    assert "- Last value: 3" in lines


def test_a_rise_says_that_it_is_one(world):
    world.says(severity="medium")
    world.run(20)
    world.says(severity="critical")
    world.run(30)
    assert "**raised to critical** target.down is wrong" in texts(world)[1]


def test_how_often_it_came_today_is_told(world):
    for n in range(3):
        world.says()
        world.run(120 * n + 59)
        world.says(condition="false")
        world.run(120 * n + 119)
    assert "- Occurrences: fired 3 times in 24 h" in texts(world)[4]


def test_many_alerts_are_told_one_by_one_up_to_a_limit_and_then_counted(world):
    for n in range(25):
        world.says(labels={"target": f"t{n:02}"})
    world.run(10)
    (text,) = texts(world)
    assert text.splitlines()[0] == "### [FIRING] target.down (collector) ×25"
    assert text.count("- Scope:") == 20
    assert "5 more alerts: http://127.0.0.1:8787/alerts" in text


def test_links_follow_the_configuration(make_world):
    links = "  links: {dashboard: 'https://mp.example/', runbooks: 'https://docs.example/rb', dagster: 'https://dag.example'}"
    world = make_world(alerts=links)
    found = Finding("shop", "missing_outputs", "missing_task_outputs", "critical", "x", T0, {"dagster_run_id": "r-1"})
    world.check("full", found)
    world.run(10)
    (text,) = texts(world)
    assert "(https://mp.example/alerts/" in text
    assert "[Dagster run](https://dag.example/runs/r-1)" in text
    assert "[Runbook](https://docs.example/rb/missing_outputs.md)" in text


@pytest.mark.parametrize(
    ("links", "base"),
    [("", "http://127.0.0.1:9123"), ("  links: {dashboard: 'https://mp.example'}", "https://mp.example")],
)
def test_links_lead_to_where_the_page_is_served_unless_another_address_is_configured(
    make_world, monkeypatch, links, base
):
    monkeypatch.setenv("MP_PAGE_URL", "http://127.0.0.1:9123")
    world = make_world(alerts=links)
    world.check("full", Finding("shop", "missing_outputs", "missing_task_outputs", "critical", "x", T0, {}))
    world.run(10)
    (text,) = texts(world)
    assert f"({base}/alerts/" in text
    assert f"[Runbook]({base}/runbooks/missing_outputs)" in text


def test_text_of_sources_cannot_break_the_markup(world):
    world.says(message="a\n# b [x](http://evil) **c**", labels={"target": "<b>"})
    world.run(10)
    (text,) = texts(world)
    assert "a # b \\[x\\](http://evil) \\*\\*c\\*\\*" in text
    assert "target=\\<b\\>" in text


@pytest.mark.parametrize(
    ("value", "text"), [(3e9, "3,000,000,000"), (0.0, "0"), (2.5, "2.50"), (0.04567, "0.0457"), (-3.0, "-3")]
)
def test_numbers_are_readable(value, text):
    assert number(value) == text


def test_durations_have_their_two_largest_units():
    english, chinese = words_of("en", "UTC", T0), words_of("zh-CN", "UTC", T0)
    assert english.duration(90061) == "1 d 1 h"
    assert chinese.duration(3599) == "59 分 59 秒"
    assert english.duration(0) == "0 s"


def test_escaped_text_is_one_line():
    assert "\n" not in escape("a\nb\r\nc")


def test_an_alert_about_missing_outputs_says_what_repair_has_done(world):
    from sqlalchemy import insert

    from monitoring_pipelines.state import tables

    with world.state.begin() as con:
        con.execute(insert(tables.repair_plan).values(
            plan_id="P1", source_id="shop", created_at=T0, created_by="li", mode="only_if_empty", state="applied",
            counters={"rows_planned": 2},
        ))  # fmt: skip
        for seq, run_state in enumerate(("committed", "failed")):
            con.execute(insert(tables.repair_item).values(
                plan_id="P1", seq=seq, task_key=f"t{seq}", run_state=run_state, tries=1, **{"class": "recoverable"},
            ))  # fmt: skip
    world.check("full", ("critical", "2 outputs are missing"))
    world.run(10)
    assert "- Repair: plan P1 (applied): 1 task repaired, 1 left" in texts(world)[0]
