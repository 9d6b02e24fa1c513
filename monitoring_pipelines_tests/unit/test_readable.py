"""Lengths of time, sizes and shares are said as people say them, in messages and on pages alike (A-309)."""

from __future__ import annotations

from datetime import datetime

import pytest

from monitoring_pipelines.alerts.rules.table import SHIPPED, Rule, shipped
from monitoring_pipelines.alerts.wording import words_of
from monitoring_pipelines.readable import counted, size, span


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0, "0 s", "0 秒"), (0.25, "0.25 s", "0.25 秒"), (5.4, "5.4 s", "5.4 秒"), (59.94, "59.9 s", "59.9 秒"), (60, "1 min", "1 分"),
        (754.9, "12 min 34 s", "12 分 34 秒"), (3600, "1 h", "1 小时"), (86_399, "23 h 59 min", "23 小时 59 分"), (90_000, "1 d 1 h", "1 天 1 小时"),
        (-754, "-12 min 34 s", "-12 分 34 秒"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_said_with_its_two_largest_units(seconds: float, english: str, chinese: str) -> None:
    assert (span(seconds, "en"), span(seconds, "zh-CN")) == (english, chinese)


def test_a_short_form_leaves_out_what_hardly_matters() -> None:
    assert [span(one, "en", brief=True) for one in (5.9, 754, 330, 40 * 3600)] == [
        "5 s",
        "12 min",
        "5 min 30 s",
        "1 d 16 h",
    ]


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize(
    "rule", [rule for rule in SHIPPED if rule.unit == "s" and "{value" in rule.en], ids=lambda rule: rule.id
)
def test_no_rule_says_raw_seconds(rule: Rule, language: str) -> None:
    said = rule.text(language, {"value": 754.0, "threshold": 600.0, "period_s": 300.0})
    assert span(754, language) in said
    assert "754" not in said


def test_bytes_and_shares_are_said_with_their_units() -> None:
    rules = shipped()
    assert rules["resource.memory"].text("en", {"process": "p", "value": 3.5e9, "threshold": 3e9}) == (
        "p uses 3.26 GiB of memory (limit 2.79 GiB)"
    )
    assert size(512 * 1024**2) == "512.0 MiB"
    text = rules["tasks.failure_rate"].text("zh-CN", {"value": 0.125, "threshold": 0.1, "failed": 1, "ended": 8})
    assert text == "近 24 小时 8 个任务中 1 个失败（12.5%，上限 10%）"


def test_what_is_not_known_stays_a_dash_in_every_form() -> None:
    assert shipped()["tasks.queue_wait"].text("en", {}) == "the oldest waiting task has waited – (limit –)"


def test_a_message_gives_value_and_threshold_in_the_same_words() -> None:
    words = words_of("en", "UTC", datetime(2026, 1, 1))
    assert words._value({"value": 754.0, "threshold": 600.0, "unit": "s"}) == "12 min 34 s (threshold 10 min)"
    assert words._value({"value": 3.5e9, "threshold": 3e9, "unit": "bytes"}) == "3.26 GiB (threshold 2.79 GiB)"


@pytest.mark.parametrize(
    ("template", "of_one", "of_two"),
    [
        (
            "{n} succeeded tasks have no end time",
            "1 succeeded task has no end time",
            "2 succeeded tasks have no end time",
        ),
        ("{n} outputs belong to no task", "1 output belongs to no task", "2 outputs belong to no task"),
        ("{a} of {n} tasks failed", "{a} of 1 task failed", "{a} of 2 tasks failed"),
        ("{x}: {n} tasks wait", "{x}: 1 task waits", "{x}: 2 tasks wait"),
        ("has failed {n} times since", "has failed 1 time since", "has failed 2 times since"),
        ("{x} has {n} threads", "{x} has 1 thread", "{x} has 2 threads"),
    ],
)
def test_one_thing_is_counted_as_one(template: str, of_one: str, of_two: str) -> None:
    values = {"a": "{a}", "x": "{x}"}
    assert [counted(template, {"n": n} | values).format(n=n, **values) for n in (1, "1", 2)] == [of_one, of_one, of_two]
    assert counted(template, {"n": 1.0} | values) == counted(template, {"n": 1} | values), "as it is shown"


def test_a_text_of_the_source_that_counts_badly_stays_as_it_is() -> None:
    rule = Rule("x.y", (), "job failed: {error}", "")
    assert rule.text("en", {"error": "deleted 1 rows"}) == "job failed: deleted 1 rows"
