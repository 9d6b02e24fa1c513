"""One source looked at as ``mp validate`` shows it (E-507): SQL, samples, status words, indexes, grants, features.

What belongs here: collecting these facts over one connection, masked. What does not: rules about a mapping (``live``),
printing (``cli.setup``).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.config.expr_sql import quote_name
from monitoring_pipelines.config.features import Feature, features
from monitoring_pipelines.config.live import (
    Finding,
    column_findings,
    index_advice,
    key_findings,
    payload_findings,
    present_columns,
)
from monitoring_pipelines.config.rules import WORDS
from monitoring_pipelines.entities import entities
from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.config.source_schema import ColumnMapping, SourceSettings, TableMapping
    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.source.inspect import ColumnType, TableInfo
    from monitoring_pipelines.source.select import SelectPlan

SAMPLE_ROWS = 5
#: Rows whose status words are counted: the newest, so that a big table is not scanned.
STATUS_ROWS = 20_000
#: Privileges a reading account needs; anything else it holds is reported.
_READ_GRANTS = {"usage", "select", "show view", "show databases", "process", "replication client", "binlog monitor",
                "slave monitor", "replica monitor"}  # fmt: skip
#: A quoted name in a line of SHOW GRANTS.
_QUOTED = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
#: Text columns that name things rather than hold content; samples show them as they are.
_OPEN_TEXT = {"endpoint", "status", "event_type", "outcome", "trigger", "risk_level", "scope", "kind", "series",
              "media_type", "old_status", "new_status", "failure_type", "category", "schedule", "state", "channel",
              "target", "health_state"}  # fmt: skip


@dataclass
class TableReport:
    """Facts about one mapped table."""

    entity: str
    table: str
    exists: bool
    sql: str | None = None
    sample: list[dict[str, Any]] = field(default_factory=list)
    #: Column → [(source word, unified word or None when not in the map, rows)].
    words: dict[str, list[tuple[str | None, str | None, int]]] = field(default_factory=dict)
    indexes_missing: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    row_estimate: int | None = None


@dataclass
class SourceReport:
    """Facts about one source."""

    source_id: str
    dialect: str = ""
    server_version: str = ""
    fingerprint: str = ""
    grants: list[str] = field(default_factory=list)
    surplus_grants: list[str] = field(default_factory=list)
    tables: list[TableReport] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)
    error: ProductError | None = None

    @property
    def errors(self) -> list[str]:
        """What keeps this source from being read."""
        found = [f"{t.entity}.{f.path}: {f.message}" for t in self.tables for f in t.findings if f.level == "error"]
        return [str(self.error), *found] if self.error else found


def inspect_source(settings: Settings, source: SourceSettings) -> SourceReport:
    """Look at ``source`` through its read DSN; a failed connection is part of the report, not an exception."""
    from monitoring_pipelines.source.engine import connect

    report = SourceReport(source.id)
    try:
        with connect(source.read_dsn(), settings) as connection:
            _Inspection(source, connection, report).run()
    except ProductError as error:
        report.error = error
    return report


class _Inspection:
    def __init__(self, source: SourceSettings, connection: SourceConnection, report: SourceReport) -> None:
        self.source, self.connection, self.report = source, connection, report

    def run(self) -> None:
        from monitoring_pipelines.source.inspect import inspect_tables

        report = self.report
        report.dialect, report.server_version = self.connection.dialect, self.connection.server_version
        report.grants = read_grants(self.connection)
        report.surplus_grants = surplus_grants(report.grants)
        mappings = [m for tables in self.source.tables.values() for m in tables]
        infos = inspect_tables(self.connection, [m.table for m in mappings])
        present: dict[str, set[str]] = {}
        digest: dict[str, Any] = {}
        for mapping in mappings:
            table = self.table(mapping, infos.get(mapping.table), present, digest)
            report.tables.append(table)
        for name, finding in key_findings(self.source, infos):
            next(t for t in report.tables if t.table == name and t.entity == "task_output").findings.append(finding)
        report.features = features(self.source, present)
        report.fingerprint = hashlib.sha256(json.dumps(digest, sort_keys=True).encode()).hexdigest()[:16]

    def table(
        self, mapping: TableMapping, info: TableInfo | None, present: dict[str, set[str]], digest: dict[str, Any]
    ) -> TableReport:
        result = TableReport(mapping.entity, mapping.table, info is not None)
        if info is None:
            level = "info" if mapping.optional else "error"
            tail = "; optional, not mapped" if mapping.optional else ""
            result.findings.append(Finding(level, "table", f"{mapping.table} does not exist or may not be read{tail}"))
            return result
        types = info.columns
        result.row_estimate = info.row_estimate
        result.findings += column_findings(mapping, types)
        if self.connection.dialect != "sqlite":  # every SQLite text is of the type text
            result.findings += payload_findings(mapping, types)
        if not any(f.level == "error" for f in result.findings):
            present.setdefault(mapping.entity, set()).update(present_columns(mapping, types))
            if mapping.inline is not None:
                result.sql = f"1 where {mapping.inline.render(self.connection.dialect)}, on each task row"
            else:
                self.read(mapping, types, result, digest)
                result.indexes_missing = index_advice(mapping, info)
        return result

    def read(
        self, mapping: TableMapping, types: dict[str, ColumnType], result: TableReport, digest: dict[str, Any]
    ) -> None:
        from monitoring_pipelines.source.select import build_select

        try:
            plan = build_select(mapping, self.source, self.connection.dialect, types)
        except ProductError as error:
            result.findings.append(Finding("error", "table", error.message))
            return
        digest[f"{mapping.table}/{mapping.entity}"] = {
            name: f"{types[name].column_type} {types[name].nullable}" for name in plan.used_columns if name in types
        }
        result.sql = plan.render()
        newest = f"{plan.row_id_sql} desc" if plan.row_id_sql else None
        rows = self.connection.query(plan.render(order_by=newest, limit=SAMPLE_ROWS))
        result.sample = [_sample(plan, row) for row in rows]
        for name, column in mapping.columns.items():
            if (mapping.entity, name) in WORDS and column.source_expr is not None and name not in plan.absent:
                result.words[name] = self.words(mapping, plan, name, column)

    def words(
        self, mapping: TableMapping, plan: SelectPlan, name: str, column: ColumnMapping
    ) -> list[tuple[str | None, str | None, int]]:
        """Words found in the newest rows and what they become (E-202)."""
        expr = column.source_expr
        assert expr is not None
        newest = f" order by {plan.row_id_sql} desc" if plan.row_id_sql else ""
        inner = (
            f"select {expr.render(self.connection.dialect)} as word from {plan.from_sql}{newest} limit {STATUS_ROWS}"
        )
        rows = self.connection.query(f"select word, count(*) from ({inner}) as newest group by word order by 2 desc")
        known = column.map or {word: word for word in WORDS[mapping.entity, name]}
        found = []
        for raw, count in rows[:50]:
            word = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else None if raw is None else str(raw)
            found.append((word, known.get(word) if word is not None else None, int(count)))
        return found


def _sample(plan: SelectPlan, row: tuple[Any, ...]) -> dict[str, Any]:
    """One row with its unified names, times readable, content masked (E-006, E-403)."""
    result: dict[str, Any] = {}
    kinds = {c.name: c.kind for c in entities()[plan.entity].columns}
    for item, value in zip(plan.fields, row, strict=True):
        if item.alias.startswith("__") or item.alias not in kinds:
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if item.transport == "us":
            value = _instant(value)
        elif isinstance(value, str) and kinds[item.alias] in ("text", "json") and item.alias not in _OPEN_TEXT:
            value = mask_value(value)
        result[item.alias] = value
    return result


def _instant(micros: Any) -> str | None:
    if micros is None:
        return None
    try:
        return (datetime(1970, 1, 1) + timedelta(microseconds=int(micros))).isoformat(sep=" ")
    except OverflowError:
        return "zero date"


def mask_value(text: str) -> str:
    """``text`` with only its ends readable: enough to recognise a key, too little to read content."""
    return text if text == "" else "***" if len(text) < 8 else f"{text[:3]}***{text[-2:]}"


def read_grants(connection: SourceConnection) -> list[str]:
    """Grants of the account and of every role it may take on, one per line, without passwords; empty for SQLite."""
    if connection.dialect == "sqlite":
        return []
    # Without FOR: only so does MariaDB add what every account holds through PUBLIC.
    lines = [str(row[0]) for row in connection.query("show grants")]
    lines += _role_grants(connection, lines)
    return list(dict.fromkeys(line.split(" IDENTIFIED BY")[0] for line in lines))


def _role_grants(connection: SourceConnection, lines: list[str]) -> list[str]:
    """What the granted and mandatory roles allow, active or not: ``SET ROLE`` needs no further right."""
    if not connection.query(
        "select 1 from information_schema.tables "
        "where table_schema = 'information_schema' and table_name = 'APPLICABLE_ROLES'"
    ):
        # A server that does not list them: a role that cannot be looked into counts as one that may write.
        granted = [_masked(line).removeprefix("GRANT ") for line in lines]
        return ["GRANT ROLE ON *.* TO CURRENT_USER" for line in granted if " ON " not in line]
    if connection.dialect == "mysql":
        roles = [
            f"{quote_name(_text(name), 'mysql')}@{quote_name(_text(host), 'mysql')}"
            for name, host in connection.query(
                "select role_name, role_host from information_schema.applicable_roles "
                "where grantee = user and grantee_host = host"
            )
        ]
        used = f"show grants for current_user() using {', '.join(roles)}"
        return [str(row[0]) for row in connection.query(used)] if roles else []
    found = []
    before = connection.query("select current_role()")[0][0]
    roles = [
        quote_name(_text(row[0]), "mariadb")
        for row in connection.query(
            "select role_name from information_schema.applicable_roles where grantee = current_user()"
        )
    ]
    for role in roles:
        # MariaDB shows the privileges of the role that is active, and no others.
        connection.query(f"set role {role}")
        found += [str(row[0]) for row in connection.query("show grants")]
    if roles:
        connection.query("set role none" if before is None else f"set role {quote_name(_text(before), 'mariadb')}")
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _masked(line: str) -> str:
    """``line`` of the same length with quoted names made harmless: they may hold any character."""
    return _QUOTED.sub(lambda found: "`" + "_" * (len(found[0]) - 2) + "`", line)


def surplus_grants(grants: list[str]) -> list[str]:
    """Privileges beyond reading, as ``PRIVILEGE ON object`` (R-301, ``strict_readonly``).

    What a partial revoke takes away from a grant on ``*.*`` is not subtracted: the right to write elsewhere stays.
    """
    found = []
    for line in grants:
        masked = _masked(line)
        if not masked.startswith("GRANT ") or " ON " not in masked:
            continue  # a role, whose privileges have lines of their own; a schema taken out of a grant on *.*
        begin = masked.index(" ON ")
        end = masked.find(" TO ", begin)
        place = line[begin + 4 : end if end > 0 else None]
        # Columns of a privilege stand in brackets behind it.
        for name in re.sub(r"\([^)]*\)", "", masked[len("GRANT ") : begin]).split(","):
            word = name.strip()
            if word and word.lower() not in _READ_GRANTS:
                found.append(f"{word} ON {place}")
        if "WITH GRANT OPTION" in masked:
            found.append(f"GRANT OPTION ON {place}")
    return found
