"""S-301 to S-305: the text of families, whatever their values."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from monitoring_pipelines.metrics.exposition import EOF, Family, as_openmetrics, as_text, dropped_series, limited


def family(kind: str = "counter", labels: tuple[str, ...] = ("a",)) -> Family:
    return Family("mp_x_total" if kind == "counter" else "mp_x", kind, "What\nit \\ is", labels)  # type: ignore[arg-type]


def test_label_values_and_help_are_escaped_and_missing_ones_are_empty() -> None:
    labels = ("job_id", "job_name", "owner", "category")
    jobs = Family("scheduler_job_failure_total", "counter", "Number of failed job runs (including timeouts)", labels)
    jobs.add(("nightly", 'sum "A" \\ B\nnight', None, "Billing"), 7)
    assert as_text([jobs]).splitlines()[2] == (
        'scheduler_job_failure_total{job_id="nightly",job_name="sum \\"A\\" \\\\ B\\nnight",owner="",category="Billing"} 7'
    )
    assert as_text([family()]).splitlines()[0] == "# HELP mp_x_total What\\nit \\\\ is"


def test_integers_have_no_point_durations_two_decimals_and_the_text_ends_with_a_line_feed() -> None:
    gauge = Family("g", "gauge", "h", (), digits=2)
    gauge.add((), 1234.5)
    whole = Family("w", "gauge", "h")
    whole.add((), Decimal("3.000"))
    text = as_text([gauge, whole])
    assert "\ng 1234.50\n" in text
    assert text.endswith("\nw 3\n")


def test_null_is_not_exported_and_zero_is() -> None:
    found = family("gauge")
    found.add(("unknown",), None)
    found.add(("zero",), 0)
    assert [line for line in as_text([found]).splitlines() if not line.startswith("#")] == ['mp_x{a="zero"} 0']


def test_surplus_series_fold_into_other_for_counters_and_are_dropped_for_gauges() -> None:
    counter, gauge = family("counter"), family("gauge")
    for n in range(10):
        counter.add((f"v{n}",), n + 1)
        gauge.add((f"v{n}",), n + 1)
    (folded, kept), left_out = limited([counter, gauge], 4, 200)
    assert sorted(folded.samples) == [(("__other__",), 28), (("v7",), 8), (("v8",), 9), (("v9",), 10)]
    assert sum(n for _, n in folded.samples) == 55
    assert [values for values, _ in kept.samples] == [("v9",), ("v8",), ("v7",), ("v6",)]
    assert dict(dropped_series(left_out).samples) == {("mp_x_total",): 7, ("mp_x",): 6}


def test_label_values_are_cut_and_parts_of_openmetrics_have_no_end_of_their_own() -> None:
    found = family("counter")
    found.add(("x" * 500,), 1)
    (cut,), _ = limited([found], 10, 200)
    assert len(cut.samples[0][0][0]) == 200
    assert "EOF" not in as_openmetrics([cut])


def test_openmetrics_says_what_the_text_says_to_the_librarys_parser() -> None:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    counter, gauge = family("counter", ("a", "b")), replace(family("gauge", ("a",)), name="mp_y")
    counter.add(('q"\\\n', None), 7)
    counter.add(("x", "y"), Decimal("1.5"))
    gauge.add(("z",), 1e300)
    gauge.add(("w",), -0.25)
    text = as_openmetrics([replace(counter, help='say "what"\nit \\ is'), gauge]) + EOF
    first, second = text_string_to_metric_families(text)
    assert (first.name, first.type, first.documentation) == ("mp_x", "counter", 'say "what"\nit \\ is')
    assert [(s.name, s.labels, s.value) for s in first.samples] == [
        ("mp_x_total", {"a": 'q"\\\n', "b": ""}, 7), ("mp_x_total", {"a": "x", "b": "y"}, 1.5),
    ]  # fmt: skip
    assert [(s.labels["a"], s.value) for s in second.samples] == [("z", 1e300), ("w", -0.25)]


def test_series_whose_labels_are_equal_once_cut_are_one_series() -> None:
    counter, gauge = family("counter"), family("gauge")
    for one in (counter, gauge):
        one.add(("x" * 200 + "a",), 3)
        one.add(("y",), 1)
        one.add(("x" * 200 + "b",), 4)
    (added, largest), left_out = limited([counter, gauge], 10, 200)
    assert added.samples == [(("x" * 200,), 7), (("y",), 1)]
    assert largest.samples == [(("x" * 200,), 4), (("y",), 1)]
    assert left_out == {}
