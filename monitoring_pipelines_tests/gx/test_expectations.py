"""What the suites accept and refuse, how results are stored, and that nothing of it costs a run that does not use it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from monitoring_pipelines.quality import expectations, suites
from monitoring_pipelines.quality.expectations import Batch
from monitoring_pipelines.quality.model import CheckOutcome
from monitoring_pipelines.quality.suites import SUITES, TargetColumns
from monitoring_pipelines.severity import BandLimits, health_of, highest, severity_of
from monitoring_pipelines_tests.quality.bench import NOW, Store

HOUR = timedelta(hours=1)
MakeStore = Callable[..., Store]


def failed(outcome: CheckOutcome) -> dict[str, dict]:
    """Failed expectations by what they say."""
    assert outcome.expectation is not None
    return {one["why"]: one for one in outcome.expectation["expectations"] if not one["success"]}


def good(store: MakeStore) -> Store:
    made = store()
    made.tasks(20, 20, NOW - HOUR)
    return made


def test_sound_rows_pass_every_expectation(store: MakeStore) -> None:
    made = good(store)
    for check in ("expectations.task", "expectations.task_output"):
        outcome = made.check(check, run_type="deep")
        assert (outcome.status, failed(outcome), outcome.findings) == ("passed", {}, ())
        assert outcome.expectation is not None
        assert outcome.expectation["rows"] == 20
        assert outcome.expectation["evaluated"] > 10


def test_each_kind_of_unsound_task_is_named_with_examples(store: MakeStore) -> None:
    made = good(store)
    end = NOW - 2 * HOUR
    made.task("twice", end, 1)
    made.task("twice", end)
    made.task("", end)
    made.task("odd", end, status="done")
    made.task("late", end, started_at=end + timedelta(seconds=5))
    made.task("talkative", end, error_message="x" * 1001)
    outcome = made.check("expectations.task", run_type="deep")
    assert outcome.status == "findings"
    found = failed(outcome)
    assert set(found) == {
        "a key is not empty", "one row per key (E-602)", "the status is final", "a task ends after it started",
        "errors are cut",
    }  # fmt: skip
    assert found["one row per key (E-602)"]["unexpected"] == 2
    assert found["the status is final"]["examples"] == [{"status": "done", "task_key": "odd"}]
    (finding,) = outcome.findings
    assert (finding.severity, finding.alert_type) == ("high", "expectations_failed")
    assert finding.details["failed_count"] == 4, "bad_times finds tasks that end before they start (C-114)"


def test_each_kind_of_unsound_output_is_named(store: MakeStore) -> None:
    made = good(store)
    at = NOW - 2 * HOUR
    made.output("t000001", at, size_bytes=-1)
    made.output("t000001", at, uri="")
    made.output("t000001", at, origin="elsewhere")
    made.output("nobody", at)
    made.output("t000001", at, natural_key="same")
    made.output("t000001", at, natural_key="same")
    outcome = made.check("expectations.task_output", run_type="deep")
    assert set(failed(outcome)) == {
        "a size is not negative", "a link is not empty", "the origin is known (E-102)", "its task exists (C-111)",
        "no output twice (C-110)",
    }  # fmt: skip
    assert outcome.findings[0].details["failed_count"] == 3, "duplicates and orphans have checks of their own"


def test_what_is_not_settled_is_not_judged(store: MakeStore) -> None:
    """C-101: exactly settle_s ago is settled."""
    made = store()
    made.task("open", NOW - timedelta(seconds=299), status="odd")
    assert made.check("expectations.task", run_type="deep").status == "insufficient_data"
    made.task("settled", NOW - timedelta(seconds=300), status="odd")
    assert made.check("expectations.task", run_type="deep").metrics["rows"] == 1


def test_nothing_to_judge_is_not_a_pass(store: MakeStore) -> None:
    outcome = store().check("expectations.task", run_type="deep")
    assert (outcome.status, outcome.findings) == ("insufficient_data", ())


def test_an_expectation_that_cannot_be_evaluated_is_an_error_not_a_failure() -> None:
    frame = pd.DataFrame({"endpoint": ["a"], "success_tasks": [1], "tasks_with_outputs": [1], "completion_rate": ["x"]})
    outcome = expectations.judge(SUITES["completeness"], Batch(frame, NOW - HOUR, NOW), "shop", BandLimits(), NOW)
    assert (outcome.status, outcome.findings) == ("error", ())
    assert "could not be evaluated" in (outcome.message or "")


BORDERS = [
    (40, 40),
    (38, 40),
    (37, 40),
    (32, 40),
    (31, 40),
    (20, 40),
    (19, 40),
    (7599, 8000),
    (31999, 40000),
    (99, 100),
]


@pytest.mark.parametrize("bands", [BandLimits(), BandLimits(99, 90, 60)])
def test_completeness_has_the_limits_of_the_bands(bands: BandLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-002 at its borders; one threshold in one place."""
    monkeypatch.setattr(expectations, "EXAMPLES", len(BORDERS))
    rows = [
        {"endpoint": f"{w}/{n}", "success_tasks": n, "tasks_with_outputs": w, "completion_rate": 100.0 * w / n}
        for w, n in BORDERS
    ]
    outcome = expectations.judge(SUITES["completeness"], Batch(pd.DataFrame(rows), NOW - HOUR, NOW), "s", bands, NOW)
    worst: dict[str, str] = {}
    for one in failed(outcome).values():
        for example in one["examples"]:
            worst[example["endpoint"]] = highest([worst.get(example["endpoint"]), one["severity"]]) or ""
    assert worst == {f"{w}/{n}": severity_of(w, n, bands) for w, n in BORDERS if w < n}
    below = {example["endpoint"] for example in failed(outcome)["healthy"]["examples"]}
    assert below == {f"{w}/{n}" for w, n in BORDERS if health_of(w, n, bands) != "healthy"}
    assert outcome.findings == (), "missing_outputs says it already"


