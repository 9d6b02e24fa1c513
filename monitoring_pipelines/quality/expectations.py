"""Running the expectation suites over batches of the warehouse (Great Expectations 1.x).

What belongs here: reading a batch, validating it, and the result in a form that fits a check result. What does not: the
suites (``quality.suites``) and what becomes of the outcome (``quality.runs``, ``orchestration``).

A batch is a pandas frame of a settled window of one source, read in one short look at the warehouse. Of a window with
more rows than ``MOST_ROWS`` a share is taken by key, so that memory does not grow with traffic. Importing the library
takes several CPU-seconds, so only runs that use it do, and only here.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.quality.model import CheckOutcome, CheckStatus, Finding
from monitoring_pipelines.quality.suites import SUITES, Suite, TargetColumns, repair_rows_suite
from monitoring_pipelines.severity import BandLimits, highest
from monitoring_pipelines.warehouse.sql_models import sql_root

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection
    from great_expectations import ExpectationSuite
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )

    from monitoring_pipelines.config import Settings

#: Check ids are this and the id of the suite.
PREFIX = "expectations."
#: Alert type of rows that are not as they must be.
ALERT_TYPE = "expectations_failed"
#: Rows of a batch at most; a batch of the widest table is then about 60 MB.
MOST_ROWS = 50_000
#: Examples kept of each failed expectation.
EXAMPLES = 5
#: Longest text of an example, characters.
EXAMPLE_CHARS = 120

#: Column of statistics by which a bad row belongs to a partition.
_HOUR = "stat_hour"
#: Arguments of an expectation that are shown, and how.
_LIMITS = {"min_value": "≥", "max_value": "≤", "value_set": "one of", "regex": "like", "type_list": "one of"}

#: Stands in for the style sheet that Data Docs would fetch.
_PLAIN_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem;color:#222}table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{border:1px solid #ddd;padding:.25rem .6rem;text-align:left;vertical-align:top}.fa-times{color:#c00}"
    ".fa-times::before{content:'✗'}.fa-check-circle::before{content:'✓'}.fa-check-circle{color:#080}"
    ".modal,.navbar-toggler,[class*=cta]{display:none}"
)


@dataclass(frozen=True)
class Batch:
    """Rows to judge: a frame, and how many rows of the window it stands for (``keep_one_in`` = 1: all)."""

    frame: pd.DataFrame
    window_from: datetime
    window_to: datetime
    keep_one_in: int = 1


def read_batch(
    con: DuckDBPyConnection,
    suite: Suite,
    source_id: str,
    start: datetime,
    end: datetime,
    now: datetime,
    settle_s: float,
) -> Batch:
    """Rows of one source in the settled part of ``[start, end)``.

    Args:
        con: An open connection; a read-only one is enough.
        suite: Whose batch.
        source_id: Which source.
        start: Start of the window, naive UTC.
        end: End of the window.
        now: The present; what ended less than ``settle_s`` seconds ago is left out.
        settle_s: ``checks.settle_s``.
    """
    keep_one_in = 1
    if suite.sampled_by is not None:
        column = f'"{suite.sampled_by}"'
        row = con.execute(
            f"SELECT count(*) FROM {suite.table} WHERE source_id = ? AND {column} >= ? AND {column} < ?",
            [source_id, start, end],
        ).fetchone()
        keep_one_in = max(1, -(-(row[0] if row else 0) // MOST_ROWS))
    sql = _statement(suite.batch)
    given = {
        "source_id": source_id, "window_start": start, "window_end": end, "now": now,
        "settle_us": int(settle_s * 1_000_000), "keep_one_in": keep_one_in,
    }  # fmt: skip
    used = {name: value for name, value in given.items() if re.search(rf"\${name}\b", sql)}
    return Batch(con.execute(sql, used).df(), start, end, keep_one_in)


def judge(suite: Suite, batch: Batch, source_id: str, bands: BandLimits, now: datetime) -> CheckOutcome:
    """The outcome of a suite over a batch: at most one finding.

    An expectation that has a check of its own (``covered_by``) is shown but is no finding: one problem is one alert.
    """
    if batch.frame.empty:
        return _outcome(suite, batch, source_id, "insufficient_data", None, "no settled rows in the window")
    summary = compact(validate(suite.build(bands), batch.frame, suite.index))
    summary |= {"table": suite.table, "rows": len(batch.frame), "keep_one_in": batch.keep_one_in}
    broken = [one for one in summary["expectations"] if one.get("error")]
    if broken:
        message = f"{broken[0]['type']} could not be evaluated: {broken[0]['error']}"
        return _outcome(suite, batch, source_id, "error", summary, message)
    failed = [one for one in summary["expectations"] if not one["success"]]
    status: CheckStatus = "findings" if failed else "passed"
    outcome = _outcome(suite, batch, source_id, status, summary, "; ".join(sentence(one) for one in failed[:3]) or None)
    own = [one for one in failed if not one.get("covered_by")]
    return replace(outcome, findings=(_finding(suite, source_id, own, now),)) if own else outcome


def _finding(suite: Suite, source_id: str, failed: Sequence[Mapping[str, Any]], now: datetime) -> Finding:
    severity = highest(one["severity"] for one in failed)
    assert severity is not None
    texts = [sentence(one) for one in failed[:EXAMPLES]]
    details = {"table": suite.table, "failed": texts, "failed_count": len(failed)}
    message = f"{suite.table}: {len(failed)} expectations do not hold: {'; '.join(texts[:3])}"
    check_id = PREFIX + suite.id
    return Finding(source_id, check_id, ALERT_TYPE, severity, message, now, details, labels={"check": check_id})


def run(
    con: DuckDBPyConnection, settings: Settings, suite_id: str, source_id: str, start: datetime, end: datetime,
    now: datetime,
) -> CheckOutcome:  # fmt: skip
    """Read and judge one suite of one source; see ``read_batch`` for the window."""
    suite = SUITES[suite_id]
    batch = read_batch(con, suite, source_id, start, end, now, settings.checks.settle_s)
    return judge(suite, batch, source_id, bands_of(settings), now)


def bands_of(settings: Settings) -> BandLimits:
    """The configured bands (C-002)."""
    bands = settings.checks.bands
    return BandLimits(bands.healthy, bands.degraded, bands.critical)


def validate_repair_rows(rows: Sequence[Mapping[str, Any]], target: TargetColumns) -> dict[int, list[str]]:
    """What is wrong with rows a repair would insert (R-211).

    Args:
        rows: Proposed rows; columns as in ``suites.repair_rows_suite``. Missing values are NULL.
        target: What the output table allows.

    Returns:
        Number of each bad row → what is wrong with it, one sentence each. Empty: all rows may be inserted.
    """
    import pandas as pd

    if not rows:
        return {}
    names = ["task_key", "natural_key", "uri", "media_type", "size_bytes", *target.lengths]
    frame = pd.DataFrame([{name: row.get(name) for name in names} for row in rows], columns=list(dict.fromkeys(names)))
    result = validate(repair_rows_suite(target), frame, complete=True)
    wrong: dict[int, list[str]] = {}
    for one in result.results:
        summary = _expectation(one)
        if summary["success"]:
            continue
        if summary.get("error"):
            raise RuntimeError(f"{summary['type']}: {summary['error']}")
        reason = f"{', '.join(summary['columns'])}: {summary['why']}"
        for number in one.result.get("unexpected_index_list") or range(len(rows)):
            wrong.setdefault(int(number), []).append(reason)
    return wrong


def validate(
    suite: ExpectationSuite, frame: pd.DataFrame, index: Sequence[str] = (), *, complete: bool = False
) -> ExpectationSuiteValidationResult:
    """Judge a frame in an ephemeral context.

    Args:
        suite: The expectations.
        frame: The rows.
        index: Columns that name a row in the examples.
        complete: List every bad row instead of examples.
    """
    wanted: dict[str, Any] = {"result_format": "COMPLETE" if complete else "SUMMARY"}
    # Of statistics every bad hour is wanted: the page of partitions marks it.
    wanted["partial_unexpected_count"] = MOST_ROWS if _HOUR in index else EXAMPLES
    if index and not complete:
        wanted["unexpected_index_column_names"] = list(index)
    with _context() as context:
        asset = context.data_sources.add_pandas("warehouse").add_dataframe_asset("batch")
        batch = asset.add_batch_definition_whole_dataframe("window").get_batch({"dataframe": frame})
        return batch.validate(suite, result_format=wanted)


def compact(result: ExpectationSuiteValidationResult) -> dict[str, Any]:
    """The result as small JSON: per expectation type, columns, severity, success, counts and a few examples."""
    expectations = [_expectation(one) for one in result.results]
    failed = [one for one in expectations if not one["success"]]
    return {
        "suite": result.suite_name,
        "success": not failed,
        "severity": highest(one["severity"] for one in failed),
        "evaluated": len(expectations),
        "failed": len(failed),
        "expectations": expectations,
    }


def sentence(expectation: Mapping[str, Any]) -> str:
    """One failed expectation in words, for messages and tables."""
    text = f"{', '.join(expectation['columns']) or 'table'}: not “{expectation['why']}”"
    if expectation.get("limits"):
        text += f" ({expectation['limits']})"
    if expectation.get("unexpected") is not None:
        text += f" in {expectation['unexpected']} of {expectation['rows']} rows"
    return text


def write_docs(results: Iterable[tuple[Suite, Batch]], bands: BandLimits, folder: str) -> int:
    """Write Great Expectations' Data Docs of the given batches; the number of suites written.

    Args:
        results: Suites with their batches; empty batches are left out.
        bands: Bands of C-002.
        folder: Where ``index.html`` goes.
    """
    from great_expectations.checkpoint import Checkpoint
    from great_expectations.core import ValidationDefinition

    written = 0
    with _context() as context:
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": os.path.abspath(folder)}
        site = {"class_name": "SiteBuilder", "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
        context.add_data_docs_site("results", {**site, "store_backend": store, "show_how_to_buttons": False})
        source = context.data_sources.add_pandas("warehouse")
        for suite, batch in results:
            if batch.frame.empty:
                continue
            asset = source.add_dataframe_asset(suite.table.replace(".", "_") + f"_{written}")
            definition = ValidationDefinition(
                name=f"{suite.id}_{written}",
                data=asset.add_batch_definition_whole_dataframe("window"),
                suite=context.suites.add(_named(suite.build(bands), written)),
            )
            checkpoint = Checkpoint(
                name=f"{suite.id}_{written}",
                validation_definitions=[context.validation_definitions.add(definition)],
                result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES},
            )
            context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": batch.frame})
            written += 1
        context.build_data_docs(site_names=["results"])
    for page in Path(folder).rglob("*.html"):
        page.write_text(_without_remote_parts(page.read_text(encoding="utf-8")), encoding="utf-8")
    return written


def _without_remote_parts(html: str) -> str:
    """The page without scripts, styles and images of other servers; it must be readable where there is no internet."""
    html = re.sub(r'<script[^>]*\ssrc="https?:[^>]*>\s*</script>', "", html)
    html = re.sub(r'<(?:link|img)[^>]*\s(?:href|src)="https?:[^>]*>', "", html)
    return html.replace("</head>", f"<style>{_PLAIN_STYLE}</style></head>", 1)


def _named(suite: ExpectationSuite, number: int) -> ExpectationSuite:
    suite.name = f"{suite.name}_{number}"
    return suite


def _outcome(
    suite: Suite, batch: Batch, source_id: str, status: CheckStatus, summary: dict[str, Any] | None, message: str | None
) -> CheckOutcome:
    metrics = {"rows": len(batch.frame), "keep_one_in": batch.keep_one_in}
    if summary is not None:
        metrics |= {"expectations": summary["evaluated"], "failed": summary["failed"]}
    return CheckOutcome(
        source_id, PREFIX + suite.id, status, batch.window_from, batch.window_to,
        severity=summary["severity"] if summary else None, metrics=metrics, expectation=summary, message=message,
    )  # fmt: skip


def _expectation(one: ExpectationValidationResult) -> dict[str, Any]:
    """One expectation, small; unknown parts are left out."""
    config = one.expectation_config
    assert config is not None
    arguments = config.kwargs
    columns = [arguments[name] for name in ("column", "column_A", "column_B") if name in arguments]
    columns += arguments.get("column_list", [])
    meta = config.meta or {}
    summary: dict[str, Any] = {
        "type": config.type.removeprefix("expect_"),
        "columns": columns,
        "why": config.description or "",
        "severity": meta.get("severity", "high"),
        "success": bool(one.success),
    }
    if meta.get("covered_by"):
        summary["covered_by"] = meta["covered_by"]
    limits = {name: arguments[name] for name in _LIMITS if arguments.get(name) is not None}
    if limits:
        summary["limits"] = ", ".join(f"{_LIMITS[name]} {_short(value)}" for name, value in limits.items())
    raised = _exception(one.exception_info)
    if raised:
        return summary | {"error": raised}
    if not one.success:
        summary |= _what_failed(one.result)
    return summary


def _what_failed(result: Mapping[str, Any]) -> dict[str, Any]:
    failed: dict[str, Any] = {}
    if "unexpected_count" in result:
        failed = {"unexpected": result["unexpected_count"], "rows": result.get("element_count")}
    if "observed_value" in result:
        failed["observed"] = _short(result["observed_value"])
    missing = (result.get("details") or {}).get("mismatched", {}).get("missing")
    if missing:
        failed["missing"] = list(missing)[:EXAMPLES]
    examples = result.get("partial_unexpected_index_list") or result.get("partial_unexpected_list") or []
    hours = Counter(str(row[_HOUR])[:13] for row in examples if isinstance(row, dict) and _HOUR in row)
    if hours:
        failed["hours"] = dict(sorted(hours.items()))
    if examples:
        failed["examples"] = [
            {key: _short(value) for key, value in row.items()} if isinstance(row, dict) else _short(row)
            for row in examples[:EXAMPLES]
        ]
    return failed


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """What an expectation raised. Table-level ones carry one entry, column-level ones one per metric."""
    if not info:
        return None
    entries = [info] if "raised_exception" in info else list(info.values())
    return next((_short(entry["exception_message"]) for entry in entries if entry.get("raised_exception")), None)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= EXAMPLE_CHARS else text[: EXAMPLE_CHARS - 1] + "…"


@contextmanager
def _context() -> Iterator[Any]:
    """An ephemeral context without progress bars and without telling anybody."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the context is made
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    level = logging.getLogger("great_expectations").level
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    try:
        config = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
            analytics_enabled=False,
        )
        context = gx.get_context(project_config=config, mode="ephemeral")
        yield context
    finally:
        logging.getLogger("great_expectations").setLevel(level)


@cache
def _statement(name: str) -> str:
    return (sql_root() / "expectations" / f"{name}.sql").read_text(encoding="utf-8")
