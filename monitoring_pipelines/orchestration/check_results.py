"""What the Dagster UI shows of a check: mark, severity, figures, a table per source, a link to our page.

What belongs here: translating outcomes. What does not: outcomes themselves (``quality``).

Dagster knows passed, failed and skipped. ``not_applicable`` and ``insufficient_data`` are skipped: neither
green, because nothing was proven, nor yellow, because nobody has to act. ``error`` is a failed check with a warning: it
did not pass, and the reason is one that has its own alert (C-025, C-026).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dagster import AssetCheckResult, AssetCheckSeverity, AssetKey, MetadataValue, TableColumn, TableRecord, TableSchema

from monitoring_pipelines.alerts.links import dashboard_of

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.quality.model import CheckOutcome

#: Statuses of an outcome that are an answer about the data.
_ANSWERS = ("passed", "findings", "error")
#: Figures that are added up over sources and plotted; each of them is a count.
_COUNTS = (
    "total_tasks", "success_tasks", "tasks_with_outputs", "missing_count", "pending_settle", "total_outputs",
    "duplicate_rows", "surplus", "delayed_count", "count", "expectations", "failed", "rows",
)  # fmt: skip
#: Values longer than this are left to the page, characters.
_MOST = 300
_SCHEMA = TableSchema(
    [
        TableColumn("source", "string"), TableColumn("status", "string"), TableColumn("severity", "string"),
        TableColumn("health", "string"), TableColumn("rate", "string"), TableColumn("says", "string"),
    ]
)  # fmt: skip


def check_result(
    outcomes: Sequence[CheckOutcome], key: AssetKey, name: str, settings: Settings, run_id: str | None
) -> AssetCheckResult | None:
    """The result of one check over all sources; None if no source has an answer: then Dagster shows "not evaluated"."""
    answers = [outcome for outcome in outcomes if outcome.status in _ANSWERS]
    if not answers:
        return None
    failed = [outcome for outcome in answers if outcome.status != "passed"]
    found = [finding for outcome in failed for finding in outcome.findings]
    # A check that could not be computed only warns; the source that could not be read is one of its own, and red.
    serious = any(f.severity in ("high", "critical") for f in found)
    told = [(f.source_id, f.message) for f in found] or [(o.source_id, o.message) for o in failed if o.message]
    texts = [text if len(answers) == 1 else f"{source}: {text}" for source, text in told]
    return AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not failed,
        severity=AssetCheckSeverity.ERROR if serious else AssetCheckSeverity.WARN,
        description="; ".join(texts[:5]) or None,  # one line, as it is one in the log too
        metadata=_metadata(outcomes, settings, run_id),
    )


def unevaluated(outcomes: Sequence[CheckOutcome]) -> str:
    """Why a check has no answer, for the log of the run."""
    if not outcomes:
        return "not part of this run"
    return "; ".join(f"{o.source_id}: {o.status.replace('_', ' ')}{_reason(o)}" for o in outcomes)


def _reason(outcome: CheckOutcome) -> str:
    return f" ({outcome.message})" if outcome.message else ""


def _metadata(outcomes: Sequence[CheckOutcome], settings: Settings, run_id: str | None) -> dict[str, Any]:
    worst = max(outcomes, key=lambda o: _ANSWERS.index(o.status) if o.status in _ANSWERS else -1)
    shown: dict[str, Any] = {"status": worst.status}
    first, last = (
        min((o.window_from for o in outcomes if o.window_from), default=None),
        max((o.window_to for o in outcomes if o.window_to), default=None),
    )
    if first and last:
        shown |= {"window_from": f"{first.isoformat()}Z", "window_to": f"{last.isoformat()}Z"}
    shown |= _counts(outcomes) | _explanation(outcomes)
    shown["sources"] = MetadataValue.table([_record(outcome) for outcome in outcomes], _SCHEMA)
    examples = [task for outcome in outcomes for finding in outcome.findings for task in finding.task_ids]
    if examples:
        shown["tasks"] = MetadataValue.text(", ".join(examples[:10]))
    failed = [_expectation(one) for outcome in outcomes for one in _failed_expectations(outcome)]
    if failed:
        shown["expectations_that_do_not_hold"] = MetadataValue.md("\n".join(failed[:20]))
    shown["page"] = MetadataValue.url(page_url(settings, outcomes))
    if run_id:
        shown["check_run"] = run_id
    return shown


def page_url(settings: Settings, outcomes: Sequence[CheckOutcome]) -> str:
    """Our page about consistency, for the source when one alone has an answer."""
    sources = {outcome.source_id for outcome in outcomes if outcome.status in _ANSWERS}
    query = f"?source={sources.pop()}" if len(sources) == 1 else ""
    return f"{dashboard_of(settings)}/consistency{query}"


def _counts(outcomes: Sequence[CheckOutcome]) -> dict[str, Any]:
    """Counts over all sources, and the completion rate they give; numbers, so that Dagster plots them."""
    totals: dict[str, Any] = {}
    for name in _COUNTS:
        values = [o.metrics[name] for o in outcomes if isinstance(o.metrics.get(name), int)]
        if values:
            totals[name] = sum(values)
    if totals.get("success_tasks") and "tasks_with_outputs" in totals:
        from monitoring_pipelines.severity import rate_number

        totals["completion_rate"] = rate_number(totals["tasks_with_outputs"], totals["success_tasks"])
    return totals


def _explanation(outcomes: Sequence[CheckOutcome]) -> dict[str, Any]:
    """Since when and what carries it, as the check found it, with the source where several have an answer."""
    several = sum(outcome.status in _ANSWERS for outcome in outcomes) > 1
    found = [
        (f"{outcome.source_id}: " if several else "", finding.details)
        for outcome in outcomes
        for finding in outcome.findings
    ]
    shown: dict[str, Any] = {}
    since = [
        f"{source}{s['at_local']} ({s['precision']}): {s['before_rate']} % before, {s['after_rate']} % after"
        for source, details in found
        if (s := details.get("since"))
    ]
    if since:
        shown["since"] = "\n".join(since)
    carried = [_carrier(source, one) for source, details in found for one in details.get("carried_by") or ()]
    if carried:
        shown["carried_by"] = MetadataValue.md("\n".join(carried))
    worst = [(source, details["worst_endpoint"]) for source, details in found if details.get("worst_endpoint")]
    if worst:
        source, one = max(worst, key=lambda pair: int(pair[1]["missing"]))
        shown["worst_endpoint"] = f"{source}{one['endpoint']} ({one['missing']} of {one['tasks']} missing)"
    return shown


def _carrier(source: str, one: dict[str, Any]) -> str:
    return (
        f"* {source}{one['dimension']} **{one['value'] or '–'}**: {one['share_of_loss']} % of the loss, "
        f"{one['share_of_traffic']} % of the traffic ({one['missing']} of {one['tasks']} missing)"
    )


def _record(outcome: CheckOutcome) -> TableRecord:
    metrics = outcome.metrics
    rate = metrics.get("completion_rate") or metrics.get("missing_rate") or "–"
    return TableRecord(
        {
            "source": outcome.source_id,
            "status": outcome.status.replace("_", " "),
            "severity": outcome.severity or "–",
            "health": outcome.health or "–",
            "rate": str(rate),
            "says": _text(outcome.findings[0].message if outcome.findings else outcome.message or "–"),
        }
    )


def _failed_expectations(outcome: CheckOutcome) -> list[dict[str, Any]]:
    return [one for one in (outcome.expectation or {}).get("expectations", []) if not one["success"]]


def _expectation(one: dict[str, Any]) -> str:
    from monitoring_pipelines.quality.expectations import sentence

    examples = "; ".join(_text(example) for example in one.get("examples", []))
    return f"* **{one['severity']}** {sentence(one)}" + (f" — for example {examples}" if examples else "")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
