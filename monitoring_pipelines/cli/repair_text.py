"""Plans and runs as text for a terminal, and the progress line with the time left.

What belongs here: wording. What does not: what is done.
"""

from __future__ import annotations

import sys
from typing import Any, Self

from monitoring_pipelines.cli.output import table
from monitoring_pipelines.progress import Progress

_REDRAW_S = 0.2


class Bar:
    """One line on standard error that is drawn again in place; nothing when it is no terminal."""

    def __init__(self, label: str, unit: str, *, quiet: bool = False) -> None:
        self._progress = Progress(label, None)
        self._unit = unit
        self._shown = not quiet and sys.stderr.isatty()
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._drawn:
            sys.stderr.write("\n")

    def update(self, done: int, total: int, waits: str | None = None) -> None:
        """``done`` of ``total`` are done; ``waits``: what the run waits for."""
        progress = self._progress
        progress.total, progress.rows = total, done
        if not self._shown or (progress.seconds - self._drawn < _REDRAW_S and done < total and waits is None):
            return
        self._drawn = progress.seconds
        width = 24
        filled = width * done // max(total, 1)
        text = str(progress).replace(" rows/s", f" {self._unit}/s").replace(" rows", f" {self._unit}")
        sys.stderr.write(
            f"\r[{'#' * filled}{'.' * (width - filled)}] {text}{f' waits: {waits}' if waits else ''}\x1b[K"
        )
        sys.stderr.flush()

    def counted(self, done: int, total: int, counters: dict[str, Any]) -> None:
        """``update`` for callers that have counters to tell."""
        self.update(done, total, counters.get("waits"))


def plan_text(
    plan: dict[str, Any], items: list[dict[str, Any]], zone: str, approval: dict[str, Any] | None = None
) -> str:
    """A plan: scope, classes with their sum, first rows, what to do next."""
    from monitoring_pipelines.compensation.plan import masked_uri

    counters = plan["counters"] or {}
    scope = f"{plan['window_from']} – {plan['window_to']} UTC" if plan["window_from"] else "given tasks"
    reason = f" ({plan['abort_reason']})" if plan["abort_reason"] else ""
    lines = [
        f"plan {plan['plan_id']}  source {plan['source_id']}  {plan['state']}{reason}",
        f"{scope}, {plan['mode']}, made by {plan['created_by']} at {plan['created_at']} UTC",
    ]
    if plan["before"]:
        before = plan["before"]
        rate = "–" if before["rate_pct"] is None else f"{before['rate_pct']:.2f} %"
        lines.append(f"complete before: {before['with_output']} of {before['settled']} tasks ({rate})")
    classes = {name: n for name, n in counters.get("classes", {}).items() if n}
    lines.append(f"candidates {counters.get('candidates', 0)} = " + " + ".join(f"{n} {c}" for c, n in classes.items()))
    lines.append(f"rows to insert: {counters.get('rows_planned', 0)}")
    for name in ("unknown_ids", "rejected_ids"):
        if plan[name]:
            lines.append(f"{name}: {', '.join(plan[name])}")
    rows = [
        (
            item["task_key"],
            item["class"],
            row.get("name"),
            row.get("media_type"),
            masked_uri(row.get("uri", "")),
            item["run_state"],
        )
        for item in items
        for row in (item["rows"] or [{}])
    ]
    if rows:
        lines += ["", table(("task", "class", "name", "type", "link", "run"), rows)]
    if approval:
        lines.append(f"approved by {approval['approver']} at {approval['at']} UTC")
    elif plan["state"] == "ready":
        lines += ["", f"hash {plan['plan_hash']}"]
        if (plan["counters"] or {}).get("rows_planned"):
            lines.append(f"next: mp repair approve {plan['plan_id']} --by NAME")
    return "\n".join(lines)


def run_text(run: dict[str, Any]) -> str:
    """A run: state, counters, verification, report."""
    reason = f" ({run['reason']})" if run["reason"] else ""
    dry = " (dry run)" if run["dry_run"] else ""
    lines = [f"run {run['run_id']}  {run['kind']}{dry} by {run['actor']}: {run['state']}{reason}"]
    counters = run["counters"] or {}
    shown = [f"{name} {value}" for name, value in counters.items() if not isinstance(value, (dict, bool)) and value]
    lines.append("  " + ", ".join(shown) if shown else "  nothing was done")
    if counters.get("failed_by_reason"):
        lines.append("  failed: " + ", ".join(f"{n} {why}" for why, n in counters["failed_by_reason"].items()))
    found = run["verification"] or {}
    if "result" in found:
        lists = ", ".join(f"{len(found[kind])} {kind}" for kind in ("missing", "modified", "duplicate") if found[kind])
        lines.append(f"  {found['result']}: {found['rows_checked']} rows read back" + (f"; {lists}" if lists else ""))
        after = found["after"]
        rate = "–" if after["rate_pct"] is None else f"{after['rate_pct']:.2f} %"
        lines.append(f"  complete now: {after['with_output']} of {after['settled']} tasks ({rate})")
    for row in found.get("rows", []):
        if run["dry_run"] or row["outcome"] not in ("deleted", "already_absent"):
            key = ", ".join(f"{name}={value}" for name, value in row["pk"].items())
            would = "would be " if run["dry_run"] and row["outcome"] == "deleted" else ""
            lines.append(f"  {would}{row['outcome']}: task {row['task_key']}, {key}")
    if run["report_path"]:
        lines.append(f"  report: {run['report_path']}")
    return "\n".join(lines)
