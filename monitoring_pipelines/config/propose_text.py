"""The commented configuration that ``mp init`` writes.

What belongs here: YAML text. What does not: what is proposed (``propose``).
"""

from __future__ import annotations

from typing import Any

from monitoring_pipelines.config.propose import PresetMatch, Proposal, TableGuess
from monitoring_pipelines.entities import TASK_STATUSES, entities

_HEAD = """\
# Configuration of monitoring-pipelines. `mp validate` checks it, `mp doctor` the machine and the connections.
# Every setting that is not here has its default; secrets are never written here, only the names of variables.
version: 1
timezone: {timezone}            # local days and schedules; stored times are UTC
language: {language}
paths: {{data: ./data, logs: ./logs}}
# extract: {{interval_s: 30, query_timeout_s: 30, max_source_load: {{threads_running: 50}}}}
# retention: {{raw_days: 30, minute_days: 30, hour_days: 400}}

sources:
  - id: {source_id}
    read_dsn_env: {dsn_env}      # mysql://user:password@host:3306/database of an account with SELECT only
"""


def configuration_text(
    proposal: Proposal | None,
    preset: str | None,
    source_id: str,
    dsn_env: str,
    timezone: str = "Asia/Shanghai",
    language: str = "zh-CN",
) -> str:
    """The whole file.

    Args:
        proposal: What was found in the schema; None when it was not read.
        preset: Preset asked for by the user.
        source_id: Id of the source.
        dsn_env: Variable that holds its DSN.
        timezone: Zone of local days.
        language: Language of messages.
    """
    head = _HEAD.format(source_id=source_id, dsn_env=dsn_env, timezone=timezone, language=language)
    if proposal is None:
        return f"{head}    preset: {preset}            # the schema was not read; run `mp validate`\n"
    if proposal.chosen is not None:
        return head + _preset_text(proposal.chosen, proposal)
    return head + _guessed_text(proposal)


def confidence_word(share: float) -> str:
    """How sure, in a word and percent."""
    word = "certain" if share >= 0.9 else "likely" if share >= 0.7 else "uncertain" if share >= 0.45 else "a guess"
    return f"{word}, {100 * share:.0f} %"


def _preset_text(match: PresetMatch, proposal: Proposal) -> str:
    others = [f"{m.name} {100 * m.score:.0f} %" for m in proposal.presets if m is not match]
    lines = [f"    preset: {match.name}            # {confidence_word(match.score)} of the preset's columns found"]
    if others:
        lines.append(f"    # other presets: {', '.join(others)}")
    changes: dict[str, dict[str, list[str]]] = {}
    for entity, table, unified, column in match.absent_columns:
        if unified in entities()[entity].key or unified in ("status", "event_type", "at"):
            note = f"          {unified}: FILL_IN            # {table} has no column {column}; name the right one"
        else:
            note = f"          {unified}: null            # {table} has no column {column}"
        changes.setdefault(entity, {}).setdefault(table, []).append(note)
    gone = [(entity, table) for entity, table in match.absent_tables if entity not in changes]
    if changes or gone:
        lines.append("    tables:                  # differences from the preset")
    for entity, table in gone:
        lines.append(f"      {entity}: null            # there is no table {table}; name yours, or leave it out")
    for entity, tables in changes.items():
        lines.append(f"      {entity}:")
        for table, notes in tables.items():
            lines += [f"        table: {table}", "        columns:", *notes]
    return "\n".join(lines) + "\n"


def _guessed_text(proposal: Proposal) -> str:
    if not proposal.guesses:
        seen = ", ".join(proposal.tables_seen[:30]) or "none"
        return (
            f"    # No table looks like tasks. Tables seen: {seen}\n"
            "    tables:\n      task:\n        table: FILL_IN\n        key: FILL_IN\n        columns:\n"
            "          status: FILL_IN\n          created_at: FILL_IN\n          ended_at: FILL_IN\n"
        )
    lines = ["    # Matched by names and types; look at every line. `mp validate` shows samples of what it means.",
             "    tables:"]  # fmt: skip
    for guess in proposal.guesses:
        lines += _table_lines(guess)
    left = [t for t in proposal.tables_seen if t not in {g.table for g in proposal.guesses}]
    if left:
        shown = ", ".join(left[:40]) + (" …" if len(left) > 40 else "")
        lines.append(f"      # not mapped: {shown}")
    return "\n".join(lines) + "\n"


def _table_lines(guess: TableGuess) -> list[str]:
    key = entities()[guess.entity].key
    by_name = {c.name: c for c in guess.columns}
    lines = [f"      {guess.entity}:            # {confidence_word(guess.confidence)}", f"        table: {guess.table}"]
    if guess.row_id:
        lines.append(f"        row_id: {guess.row_id}")
    keys = [by_name[k].column if k in by_name else "FILL_IN" for k in key]
    shown = keys[0] if len(keys) == 1 else "[" + ", ".join(keys) + "]"
    sure = min((by_name[k].confidence if k in by_name else 0.0) for k in key)
    lines.append(f"        key: {shown}            # {confidence_word(sure)}")
    if guess.updated_at:
        lines.append(f"        updated_at: {guess.updated_at}")
    if guess.entity != "task":
        lines.append("        optional: true")
    lines.append("        columns:")
    for column in guess.columns:
        if column.name not in key:
            form, notes = _form(column.column, dict(column.options))
            lines.append(f"          {column.name}: {form}            # {confidence_word(column.confidence)}")
            lines += notes
    lines += [f"          {name}: FILL_IN            # required" for name in guess.missing if name not in key]
    return lines


def _form(column: str, options: dict[str, Any]) -> tuple[str, list[str]]:
    """The column's form on one line, and comment lines that follow it."""
    if "left" in options:
        return f'{{expr: "left(`{column}`, {options["left"]})"}}', []
    if "map" in options:
        known = {word: unified for word, unified in options["map"].items() if unified}
        unknown = [word for word in options["map"] if not options["map"][word]]
        pairs = ", ".join(f"{_quoted(word)}: {unified}" for word, unified in known.items())
        notes = []
        if unknown:
            words = ", ".join(unknown)
            notes = [
                f"          # not understood, they count as unknown: {words}. Choose from {', '.join(TASK_STATUSES)}"
            ]
        return (f"{{column: {_quoted(column)}, map: {{{pairs}}}}}" if pairs else _quoted(column)), notes
    if "time" in options:
        return f"{{column: {_quoted(column)}, time: {options['time']}}}", []
    if "null_if" in options:
        return f'{{column: {_quoted(column)}, null_if: [""]}}', []
    return _quoted(column), []


def _quoted(text: str) -> str:
    """A YAML scalar that stays text whatever it looks like."""
    import json

    plain = text.replace("_", "").isalnum() and not text[0].isdigit()
    return (
        text if plain and text.lower() not in ("null", "true", "false", "yes", "no", "on", "off") else json.dumps(text)
    )
