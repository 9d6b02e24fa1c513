"""The audit report of a run: every row, who did what when, and whether the figures add up (R-910, S-505).

What belongs here: collecting and writing ``logs/repairs/<run_id>.json`` and ``.md``. What does not: anything decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines import __version__
from monitoring_pipelines.compensation.plan import masked_uri
from monitoring_pipelines.state import StateStore
from monitoring_pipelines.state import repair as store

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

_PLAN_FACTS = (
    "plan_id", "source_id", "state", "created_at", "created_by", "mode", "window_from", "window_to", "task_ids",
    "unknown_ids", "rejected_ids", "max_tasks", "batch_size", "recoverers", "config_hash", "schema_fingerprint",
    "plan_hash", "alert_id", "counters", "abort_reason",
)  # fmt: skip
_RUN_FACTS = ("run_id", "kind", "dry_run", "actor", "started_at", "ended_at", "state", "reason", "counters")
_APPROVAL_FACTS = ("approver", "at", "plan_hash", "rows_planned", "note", "policy", "used_by_run")


def collect(state: StateStore, run_id: str) -> dict[str, Any]:
    """Everything the report says, as one JSON object."""
    with state.read() as con:
        run = store.get_run(con, run_id)
        plan = store.get_plan(con, run["plan_id"])
        approval = store.get_approval(con, plan["plan_id"])
        items = store.get_items(con, plan["plan_id"])
        journal = store.journal_rows(con, plan_id=plan["plan_id"])
        runs = store.list_runs(con, plan["plan_id"])
    inserted: dict[str, list[dict[str, Any]]] = {}
    for row in journal:
        if row["run_id"] == run_id or run["kind"] in ("rollback", "verify"):
            inserted.setdefault(row["task_key"], []).append(_row(row))
    return {
        "product": {"name": "monitoring-pipelines", "version": __version__},
        "run": {name: run[name] for name in _RUN_FACTS},
        "plan": {name: plan[name] for name in _PLAN_FACTS},
        "approval": {name: approval[name] for name in _APPROVAL_FACTS} if approval else None,
        "invariants": _invariants(plan, run, journal),
        "completeness": _completeness(plan, run),
        "verification": run["verification"],
        "rolled_back_by": [r["run_id"] for r in runs if r["kind"] == "rollback" and not r["dry_run"]],
        "tasks": [_task(item, inserted.get(item["task_key"], [])) for item in items],
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("journal_id", "op", "target_table", "pk", "natural_key", "after_sha256", "at", "state", "rolled_back_by")
    return {name: row[name] for name in names}


def _task(item: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "task_key": item["task_key"], "class": item["class"], "reason": item["reason"],
        "remote_status": item["remote_status"], "remote_code": item["remote_code"], "tries": item["tries"],
        "recoverer_id": item["recoverer_id"], "run_state": item["run_state"], "run_reason": item["run_reason"],
        "proposed": [
            {"natural_key": r["natural_key"], "node_key": r["node_key"], "name": r["name"], "uri": masked_uri(r["uri"]),
             "media_type": r["media_type"], "size_bytes": r["size_bytes"], "evidence": r["evidence"]}
            for r in item["rows"]
        ],
        "rows": rows,
    }  # fmt: skip


def _invariants(
    plan: Mapping[str, Any], run: Mapping[str, Any], journal: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The sums the counters must satisfy (R-305, R-410, R-411, R-705)."""
    planned = plan["counters"] or {}
    result = {"candidates_are_all_classes": planned.get("candidates") == sum((planned.get("classes") or {}).values())}
    counters = run["counters"] or {}
    if "adds_up" in counters:
        result["outcomes_are_all_tasks"] = counters["adds_up"]
    if "rows_inserted" in counters:
        own = [r for r in journal if r["run_id"] == run["run_id"] and r["op"] == "insert" and r["state"] == "committed"]
        result["rows_inserted_are_journal_rows"] = counters["rows_inserted"] == len(own)
    return result


