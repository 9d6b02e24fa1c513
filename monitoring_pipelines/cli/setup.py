"""``mp init``, ``mp validate``, ``mp doctor``, ``mp ddl``: from a live schema to a configuration that holds.

What belongs here: options and wording. What does not: the work (``config.propose``, ``config.inspection``,
``config.doctor``, ``ddl``).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from monitoring_pipelines.cli.context import Context, Ctx
from monitoring_pipelines.cli.output import table, write
from monitoring_pipelines.errors import ConfigError, ProductError, UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.config.doctor import Check
    from monitoring_pipelines.config.inspection import SourceReport, TableReport
    from monitoring_pipelines.config.propose import Proposal

_MARKS = {"ok": "ok  ", "warning": "WARN", "error": "FAIL"}


def init(
    *,
    ctx: Ctx,
    preset: Literal["waverless", "tts", "tktool", "scheduler", "collector"] | None = None,
    dsn_env: str | None = None,
    source_id: Annotated[str, Parameter(name="--id")] = "main",
    out: str = "monitoring.yaml",
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Read a live schema and write a commented configuration that says how sure it is.

    Args:
        ctx: Global options.
        preset: Take this preset instead of the best match.
        dsn_env: Environment variable that holds the DSN (mysql://user:password@host:3306/database).
        source_id: Id of the source in the configuration.
        out: File to write; - writes to standard output.
        force: Replace an existing file.
    """
    from monitoring_pipelines.config.propose_text import configuration_text

    if dsn_env is None and preset is None:
        raise UsageError("nothing to start from", "name the variable of the DSN: mp init --dsn-env SHOP_READ_DSN")
    target = Path(out)
    if out != "-" and target.exists() and not force:
        raise UsageError(f"{out} exists already", "--force replaces it, --out writes another file")
    proposal = _read_schema(dsn_env, preset) if dsn_env else None
    text = configuration_text(proposal, preset, source_id, dsn_env or f"{source_id.upper()}_READ_DSN")
    if out == "-":
        write(text.rstrip())
        return 0
    try:
        target.write_text(text, "utf-8")
    except OSError as error:
        raise ProductError(f"cannot write {out}: {error.strerror}", "choose another --out") from error
    ctx.emit(_init_data(out, preset, proposal), lambda: _init_text(out, preset, proposal))
    return 0


def _read_schema(dsn_env: str, preset: str | None) -> Proposal:
    from monitoring_pipelines.config.propose import propose
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.config.source_schema import SourceSettings
    from monitoring_pipelines.source.engine import connect

    source = SourceSettings(id="init", read_dsn_env=dsn_env, tables={})
    try:
        dsn = source.read_dsn()
    except ConfigError as error:
        raise UsageError(error.detail, error.hint) from None
    with connect(dsn, Settings()) as connection:
        return propose(connection, preset)


def _init_data(out: str, preset: str | None, proposal: Proposal | None) -> dict[str, Any]:
    if proposal is None:
        return {"file": out, "preset": preset, "schema_read": False}
    return {
        "file": out,
        "schema_read": True,
        "dialect": proposal.dialect,
        "preset": proposal.chosen.name if proposal.chosen else None,
        "presets": {match.name: round(match.score, 3) for match in proposal.presets},
        "tables": {g.entity: {"table": g.table, "confidence": g.confidence} for g in proposal.guesses},
    }


def _init_text(out: str, preset: str | None, proposal: Proposal | None) -> str:
    from monitoring_pipelines.config.propose_text import confidence_word

    lines = []
    if proposal is None:
        lines.append(f"preset {preset}; the schema was not read (no --dsn-env)")
    elif proposal.chosen is not None:
        match = proposal.chosen
        lines.append(f"preset {match.name}: {confidence_word(match.score)} of its columns found")
        lines += [f"  no table {name} ({entity})" for entity, name in match.absent_tables]
        lines += [f"  no column {name}.{column} ({entity}.{u})" for entity, name, u, column in match.absent_columns]
    elif proposal.guesses:
        lines.append("no preset fits; matched by names and types:")
        lines += [f"  {g.entity}: {g.table} ({confidence_word(g.confidence)})" for g in proposal.guesses]
    else:
        lines.append(f"no table looks like tasks; {len(proposal.tables_seen)} tables seen")
    return "\n".join([*lines, f"wrote {out}; look at it, then: mp validate"])


# -- validate ---------------------------------------------------------------------------------------------------------


