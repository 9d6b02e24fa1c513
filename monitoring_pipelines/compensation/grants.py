"""Accounts of repair: the exact GRANT statements for a mapping, and what an account has beyond them (§8, R-801).

What belongs here: statements to print and to compare, creating the journal once. What does not: granting anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from monitoring_pipelines.compensation.journal import ddl
from monitoring_pipelines.compensation.session import open_session
from monitoring_pipelines.compensation.target import (
    Reference,
    insert_triggers,
    inspect_target,
    output_mapping,
    references,
)
from monitoring_pipelines.config.inspection import read_grants, surplus_grants
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.source.inspect import split_table

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings, SourceSettings


@dataclass
class Doctor:
    """What ``repair doctor`` found for one source."""

    source_id: str
    dialect: str = "unknown"
    grants: dict[str, list[str]] = field(default_factory=dict)
    #: Account → privileges beyond the documented ones, as far as SHOW GRANTS tells.
    surplus: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return vars(self)


def examine(settings: Settings, source: SourceSettings) -> Doctor:
    """Statements and findings for one source. Only the reading account is opened (R-802)."""
    found = Doctor(source.id)
    try:
        mapping = output_mapping(source)
    except ProductError as error:
        # Without an account that writes it was never meant to be repaired, and nothing is wrong.
        is_meant = bool(source.repair_dsn_env or source.repair_dsn_file)
        (found.problems if is_meant else found.notes).append(error.message)
        return found
    tables = [m.table for m in source.mapped("task")] + [mapping.table]
    children: list[Reference] = []
    try:
        with connect(source.read_dsn(), settings) as connection:
            found.dialect = connection.dialect
            database = "" if connection.dialect == "sqlite" else str(connection.query("select database()")[0][0])
            target = inspect_target(connection, settings, source)
            children = references(connection, target)
            for trigger in insert_triggers(connection, target):
                found.notes.append(f"trigger {trigger} of {target.table} runs with every row repair inserts or removes")
            if connection.dialect != "sqlite":
                found.surplus["read"] = surplus_grants(read_grants(connection))
    except ProductError as error:
        found.problems.append(error.message)
        try:
            # Without rights nothing can be looked at, and the statements are what is needed: out of the DSN alone.
            scheme, _, rest = source.read_dsn().partition("://")
        except ProductError:
            return found
        found.dialect = scheme if found.dialect == "unknown" else found.dialect
        database = unquote(rest.partition("?")[0].rpartition("/")[2])
        found.notes.append("foreign keys that point at the output table could not be looked for")
    for child in children:
        found.notes.append(f"rows of {child.table} may point at outputs: a rollback keeps those (blocked_by_reference)")
    if found.dialect == "sqlite":
        found.notes.append("SQLite has no accounts; the journal is a table of the same file")
        return found
    places = [_place(table, database) for table in dict.fromkeys(tables)]
    found.grants = statements(
        settings, found.dialect, places, _place(mapping.table, database), [_place(c.table, database) for c in children],
        _accounts(source),
    )  # fmt: skip
    return found


def statements(
    settings: Settings, dialect: str, tables: Sequence[str], output: str, children: Sequence[str],
    accounts: dict[str, str],
) -> dict[str, list[str]]:  # fmt: skip
    """GRANT statements by account: read, repair, rollback, init."""
    journal = f"`{settings.repair.journal_schema}`"
    tasks = [table for table in tables if table != output]
    repair = [f"GRANT SELECT ON {table} TO {accounts['repair']};" for table in tasks]
    repair += [
        f"GRANT SELECT, INSERT ON {output} TO {accounts['repair']};",
        f"GRANT SELECT, INSERT, UPDATE ON {journal}.* TO {accounts['repair']};",
    ]
    if settings.repair.journal == "wal":
        repair.pop()
    if dialect == "mysql":
        # FOR UPDATE needs one of DELETE, LOCK TABLES, UPDATE besides SELECT; LOCK TABLES exists per schema only.
        schema = output.split(".")[0]
        repair.append(f"GRANT LOCK TABLES ON {schema}.* TO {accounts['repair']};")
    rollback = [line.replace(accounts["repair"], accounts["rollback"]) for line in repair]
    rollback = [line.replace("SELECT, INSERT ON", "SELECT, INSERT, DELETE ON") for line in rollback]
    rollback += [f"GRANT SELECT ON {child} TO {accounts['rollback']};" for child in children]
    init = [f"GRANT CREATE ON {journal}.* TO {accounts['init']};  -- for `mp repair init` only, revoke it afterwards"]
    return {
        "read": [f"GRANT SELECT ON {table} TO {accounts['read']};" for table in tables],
        "repair": repair, "rollback": rollback, "init": init,
    }  # fmt: skip


def _place(table: str, database: str) -> str:
    schema, name = split_table(table)
    return f"`{schema or database}`.`{name}`"


def _accounts(source: SourceSettings) -> dict[str, str]:
    """Account names out of the DSNs, without opening them; a missing one gets a name to replace."""
    names = {"init": "'mp_init'@'%'"}
    for role, getter in (("read", source.read_dsn), ("repair", source.repair_dsn), ("rollback", source.rollback_dsn)):
        try:
            dsn = getter()
        except ProductError:
            dsn = None
        user = unquote(urlsplit(dsn).username or "") if dsn else ""
        user = user or f"mp_{role}"
        names[role] = "'" + user.replace("'", "''") + "'@'%'"
    return names


def create_journal(settings: Settings, dsn: str) -> list[str]:
    """Create the journal with the account of ``dsn``, which is not stored (``repair init``, R-101).

    Returns:
        The statements that were run.
    """
    session = open_session(dsn, settings)
    try:
        done = ddl(settings, session.dialect)
        for statement in done:
            session.execute(statement)
    finally:
        session.close()
    return done
