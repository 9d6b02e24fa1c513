"""What a rule would have done, against timelines made by hand (C-602, A-201, A-202)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring_pipelines.cli.app import run
from monitoring_pipelines.config.schema_alerts import RuleSettings
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.quality.backtest import backtest, candidate
from monitoring_pipelines.warehouse.lake import Lake
from monitoring_pipelines.warehouse.publish import publish
from monitoring_pipelines.warehouse.windows import prepare

FROM = datetime(2026, 2, 1)
NOW = datetime(2026, 2, 3, 4)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def depths(store):
    """``depths({"a": [1, None, 7]})``: the queue depth of every minute from FROM on; "-" is a minute without row."""

    def make(series, head=""):
        world = store(head)
        with world.pipe.warehouse.writer("marts") as con:
            prepare(con)
            for endpoint, values in series.items():
                for number, value in enumerate(values):
                    if value != "-":
                        con.execute(
                            "INSERT INTO mart.endpoint_minute_stats (source_id, endpoint, stat_minute, queue_depth_end, "
                            "total_workers, tasks_completed, tasks_failed, tasks_timeout, state) "
                            "VALUES ('shop', ?, ?, ?, 0, 9, 1, 0, 'closed')",
                            [endpoint, FROM + MINUTE * number, value],
                        )
            con.execute(
                "INSERT INTO meta.publish_pending SELECT uuid()::VARCHAR, 'mart.endpoint_minute_stats', "
                "date_trunc('hour', stat_minute), now()::TIMESTAMP FROM mart.endpoint_minute_stats GROUP BY ALL"
            )
            publish(con, world.settings.lake_path, world.clock, budget_s=3600.0)
        return world

    return make


def rule(**more):
    return RuleSettings.model_validate(
        {"id": "deep", "metric": "endpoint_minute_stats.queue_depth_end", "op": ">", "threshold": 5, "severity": "high"}
        | more
    )


def replay(world, minutes=10, **more):
    wanted = candidate(world.settings, "deep", rule(**more))
    return backtest(Lake(world.settings.lake_path), wanted, FROM, FROM + MINUTE * minutes)


def spans(found):
    def minute(at):
        return None if at is None else round((at - FROM) / MINUTE)

    return [(one["labels"]["endpoint"], minute(one["from"]), minute(one["to"])) for one in found["list"]]


def test_it_fires_at_the_end_of_the_bucket_and_resolves_at_the_first_false_one(depths):
    found = replay(depths({"a": [1, 6, 7, 5, 1], "b": [5] * 5}))
    assert spans(found) == [("a", 2, 4)]
    assert (found["subjects"], found["subjects_fired"], found["firings"], found["firing_s"]) == (2, 1, 1, 120.0)
    assert (found["list"][0]["worst"], found["list"][0]["severity"]) == (7.0, "high")


def test_for_counts_from_the_first_true_evaluation_and_any_false_one_resets_it(depths):
    found = replay(depths({"a": [6, 6, 1, 6, 6, 6, 1]}), **{"for": 120})
    assert spans(found) == [("a", 6, 7)]


def test_missing_buckets_and_values_end_a_wait_but_resolve_nothing(depths):
    assert spans(replay(depths({"a": [6, None, 6, 6, 1]}), **{"for": 60})) == [("a", 4, 5)]
    assert spans(replay(depths({"a": [6, "-", "-", 6, 1]}))) == [("a", 1, 5)]


def test_absence_fires_where_the_rule_says_so(depths):
    found = replay(depths({"a": [1, "-", "-", 1]}), absent="fire", minutes=4)
    assert spans(found) == [("a", 2, 4)]


def test_what_still_holds_at_the_end_is_still_firing(depths):
    found = replay(depths({"a": [1, 6, 6]}), minutes=3)
    assert (spans(found), found["still_firing"], found["longest_s"]) == ([("a", 2, None)], 1, 60.0)


def test_filters_and_windows(depths):
    world = depths({"a": [6, 6, 6], "b": [6, 6, 6]})
    assert {one[0] for one in spans(replay(world, filter={"endpoint": "b"}))} == {"b"}
    found = replay(world, window=2)
    assert found["window"] == 2


def test_shipped_endpoint_rules_can_be_replayed_with_their_levels(depths):
    world = depths({"a": [0, 120, 600, 120, 0]})
    found = backtest(
        Lake(world.settings.lake_path), candidate(world.settings, "endpoint.queue_depth"), FROM, FROM + MINUTE * 10
    )
    assert [level["threshold"] for level in found["levels"]] == [100, 500]
    assert found["list"][0]["severity"] == "high"
    waiting = backtest(
        Lake(world.settings.lake_path), candidate(world.settings, "endpoint.no_workers"), FROM, FROM + MINUTE * 10
    )
    assert spans(waiting) == [("a", 2, 5)]
    share = backtest(
        Lake(world.settings.lake_path), candidate(world.settings, "endpoint.failure_share"), FROM, FROM + MINUTE * 10
    )
    assert (share["firings"], share["list"][0]["worst"]) == (1, 10.0)


@pytest.mark.parametrize("name", ["nothing", "tasks.backlog"])
def test_rules_without_stored_history_are_refused(store, name):
    with pytest.raises(UsageError, match="no rule"):
        candidate(store().settings, name)
    with pytest.raises(UsageError, match="unknown"):
        candidate(store().settings, "x", rule(metric="endpoint_minute_stats.queue_dept"))


@given(st.lists(st.one_of(st.none(), st.integers(0, 10)), max_size=25), st.sampled_from([0, 60, 180]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_replay_agrees_with_a_plain_loop(values, for_s):
    from fractions import Fraction

    from monitoring_pipelines.alerts.rules.metrics import find
    from monitoring_pipelines.quality.backtest import Candidate, _replay

    wanted = Candidate(
        "deep", find("endpoint_minute_stats.queue_depth_end", 1), 1, ">", (("high", Fraction(5)),), for_s
    )
    rows = iter([{"bucket": FROM + MINUTE * n, "queue_depth_end": value} for n, value in enumerate(values)])
    end = FROM + MINUTE * len(values)
    found = [(one.start, one.end) for one in _replay(wanted, "shop", {}, rows, FROM, end)]
    expected, since, firing = [], None, None
    for number, value in enumerate(values, 1):
        at = FROM + MINUTE * number
        if value is None:
            since = since if firing else None
        elif value <= 5:
            if firing is not None:
                expected.append((firing, at))
            since = firing = None
        else:
            since = since or at
            if firing is None and (at - since).total_seconds() >= for_s:
                firing = at
    assert found == expected + ([(firing, None)] if firing else [])


def test_the_command_replays_a_rule_that_is_not_saved_yet(depths, capsys, monkeypatch):
    world = depths({"a": [1, 6, 7, 1]})
    monkeypatch.setenv("MP_CONFIG", str(world.settings.file))
    words = ["rules", "backtest", "new", "--metric", "endpoint_minute_stats.queue_depth_end", "--op", ">", "--threshold", "5", "--days", "3",
             "--now", "2026-02-03T04:00:00Z"]  # fmt: skip
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["firings"], found["list"][0]["from"], found["list"][0]["to"]) == (
        1,
        "2026-02-01T00:02:00Z",
        "2026-02-01T00:04:00Z",
    )
    assert run(words) == 0
    assert "1 subject: fired 1 time for 1 subject, " in capsys.readouterr().out
    assert run(["rules", "backtest", "new", "--metric", "endpoint_minute_stats.queue_depth_end", "--op", ">"]) == 2


def test_a_rule_over_statistics_without_rows_is_refused_instead_of_called_calm(depths):
    """Before anything is computed there is nothing to replay: exit code 2 with what to do, not `fired 0 times`."""
    world = depths({})
    with pytest.raises(UsageError, match="endpoint_minute_stats has no published rows") as refused:
        replay(world)
    assert "mp aggregate" in str(refused.value.hint)
    assert refused.value.exit_code == 2