def validate(*, ctx: Ctx, offline: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Check the configuration, then each source: resolved SQL, masked samples, status words, indexes, grants, features.

    Args:
        ctx: Global options.
        offline: Check the file only; no source is contacted.
    """
    settings = ctx.settings
    if offline:
        names = [source.id for source in settings.sources]
        ctx.emit({"file": str(settings.file), "sources": names, "errors": []}, f"{settings.file}: no problem found")
        return 0
    from monitoring_pipelines.config.inspection import inspect_source

    reports = [inspect_source(settings, source) for source in ctx.sources()]
    ctx.emit(
        {"file": str(settings.file), "sources": [_report_data(report) for report in reports]},
        lambda: "\n\n".join(_report_text(report) for report in reports),
    )
    for report in reports:
        if report.error is not None:
            return report.error.exit_code
    strict = any(r.surplus_grants and ctx.settings.source(r.source_id).strict_readonly for r in reports)
    return 5 if strict else 2 if any(report.errors for report in reports) else 0


def _report_data(report: SourceReport) -> dict[str, Any]:
    data = asdict(report)
    data["error"] = report.error.as_dict() if report.error else None
    for entry in data["tables"]:
        entry["words"] = {
            name: [{"source": s, "unified": u, "rows": n} for s, u, n in words]
            for name, words in entry["words"].items()
        }
    return data | {"errors": report.errors}


def _report_text(report: SourceReport) -> str:
    lines = [f"source {report.source_id}"]
    if report.error is not None:
        lines.append(f"  error: {report.error.message}")
        return "\n".join(lines)
    lines.append(f"  server       {report.dialect} {report.server_version}")
    lines.append(f"  fingerprint  {report.fingerprint}")
    lines += [f"  grant        {grant}" for grant in report.grants]
    lines += [f"  WARN         more than reading: {grant}" for grant in report.surplus_grants]
    for entry in report.tables:
        lines += ["", *_table_text(entry)]
    lines += ["", "  features"]
    for feature in report.features:
        state = "on" if feature.on else f"not applicable, needs {feature.needs}"
        lines.append(f"    {feature.name:<38} {state}")
    found = report.errors
    lines += ["", f"  {len(found)} problem{'s' if len(found) != 1 else ''}" if found else "  no problem found"]
    return "\n".join(lines)


def _table_text(entry: TableReport) -> list[str]:
    rows = f", about {entry.row_estimate:,} rows" if entry.row_estimate is not None else ""
    lines = [f"  {entry.entity} <- {entry.table}{rows if entry.exists else ''}"]
    for finding in entry.findings:
        lines.append(f"    {finding.level.upper()} {finding.path}: {finding.message}")
    if entry.sql:
        lines.append(f"    sql     {entry.sql}")
    for name, words in entry.words.items():
        for source_word, unified, count in words:
            target = unified or ("unknown (empty)" if source_word in (None, "") else "unknown: NOT IN THE MAP")
            lines.append(f"    {name:<10} {source_word!s:<20} -> {target} ({count:,})")
    lines += [f"    WARN no index {index}" for index in entry.indexes_missing]
    if entry.sample:
        headers = list(entry.sample[0])
        body = [[row.get(name) for name in headers] for row in entry.sample]
        lines += ["    sample", table(headers, body, "      ")]
    return lines


# -- doctor -----------------------------------------------------------------------------------------------------------


def doctor(*, ctx: Ctx) -> int:
    """Check the environment: versions, folders, disk, warehouse, connections, privileges, time zone, clocks."""
    from monitoring_pipelines.config.doctor import Check, examine

    checks: list[Check] = []
    try:
        settings = ctx.settings
        checks.append(Check("configuration", "ok", f"{settings.file}, {len(settings.sources)} sources"))
        sources = [settings.source(name) for name in ctx.source] if ctx.source else settings.enabled_sources
        if not ctx.json:
            _show(checks)
        for check in examine(settings, sources, ctx.clock):
            checks.append(check)
            if not ctx.json:
                _show([check])
    except ConfigError as error:
        checks.append(Check("configuration", "error", error.message, error.hint, error.exit_code))
        if not ctx.json:
            _show(checks)
    failed = [check for check in checks if check.level == "error"]
    data = {"checks": [asdict(check) for check in checks], "ok": not failed}
    summary = f"{len(failed)} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    ctx.emit(data, summary)
    return failed[0].exit_code if failed else 0


def _show(checks: list[Check]) -> None:
    for check in checks:
        write(f"{_MARKS[check.level]}  {check.name:<28} {check.detail}")
        if check.hint and check.level != "ok":
            write(f"{'':<35}{check.hint}")


def ddl(
    entity: str | None = None,
    /,
    *,
    ctx: Ctx,
    dialect: Literal["mysql", "mariadb", "sqlite"] = "mysql",
) -> int:
    """Print tables for data a team keeps only in memory (E-512).

    Args:
        ctx: Global options.
        entity: task_event, job_run, process_sample, probe_result or ingest_counter; all if left out.
        dialect: Server the statements are for.
    """
    from monitoring_pipelines.ddl import ddl as statements

    text = statements(entity, dialect)
    ctx.emit({"dialect": dialect, "sql": text}, text.rstrip())
    return 0


__all__ = ["Context", "ddl", "doctor", "init", "validate"]