def _completeness(plan: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    after = (run["verification"] or {}).get("after")
    return {"before": plan["before"], "after": after}


def write_report(settings: Settings, state: StateStore, run_id: str) -> Path:
    """Write both files and remember their path; they are never removed automatically.

    Returns:
        The Markdown file.
    """
    from monitoring_pipelines.state.types import canonical_json

    content = json.loads(canonical_json(collect(state, run_id)))
    folder = settings.logs_path / "repairs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((f"{run_id}.json", json.dumps(content, indent=1, ensure_ascii=False)),
                       (f"{run_id}.md", markdown(content))):  # fmt: skip
        temporary = folder / (name + ".new")
        temporary.write_text(text + "\n", "utf-8")
        temporary.replace(folder / name)
    path = folder / f"{run_id}.md"
    with state.begin() as con:
        store.update_run(con, run_id, report_path=str(path))
    return path


def markdown(content: Mapping[str, Any]) -> str:
    """The report for people."""
    run, plan, approval = content["run"], content["plan"], content["approval"]
    lines = [
        f"# Repair run {run['run_id']}", "",
        f"{run['kind']}{' (dry run)' if run['dry_run'] else ''} of plan {plan['plan_id']} on source "
        f"{plan['source_id']}: **{run['state']}**" + (f" ({run['reason']})" if run["reason"] else ""), "",
        "| who | what | when (UTC) |", "|---|---|---|",
        f"| {plan['created_by']} | planned | {plan['created_at']} |",
    ]  # fmt: skip
    if approval:
        lines.append(f"| {approval['approver']} | approved {approval['rows_planned']} rows | {approval['at']} |")
    lines += [f"| {run['actor']} | {run['kind']} | {run['started_at']} – {run['ended_at'] or '…'} |", ""]
    scope = f"{plan['window_from']} – {plan['window_to']}" if plan["window_from"] else "given task ids"
    lines += [
        (f"Scope: {scope}; mode {plan['mode']}; at most {plan['max_tasks'] or 'all'} tasks. "
        f"Recoverers: {', '.join(plan['recoverers'] or [])}."), "",
        (f"Plan hash `{plan['plan_hash']}`, configuration `{plan['config_hash']}`, schema "
        f"`{plan['schema_fingerprint']}`. Version {content['product']['version']}."), "",
        "## Figures", "", *_table(_flat("plan", plan["counters"]) + _flat("run", run["counters"])), "",
    ]  # fmt: skip
    lines += [f"* {name}: {'yes' if value else '**NO**'}" for name, value in content["invariants"].items()]
    lines += ["", *_completeness_lines(content["completeness"]), *_verification_lines(content["verification"])]
    if content["rolled_back_by"]:
        lines += ["", f"Rolled back by {', '.join(content['rolled_back_by'])}."]
    lines += [
        "",
        "## Tasks",
        "",
        "| task | class | outcome | reason | row | op | natural key |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in content["tasks"]:
        lines += _task_lines(task)
    return "\n".join(lines)


def _task_lines(task: Mapping[str, Any]) -> list[str]:
    head = f"| `{task['task_key']}` | {task['class']} | {task['run_state']} | {_cell(task['run_reason'] or task['reason'])} |"
    if not task["rows"]:
        return [f"{head} – | – | – |"]
    return [
        f"{head} {', '.join(f'{c}={v}' for c, v in row['pk'].items())} | {row['op']} | `{row['natural_key'][:16]}…` |"
        for row in task["rows"]
    ]


def _cell(value: Any) -> str:
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _flat(prefix: str, counters: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    result: list[tuple[str, Any]] = []
    for name, value in (counters or {}).items():
        if isinstance(value, dict):
            result += [(f"{prefix}.{name}.{inner}", figure) for inner, figure in value.items() if figure]
        else:
            result.append((f"{prefix}.{name}", value))
    return result


def _table(rows: Sequence[tuple[str, Any]]) -> list[str]:
    return ["| figure | value |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]


def _completeness_lines(completeness: Mapping[str, Any]) -> list[str]:
    def text(part: Mapping[str, Any] | None) -> str:
        if not part:
            return "not counted"
        rate = "–" if part["rate_pct"] is None else f"{part['rate_pct']:.2f} %"
        return f"{part['with_output']} of {part['settled']} tasks ({rate})"

    return [f"Completeness before: {text(completeness['before'])}; after: {text(completeness['after'])}."]


def _verification_lines(found: Mapping[str, Any] | None) -> list[str]:
    if not found or "result" not in found:
        return []
    lines = ["", f"Verification: **{found['result']}**, {found['rows_checked']} rows read back."]
    for kind in ("missing", "modified", "duplicate"):
        lines += [f"* {kind}: task `{row['task_key']}`, {row['pk']}" for row in found[kind]]
    return lines