def test_large_windows_are_sampled_by_key_and_duplicates_are_still_seen(
    store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expectations, "MOST_ROWS", 15)
    made = store()
    for number in range(60):
        made.task(f"k{number}", NOW - HOUR)
        made.task(f"k{number}", NOW - HOUR)
    outcome = made.check("expectations.task", run_type="deep")
    assert outcome.metrics["keep_one_in"] == 8
    assert 0 < outcome.metrics["rows"] < 60
    assert failed(outcome)["one row per key (E-602)"]["unexpected"] == outcome.metrics["rows"]


def test_a_result_is_small_json(store: MakeStore) -> None:
    made = store()
    for number in range(80):
        made.task(f"k{number}", NOW - HOUR, status="x" * 300 + str(number))
    outcome = made.check("expectations.task", run_type="deep")
    text = json.dumps(outcome.expectation)
    assert len(text) < 10_000
    assert len(failed(outcome)["the status is final"]["examples"]) == expectations.EXAMPLES


ROW = {"task_key": "t", "natural_key": "a", "uri": "https://h/a", "media_type": "png", "size_bytes": None, "name": "n"}
TARGET = TargetColumns({"name": 4, "uri": 30}, 5, ("png", "jpg"))


BAD = [
    ({"uri": "ftp://h/a"}, "uri"), ({"uri": "https:///a"}, "uri"), ({"uri": "/a"}, "uri"), ({"uri": None}, "uri"),
    ({"uri": "https://h/" + "a" * 21}, "uri"), ({"name": "12345"}, "name"), ({"task_key": "123456"}, "task_key"),
    ({"media_type": ""}, "media_type"), ({"media_type": None}, "media_type"), ({"media_type": "exe"}, "media_type"),
    ({"size_bytes": -1}, "size_bytes"),
]  # fmt: skip


def test_every_bad_repair_row_is_named_with_its_reason_and_no_good_one() -> None:
    """R-211."""
    good_rows = [ROW, ROW | {"natural_key": "c", "size_bytes": 0, "name": "äöü€"}]
    rows = good_rows + [ROW | {"natural_key": f"b{n}"} | change for n, (change, _) in enumerate(BAD)]
    wrong = expectations.validate_repair_rows(rows, TARGET)
    assert set(wrong) == set(range(len(good_rows), len(rows)))
    for number, (_, reason) in enumerate(BAD, len(good_rows)):
        assert all(text.startswith(reason) for text in wrong[number])


def test_an_output_twice_in_one_task_is_bad_and_in_two_tasks_is_not() -> None:
    """R-211."""
    rows = [ROW, ROW, ROW | {"task_key": "u"}]
    assert set(expectations.validate_repair_rows(rows, TARGET)) == {0, 1}


def test_no_limit_means_no_limit() -> None:
    row = ROW | {"name": "n" * 5000, "media_type": "anything", "task_key": "k" * 300}
    assert expectations.validate_repair_rows([row], TargetColumns({"name": None})) == {}
    assert expectations.validate_repair_rows([], TARGET) == {}


def test_data_docs_are_readable_without_the_internet(tmp_path: Path) -> None:
    row = {"endpoint": "*", "success_tasks": 2, "tasks_with_outputs": 1, "completion_rate": 50.0}
    batch = Batch(pd.DataFrame([row]), NOW - HOUR, NOW)
    assert expectations.write_docs([(SUITES["completeness"], batch)], BandLimits(), str(tmp_path)) == 1
    pages = [page.read_text() for page in tmp_path.rglob("*.html")]
    assert (tmp_path / "index.html").exists()
    assert any("completion_rate" in page for page in pages)
    assert not [page for page in pages if 'src="http' in page or 'rel="stylesheet" href="http' in page]


def test_every_suite_names_a_batch_and_builds() -> None:
    for suite in SUITES.values():
        assert expectations._statement(suite.batch)
        built = suite.build(BandLimits())
        assert built.expectations
        assert all(one.description and one.meta["severity"] for one in built.expectations)


def test_importing_the_modules_does_not_import_the_library() -> None:
    """Ground rule 6."""
    code = (
        "import sys, monitoring_pipelines.quality.expectations, monitoring_pipelines.quality.suites, "
        "monitoring_pipelines.quality.checks.expectations\n"
        "print([m for m in ('great_expectations', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert suites.SUITES
