"""Outputs that the source itself still knows: a JSON column of the task row, or an event of the task (R §5).

What belongs here: single-task reads by key, at most 1 MB each. What does not: reading ranges.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.model import Recovered, Task
from monitoring_pipelines.compensation.recoverers.base import Answer, Context, NoOutput, Outputs
from monitoring_pipelines.compensation.recoverers.documents import entry_output, walk, whole
from monitoring_pipelines.compensation.stored import plain
from monitoring_pipelines.config.expr_sql import quote_name, quote_text
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.source.inspect import quote_table

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema_services import RecovererSettings

#: Longest document read, bytes.
MAX_BYTES = 1_048_576
#: Events of one task that are looked at.
MAX_EVENTS = 200


class TaskJson:
    """Reads a list of outputs from a JSON column of the task row."""

    needs_remote_id = False

    def __init__(self, item: RecovererSettings, ctx: Context) -> None:
        if not item.column:
            raise ConfigError(None, None, f"repair.recoverers.{item.id}.column", "task_json needs the name of a column")
        self._item = item
        self._keys = {m.table: m.columns["task_key"].column for m in ctx.source.mapped("task")}

    def recover(self, task: Task, ctx: Context) -> Answer:
        """One read by key."""
        connection = ctx.source_connection()
        dialect = connection.dialect
        column, key = quote_name(self._item.column or "", dialect), self._keys.get(task.table)
        if key is None:
            return NoOutput("the task key is not a plain column")
        size = "length" if dialect == "sqlite" else "octet_length"
        rows = connection.query(
            f"select {quote_name(key, dialect)}, case when {size}({column}) <= {MAX_BYTES} then {column} end, "
            f"{size}({column}) from {quote_table(task.table, dialect)} "
            f"where {quote_name(key, dialect)} = {quote_text(task.task_key, dialect)}"
        )
        for stored_key, text, length in rows:
            if plain(stored_key) == task.task_key:
                if length is not None and int(length) > MAX_BYTES:
                    return NoOutput(f"the document has {length} bytes, more than {MAX_BYTES}")
                return _outputs(_documents(plain(text)), self._item, {"column": self._item.column})
        return NoOutput("the task row is gone")


class TaskEvent:
    """Reads outputs from the JSON or the message of a task's events."""

    needs_remote_id = False

    def __init__(self, item: RecovererSettings, ctx: Context) -> None:
        where = f"repair.recoverers.{item.id}"
        if not item.table or not item.column:
            raise ConfigError(None, None, where, "task_event needs table and column")
        if item.type is not None and item.type_column is None:
            raise ConfigError(None, None, f"{where}.type_column", "type needs the name of the column that holds it")
        if item.regex is not None:
            try:
                names = re.compile(item.regex).groupindex
            except re.error as error:
                raise ConfigError(None, None, f"{where}.regex", f"not a regular expression: {error}") from None
            if "uri" not in names:
                raise ConfigError(None, None, f"{where}.regex", "the expression needs a group (?P<uri>…)")
        self._item = item
        tasks = [m.columns["task_key"].column for m in ctx.source.mapped("task")]
        self._key = item.key_column or next((name for name in tasks if name), None)
        if self._key is None:
            raise ConfigError(None, None, f"{where}.key_column", "name the column that holds the task's key")

    def recover(self, task: Task, ctx: Context) -> Answer:
        """One read of the task's events."""
        item, connection = self._item, ctx.source_connection()
        dialect = connection.dialect
        key, column = quote_name(self._key or "", dialect), quote_name(item.column or "", dialect)
        cut = f"substr({column}, 1, {MAX_BYTES // 4})"
        condition = f"{key} = {quote_text(task.task_key, dialect)}"
        if item.type is not None:
            condition += f" and {quote_name(item.type_column or '', dialect)} = {quote_text(item.type, dialect)}"
        rows = connection.query(
            f"select {key}, {cut} from {quote_table(item.table or '', dialect)} where {condition} limit {MAX_EVENTS}"
        )
        texts = [plain(text) for stored_key, text in rows if plain(stored_key) == task.task_key]
        evidence = {"table": item.table}
        if item.regex is None:
            return _outputs([d for text in texts for d in _documents(text)], item, evidence)
        found = [_matched(match, evidence) for text in texts for match in re.finditer(item.regex, text or "")]
        return Outputs(tuple(found)) if found else NoOutput("no event matches")


def _documents(text: str | None) -> list[Any]:
    try:
        return [] if text is None else [json.loads(text)]
    except ValueError:
        return []


def _outputs(documents: list[Any], item: RecovererSettings, evidence: dict[str, Any]) -> Answer:
    found: list[Recovered] = []
    for document in documents:
        entries = walk(document, item.path)
        for entry in entries if isinstance(entries, list) else [entries]:
            output = entry_output(entry, item.fields, evidence)
            if output is not None:
                found.append(output)
    return Outputs(tuple(found)) if found else NoOutput("no outputs in the document")


def _matched(match: re.Match[str], evidence: dict[str, Any]) -> Recovered:
    groups = match.groupdict()
    return Recovered(groups["uri"], groups.get("type"), groups.get("node"), whole(groups.get("size")), evidence)
