"""Great Expectations suites: shape, ranges, uniqueness and completeness of what the product stores and inserts.

What belongs here: functions that return an ``ExpectationSuite``, and the list of suites with their batches. What does
not: running them (``quality.expectations``), limits of their own (bands come from the configuration, columns from the
SQL models) and invariants that need a query (``dbt_like_sql/audits``).

Great Expectations is imported inside the functions: the import costs several CPU-seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.severity import BandLimits, Severity

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.expectations import Expectation

#: Names of E-201 that a final task may have, and origins of E-102.
FINAL_STATUSES = ("succeeded", "failed", "timed_out", "cancelled")
ORIGINS = ("app", "repair", "placeholder", "inline")
#: Longest error message the store keeps, characters.
ERROR_CHARS = 1000
#: An http or https address with a host (R-211).
_HTTP_URI = r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#\s@]+(?:[/?#]\S*)?$"
#: What Great Expectations calls a severity, by the product's.
_GX_SEVERITY: dict[Severity, str] = {
    "info": "info", "low": "info", "medium": "warning", "high": "critical", "critical": "critical",
}  # fmt: skip
#: Types of pandas that a column of numbers, of instants and of yes or no may arrive as.
_NUMBER = ["int64", "Int64Dtype", "int32", "Int32Dtype", "float64", "Float64Dtype"]
_INSTANT = ["datetime64[us]", "datetime64[ns]"]
_YES_NO = ["bool", "BooleanDtype"]


@dataclass(frozen=True)
class Suite:
    """One suite and the batch it judges.

    ``batch``: file below ``dbt_like_sql/expectations``. ``build`` gets the bands. ``index``: columns
    that name a row. ``sampled_by``: time column of a table that grows with traffic; of a large window only a share of the
    rows is taken.
    """

    id: str
    table: str
    batch: str
    build: Callable[[BandLimits], ExpectationSuite]
    index: tuple[str, ...]
    sampled_by: str | None = None


@dataclass(frozen=True)
class TargetColumns:
    """What the output table of a source allows (R-210, R-211), from its ``information_schema``.

    Attributes:
        lengths: Unified name of a text column → most characters; None: no limit.
        task_key_length: Most characters of the table's task-key column; None: no limit.
        media_types: Allowed media types, lower case; None: any.
    """

    lengths: Mapping[str, int | None] = field(default_factory=dict)
    task_key_length: int | None = None
    media_types: tuple[str, ...] | None = None


def task_suite(_bands: BandLimits) -> ExpectationSuite:
    """Final, settled tasks of a window (``raw.task``)."""
    return _suite(
        "raw_task",
        _columns_there("task_key", "endpoint", "status", "created_at", "started_at", "ended_at", "effective_end"),
        _typed(_INSTANT, "created_at", "started_at", "ended_at", "effective_end"),
        _not_null("task_key", "endpoint", "status", "effective_end"),
        _expect("ColumnValueLengthsToBeBetween", "a key is not empty", column="task_key", min_value=1),
        _expect("ColumnValuesToBeInSet", "one row per key (E-602)", column="copies", value_set=[1]),
        _expect("ColumnValuesToBeInSet", "the status is final", column="status", value_set=list(FINAL_STATUSES)),
        _expect(
            "ColumnPairValuesAToBeGreaterThanB", "a task ends after it started", "low", covered_by="bad_times", or_equal=True,
            column_A="ended_at", column_B="started_at", ignore_row_if="either_value_is_missing",
        ),
        _expect(
            "ColumnPairValuesAToBeGreaterThanB", "a task starts after it was created", "low", or_equal=True,
            column_A="started_at", column_B="created_at", ignore_row_if="either_value_is_missing",
        ),
        _expect("ColumnValuesToBeBetween", "errors are cut", "low", column="error_length", max_value=ERROR_CHARS),
    )  # fmt: skip


def task_output_suite(_bands: BandLimits) -> ExpectationSuite:
    """Live outputs created in a window (``raw.task_output``)."""
    return _suite(
        "raw_task_output",
        _columns_there("output_key", "task_key", "natural_key", "uri", "size_bytes", "created_at", "origin", "valid"),
        _typed(_NUMBER, "size_bytes"),
        _typed(_INSTANT, "created_at"),
        _typed(_YES_NO, "valid"),
        _not_null("output_key", "task_key", "origin", "valid"),
        _expect("ColumnValuesToBeInSet", "one row per key (E-602)", column="copies", value_set=[1]),
        _expect("ColumnValuesToBeInSet", "the origin is known (E-102)", column="origin", value_set=list(ORIGINS)),
        _expect("ColumnValuesToBeBetween", "a size is not negative", "medium", column="size_bytes", min_value=0),
        _expect("ColumnValueLengthsToBeBetween", "a link is not empty", "medium", column="uri", min_value=1),
        _expect(
            "ColumnValuesToBeInSet",
            "no output twice (C-110)",
            "medium",
            covered_by="duplicates",
            column="same_output",
            value_set=[1],
        ),
        _expect(
            "ColumnValuesToBeInSet",
            "its task exists (C-111)",
            "medium",
            covered_by="orphans",
            column="task_known",
            value_set=[True],
        ),
    )


def endpoint_stats_suite(_bands: BandLimits) -> ExpectationSuite:
    """Closed hours of ``mart.endpoint_hourly_stats``."""
    return _stats_suite("mart.endpoint_hourly_stats", ["source_id", "endpoint", "stat_hour"])


def output_stats_suite(_bands: BandLimits) -> ExpectationSuite:
    """Closed hours of ``mart.output_hourly_stats``."""
    settled = _expect("ColumnValuesToBeInSet", "a closed hour is settled", column="pending_settle", value_set=[0])
    sums = _expect(
        "ColumnPairValuesAToBeGreaterThanB", "no more tasks with outputs than tasks", or_equal=True,
        column_A="success_tasks", column_B="tasks_with_outputs", ignore_row_if="either_value_is_missing",
    )  # fmt: skip
    return _stats_suite("mart.output_hourly_stats", ["source_id", "endpoint", "stat_hour"], settled, sums)


def completeness_suite(bands: BandLimits) -> ExpectationSuite:
    """Completion rate per endpoint and of all (``*``), against the bands of C-002."""
    limits: tuple[tuple[float, Severity, str], ...] = (
        (100, "low", "no output is missing"),
        (bands.healthy, "medium", "healthy"),
        (bands.degraded, "high", "at least degraded"),
        (bands.critical, "critical", "not critical"),
    )
    return _suite(
        "completeness",
        _columns_there("endpoint", "success_tasks", "tasks_with_outputs", "completion_rate"),
        _expect(
            "ColumnPairValuesAToBeGreaterThanB", "no more tasks with outputs than tasks", or_equal=True,
            column_A="success_tasks", column_B="tasks_with_outputs", ignore_row_if="either_value_is_missing",
        ),
        [
            _expect(
                "ColumnValuesToBeBetween", why, severity, covered_by="missing_outputs", column="completion_rate",
                min_value=limit,
            )
            for limit, severity, why in limits
        ],
    )  # fmt: skip


def repair_rows_suite(target: TargetColumns) -> ExpectationSuite:
    """Rows a repair would insert (R-211). One row per output; columns task_key, natural_key, uri, media_type, size_bytes
    and the text columns of the target.
    """
    media = target.media_types
    return _suite(
        "repair_rows",
        _columns_there("task_key", "natural_key", "uri", "media_type", "size_bytes"),
        _not_null("task_key", "natural_key", "uri", "media_type"),
        _expect("ColumnValuesToMatchRegex", "http(s) address with a host", column="uri", regex=_HTTP_URI),
        _expect("ColumnValueLengthsToBeBetween", "a media type is not empty", column="media_type", min_value=1),
        [_expect("ColumnValuesToBeInSet", "allowed media type", column="media_type", value_set=list(media))]
        if media
        else [],
        _expect("ColumnValuesToBeBetween", "a size is not negative", column="size_bytes", min_value=0),
        _expect("CompoundColumnsToBeUnique", "no output twice in a task", column_list=["task_key", "natural_key"]),
        _at_most("task_key", target.task_key_length, "the task key fits into the table"),
        [part for name, most in sorted(target.lengths.items()) for part in _at_most(name, most, f"{name} fits")],
    )


#: All suites over stored data, by id. The id is also the check id ``expectations.<id>``.
SUITES: Mapping[str, Suite] = {
    suite.id: suite
    for suite in (
        Suite("task", "raw.task", "task", task_suite, ("task_key",), "effective_end"),
        Suite("task_output", "raw.task_output", "task_output", task_output_suite, ("output_key",), "created_at"),
        Suite(
            "endpoint_stats", "mart.endpoint_hourly_stats", "endpoint_stats", endpoint_stats_suite,
            ("endpoint", "stat_hour"),
        ),
        Suite(
            "output_stats", "mart.output_hourly_stats", "output_stats", output_stats_suite, ("endpoint", "stat_hour")
        ),
        Suite("completeness", "mart.output_hourly_stats", "completeness", completeness_suite, ("endpoint",)),
    )
}  # fmt: skip


def _stats_suite(table: str, key: Sequence[str], *more: Expectation) -> ExpectationSuite:
    """Shape, key and ranges of a statistics table, from the columns of its SQL model."""
    from monitoring_pipelines.warehouse.sql_models import load_model

    columns = load_model(table).columns
    shares = [name for name, column in columns.items() if column.unit == "percent"]
    counts = [
        name for name, column in columns.items()
        if name not in shares and column.rollup in ("sum", "max", "min", "last") and column.unit not in (None, "map")
    ]  # fmt: skip
    return _suite(
        table.replace(".", "_"),
        _expect("TableColumnsToMatchSet", "every documented column is there", column_set=list(columns), exact_match=False),
        _expect("CompoundColumnsToBeUnique", "one row per key (M-907)", column_list=list(key)),
        _not_null(*key, "state", "revision"),
        _typed(_NUMBER, *counts, *shares),
        [_expect("ColumnValuesToBeBetween", "not negative (M-902)", column=name, min_value=0) for name in counts],
        [
            _expect("ColumnValuesToBeBetween", "a percentage (M-902)", column=name, min_value=0, max_value=100)
            for name in shares
        ],
        list(more),
    )  # fmt: skip


def _suite(name: str, *parts: Expectation | list[Expectation]) -> ExpectationSuite:
    from great_expectations import ExpectationSuite

    expectations: list[Expectation] = []
    for part in parts:
        expectations += part if isinstance(part, list) else [part]
    return ExpectationSuite(name=name, expectations=expectations)


def _expect(
    kind: str, why: str, severity: Severity = "high", *, covered_by: str | None = None, **arguments: Any
) -> Expectation:
    """One expectation.

    Args:
        kind: Class name without ``Expect``.
        why: What holds, in a few words.
        severity: What its failure means to us; Great Expectations gets the nearest of its three words.
        covered_by: The check that finds the same; then the failure is shown but is no finding of its own.
        arguments: As Great Expectations wants them.
    """
    from great_expectations import expectations

    factory = getattr(expectations, f"Expect{kind}")
    meta = {"severity": severity} | ({"covered_by": covered_by} if covered_by else {})
    return factory(description=why, severity=_GX_SEVERITY[severity], meta=meta, **arguments)


def _not_null(*columns: str) -> list[Expectation]:
    return [_expect("ColumnValuesToNotBeNull", "is always known", column=name) for name in columns]


def _columns_there(*columns: str) -> Expectation:
    return _expect("TableColumnsToMatchSet", "the columns are there", column_set=list(columns), exact_match=False)


def _at_most(column: str, most: int | None, why: str) -> list[Expectation]:
    if most is None:
        return []
    return [_expect("ColumnValueLengthsToBeBetween", why, column=column, max_value=most)]


def _typed(types: list[str], *columns: str) -> list[Expectation]:
    return [_expect("ColumnValuesToBeInTypeList", "has its type", column=name, type_list=types) for name in columns]
