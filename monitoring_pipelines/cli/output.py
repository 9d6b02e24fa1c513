"""What commands write: text for people, JSON for programs, and errors in three lines.

What belongs here: formatting and masking. What does not: what is said.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TextIO

from monitoring_pipelines.errors import ConfigError, ProductError


def write(text: str, stream: TextIO | None = None) -> None:
    """Write ``text`` and a line end, masked (E-006)."""
    from monitoring_pipelines.config.secrets import mask

    out = stream or sys.stdout
    out.write(mask(text) + "\n")
    out.flush()


def write_json(data: Any, stream: TextIO | None = None) -> None:
    """Write ``data`` as one JSON document; times in UTC with ``Z``."""
    write(json.dumps(data, ensure_ascii=False, indent=2, default=_plain), stream)


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat() + ("Z" if value.tzinfo is None else "")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value) if isinstance(value, (set, frozenset)) else list(value)
    return str(value)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], indent: str = "") -> str:
    """Columns of text as wide as a terminal shows them, numbers to the right, a rule under the headers."""
    body = [["-" if value is None else _cell(value) for value in row] for row in rows]
    right = [bool(body) and all(_is_number(row[i]) for row in body) for i in range(len(headers))]
    widths = [max([_width(h), *(_width(row[i]) for row in body)]) for i, h in enumerate(headers)]

    def line(cells: Sequence[str]) -> str:
        gaps = [" " * (w - _width(c)) for c, w in zip(cells, widths, strict=True)]
        parts = [gap + c if r else c + gap for c, gap, r in zip(cells, gaps, right, strict=True)]
        return (indent + "  ".join(parts)).rstrip()

    return "\n".join([line(headers), line(["-" * w for w in widths]), *(line(row) for row in body)])


def _width(text: str) -> int:
    """Columns of a terminal that the text takes: two for a Chinese character, none for a combining mark."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return str(value).replace("\n", " ")


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace("-", "", 1).replace(",", "").isdigit()


def write_error(error: ProductError, as_json: bool) -> None:
    """What happened, the cause, what to do; as JSON on standard output with ``--json``."""
    if as_json:
        write_json({"error": error.as_dict() | {"exit_code": error.exit_code}})
        return
    lines = [f"error: {error.message}"]
    cause = error.cause
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        lines = [f"error: {problem.message}{_short_hint(problem)}" for problem in error.problems]
        cause = cause or f"{len(error.problems)} problems in the configuration; nothing was done"
    lines.append(f"cause: {cause or _cause_of(error)}")
    lines.append(f"hint:  {error.hint or _HINTS.get(error.code, 'run `mp doctor`')}")
    write("\n".join(lines), sys.stderr)


def _short_hint(problem: ConfigError) -> str:
    return f" ({problem.hint})" if problem.hint and len(problem.hint) <= 60 else ""


_CAUSES = {
    "config": "the configuration cannot be used as it is; nothing was done",
    "usage": "the command cannot be carried out as it was given; nothing was done",
    "not_found": "nothing with this id is stored; nothing was done",
    "nothing_published": "no cycle has finished yet for this configuration",
    "source_unavailable": "the source did not answer; stored data is unchanged",
    "schema_drift": "the source's schema no longer fits the mapping; stored data is unchanged",
    "locked": "another process is writing",
    "refused": "a safety rule does not allow it; nothing was done",
    "paused": "a limit was reached; finished work is kept",
}
_HINTS = {
    "config": "correct it and run `mp validate`",
    "usage": "`mp --help` lists commands, `mp COMMAND --help` their options",
    "source_unavailable": "`mp doctor` shows which step of the connection fails",
    "schema_drift": "run `mp validate`",
    "locked": "try again, or see who writes with `mp status`",
}


def _cause_of(error: ProductError) -> str:
    if error.__cause__ is not None:
        first = str(error.__cause__).strip().splitlines()
        return f"{type(error.__cause__).__name__}: {first[0] if first else ''}"
    if error.code in _CAUSES:
        return _CAUSES[error.code]
    word = error.code.replace("_", " ")
    kinds = (getattr(kind, "code", "") for kind in type(error).__mro__)
    general = next((_CAUSES[code] for code in kinds if code in _CAUSES), "nothing more is known")
    return f"{word}; {general}"


class _MaskingFormatter(logging.Formatter):
    """A log line without secrets (E-006), with UTC time."""

    def format(self, record: logging.LogRecord) -> str:
        from monitoring_pipelines.config.secrets import mask

        return mask(super().format(record))


def set_up_logging(level: str) -> None:
    """Send log lines of ``level`` and above to standard error."""
    import time

    handler = logging.StreamHandler(sys.stderr)
    formatter = _MaskingFormatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
