"""``mp check``, ``check-integrity``, ``thresholds``, ``sweep``, ``prune-logs``: checks by hand.

What belongs here: options and wording. What does not: checking (``quality``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from monitoring_pipelines.cli.context import Context, Ctx, OptionalWhole
from monitoring_pipelines.cli.output import table, write
from monitoring_pipelines.errors import UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality.model import CheckOutcome, CheckRun
    from monitoring_pipelines.state import StateStore

_MISSING_SHOWN = 50


def check(
    run_type: Annotated[Literal["quick", "full", "deep"], Parameter(name="TYPE")],
    /,
    *,
    ctx: Ctx,
    hours_back: OptionalWhole = None,
) -> int:
    """Extract, check the sources now and store the result; exit code 1 with findings, 3 if a source is unreachable.

    Args:
        ctx: Global options.
        run_type: quick (missing outputs of the last hour), full (last day, everything) or deep (three days, trend).
        hours_back: Length of the window, 1 to 720; not for deep.
    """
    from monitoring_pipelines.quality import files, runs

    pipe, state = _parts(ctx)
    sources = [source.id for source in ctx.sources()]
    run = runs.execute(pipe, state, run_type, hours_back=hours_back, sources=sources, say=_teller(ctx))
    ctx.emit(files.run_dict(ctx.settings, run), lambda: _run_text(ctx, run))
    if run.failed_sources:
        return 3
    return 1 if run.findings else 0


def check_integrity(
    *,
    ctx: Ctx,
    start_date: str | None = None,
    end_date: str | None = None,
    detailed_report: Annotated[bool, Parameter(negative="")] = False,
    split_date: str | None = None,
) -> int:
    """Report on a range of local days: per day, before and after a date, change point, what carries the loss.

    Args:
        ctx: Global options.
        start_date: First day in the configured zone (default: two weeks).
        end_date: Last day, included (default: today).
        detailed_report: List the tasks without output too.
        split_date: Compare the days before this one with those from it on.
    """
    from zoneinfo import ZoneInfo

    from monitoring_pipelines.quality import report

    pipe, state = _parts(ctx)
    days = [_day(text, option) for text, option in (
        (start_date, "--start-date"), (end_date, "--end-date"), (split_date, "--split-date")
    )]  # fmt: skip
    wanted = report.Range.of(ctx.clock.now(), ZoneInfo(ctx.settings.timezone), *days)
    # A source that is named is asked even if it cannot answer: the error says what it lacks.
    asked = [
        source for source in ctx.sources() if ctx.source or (source.mapped("task") and source.mapped("task_output"))
    ]
    if not asked:
        raise UsageError("no source has tasks and outputs mapped", "`mp validate` shows what a report needs")
    reports = [
        report.integrity(pipe, state, source, wanted, detailed=detailed_report, say=_teller(ctx)) for source in asked
    ]
    ctx.emit({"reports": reports}, lambda: "\n\n".join(_report_text(one) for one in reports))
    return 1 if any(one["metrics"]["missing_count"] for one in reports) else 0


def thresholds(*values: str, ctx: Ctx, actor: str = "cli") -> int:
    """Show the task thresholds, or change some: NAME=VALUE, NAME= goes back to the configured value.

    Args:
        values: For example max_pending_tasks=80.
        ctx: Global options.
        actor: Who changes them, for the journal.
    """
    from monitoring_pipelines.quality import thresholds as module

    _, state = _parts(ctx)
    changes = dict(_assignment(text) for text in values)
    if changes:
        module.change(ctx.settings, state, changes, actor, ctx.clock.now())
    effective = module.effective(ctx.settings, state).model_dump()
    configured = ctx.settings.thresholds.model_dump()
    rows = [[name, value, configured[name]] for name, value in effective.items()]
    data = {"thresholds": effective, "configured": configured, "journal": module.journal(state, 20)}
    ctx.emit(data, lambda: table(["threshold", "in force", "configured"], rows))
    return 0


def sweep(*, ctx: Ctx) -> int:
    """Let derived timeouts take effect and show attempts over their limit; exit code 1 if there are any."""
    from monitoring_pipelines.quality.sweep import sweep as run

    ctx.warehouse(must_exist=True)
    pipe, state = _parts(ctx)
    outcomes = run(pipe, state)
    rows = [[o.source_id, o.check_id, o.status, _plain(o.metrics)] for o in outcomes]
    data = [{"source_id": o.source_id, "check_id": o.check_id, "status": o.status} | o.metrics for o in outcomes]
    ctx.emit(data, lambda: table(["source", "check", "status", "figures"], rows))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def prune_logs(*, ctx: Ctx) -> int:
    """Remove result, alert and error files older than retention.check_days; repair files stay."""
    from monitoring_pipelines.quality import files

    removed = files.prune_logs(ctx.settings, ctx.clock.now())
    ctx.emit({"removed": [str(path) for path in removed]}, lambda: f"{len(removed)} files removed")
    return 0


def _parts(ctx: Context) -> tuple[Pipeline, StateStore]:
    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.state import StateStore

    return Pipeline.of(ctx.settings, ctx.clock), StateStore.of(ctx.settings)


def _teller(ctx: Context) -> Callable[[str], None]:
    """Progress on standard error, so that the result can be piped; none with ``--json``."""
    if ctx.json:
        return lambda _line: None
    return lambda line: write(line, sys.stderr)


def _day(text: str | None, option: str) -> date | None:
    from monitoring_pipelines.cli.times import day

    return day(text, option) if text else None


def _assignment(text: str) -> tuple[str, float | int | None]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"not NAME=VALUE: {text!r}", "for example max_pending_tasks=80")
    if not value:
        return name, None
    try:
        return name, int(value)
    except ValueError:
        pass
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(f"{name}: a number is needed, not {value!r}") from None


def _plain(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in metrics.items() if value is not None)


def _run_text(ctx: Context, run: CheckRun) -> str:
    """Status line, one line per check, then the findings."""
    from monitoring_pipelines.quality.files import local_text

    zone = ctx.settings.timezone
    span = "–".join(local_text(at, zone) for at in (run.window_from, run.window_to) if at)
    head = f"{run.type} check {run.run_id}: {run.status}, {len(run.findings)} findings ({span} {zone})"
    lines = [head, "", table(["source", "check", "status", "severity", "result"], [_row(o) for o in run.outcomes])]
    for found in run.findings:
        lines += ["", f"[{found.severity}] {found.alert_type} ({found.source_id}): {found.message}"]
        if found.task_ids:
            lines.append(f"  tasks: {', '.join(found.task_ids)}")
        since = found.details.get("since")
        if since:
            lines.append(
                f"  since: {since['at_local']} ({since['precision']}), "
                f"{since['before_rate']:.2f}% -> {since['after_rate']:.2f}%"
            )
        lines += [f"  carried by: {_carrier(one)}" for one in found.details.get("carried_by") or []]
    return "\n".join(lines)


def _row(outcome: CheckOutcome) -> list[Any]:
    shown = outcome.metrics.get("completion_rate") if outcome.check_id == "missing_outputs" else outcome.message
    return [outcome.source_id, outcome.check_id, outcome.status, outcome.severity, shown]


def _carrier(one: dict[str, Any]) -> str:
    before = one["missing_rate_before"]
    text = (
        f"{one['dimension']} {one['value']}: {one['share_of_loss']:.2f}% of the loss, "
        f"{one['share_of_traffic']:.2f}% of the traffic, missing {one['missing_rate']:.2f}%"
    )
    return text if before is None else f"{text} (before {before:.2f}%)"


def _report_text(one: dict[str, Any]) -> str:
    """The report of one source."""
    metrics = one["metrics"]
    lines = [
        f"{one['source_id']}: {one['start_date']} to {one['end_date']} ({one['timezone']}), read from the {one['read_from']}",
        (
            f"{metrics['success_tasks']} succeeded tasks, {metrics['tasks_with_outputs']} with output, "
            f"{metrics['missing_count']} missing ({metrics['missing_rate'] or '–'}), "
            f"completion {metrics['completion_rate'] or '–'}, {one['health']}"
        ),
    ]
    split = one["split"]
    if split:
        lines += ["", f"split at {split['date']}: difference {_points(split['difference'])}"]
        lines += [f"  {name}: {_side(split[name])}" for name in ("before", "after")]
    change = one["change_point"]
    if change:
        lines.append(
            f"change point: {change['first']}, {change['before_rate']:.2f}% -> {change['after_rate']:.2f}% "
            f"({_points(change['difference'])})"
        )
    else:
        lines.append("change point: none")
    lines += [f"carried by: {_carrier(carrier)}" for carrier in one["carried_by"]]
    rows = [[day["date"], day["total"], day["with"], day["missing"], day["rate"]] for day in one["daily"]]
    lines += ["", table(["date", "tasks", "with output", "missing", "rate %"], rows)]
    if "missing" in one:
        lines += ["", f"missing tasks ({one['missing_listed']}):"]
        lines += [f"  {key}" for key in one["missing"][:_MISSING_SHOWN]]
        if one["missing_listed"] > _MISSING_SHOWN:
            lines.append(f"  … {one['missing_listed'] - _MISSING_SHOWN} more; all of them with --json")
    return "\n".join(lines)


def _side(side: dict[str, Any] | None) -> str:
    return "no tasks" if side is None else f"{side['with']} of {side['total']} ({side['rate']:.2f}%)"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f} points"
