"""Figures as people say them, the same in messages, alerts and pages (A-309).

What belongs here: lengths of time, sizes and shares as text. What does not: instants and dates, fixed sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from monitoring_pipelines.said import said

#: seconds, zh-CN, en
_UNITS = ((86_400, "天", "d"), (3600, "小时", "h"), (60, "分", "min"), (1, "秒", "s"))
_GIB, _MIB = 1024**3, 1024**2


def span(seconds: float, language: str, *, brief: bool = False) -> str:
    """A length of time with its two largest units; less than a minute keeps a few digits below the second.

    Args:
        seconds: Seconds; negative ones keep their sign.
        language: ``zh-CN`` or ``en``.
        brief: Leave the smaller unit out where it hardly matters, and fractions of seconds.
    """
    if seconds < 0:
        return "-" + span(-seconds, language, brief=brief)
    names = [unit[1 if language == "zh-CN" else 2] for unit in _UNITS]
    if seconds < 60:
        return f"{int(seconds) if brief else number(seconds)} {names[-1]}"
    place = next(n for n, unit in enumerate(_UNITS) if seconds >= unit[0])
    size, smaller = _UNITS[place][0], _UNITS[place + 1][0]
    count, rest = divmod(int(seconds), size)
    rest //= smaller
    more = f" {rest} {names[place + 1]}" if rest and (count < 10 or not brief) else ""
    return f"{count} {names[place]}{more}"


def size(count: float) -> str:
    """Bytes as MiB or, from one on, GiB."""
    return f"{count / _GIB:.2f} GiB" if abs(count) >= _GIB else f"{count / _MIB:.1f} MiB"


def share(part: float) -> str:
    """A part of one as a percentage."""
    return f"{number(round(100 * part, 2))}%"


def number(value: Any) -> str:
    """Numbers as people write them: whole ones and large ones without a fraction, others with a few digits of it."""
    if not isinstance(value, float):
        return str(value)
    if value.is_integer() or abs(value) >= 1000:
        return str(round(value))
    return f"{value:.{1 if abs(value) >= 10 else 4}f}".rstrip("0").rstrip(".")


#: Words of English sentences that count, as they are for one.
_ONE = {
    "tasks": "task", "rows": "row", "outputs": "output", "anomalies": "anomaly", "alerts": "alert", "messages": "message",
    "runs": "run", "times": "time", "threads": "thread", "connections": "connection", "subjects": "subject", "are": "is", "were": "was",
    "have": "has", "belong": "belongs", "wait": "waits", "run": "runs",
}  # fmt: skip
_COUNTED = re.compile(
    r"\{(\w+)\} ((?:[a-z]+ )*?)(tasks|rows|outputs|anomalies|alerts|messages|runs|times|threads|connections|subjects)\b"
    r"(?: (are|were|have|belong|wait|run)\b)?"
)


def counted(template: str, values: Mapping[str, Any]) -> str:
    """A template of an English sentence for these values: of one, ``{n} rows have …`` says ``{n} row has …``."""

    def of_one(found: re.Match[str]) -> str:
        name, described, noun, verb = found.groups()
        if number(values.get(name)) != "1":
            return found[0]
        return f"{{{name}}} {described}{_ONE[noun]}" + (f" {_ONE[verb]}" if verb else "")

    return _COUNTED.sub(of_one, template)


def sentence(template: str, **values: Any) -> str:
    """An English sentence with these values, of one as ``counted`` says it."""
    return counted(template, values).format(**values)


class Figure:
    """A value inside a sentence: ``{value}`` is a number, ``{value:span}``, ``{value:ms}``, ``{value:size}`` and
    ``{value:share}`` are what it means; what is no number stays as it is, ``{value:said}`` in the reader's language,
    ``{value:unit}`` as it follows a number.
    """

    def __init__(self, value: Any, language: str) -> None:
        self.value, self.language = value, language

    def __format__(self, kind: str) -> str:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            text = str(self.value)
            if kind == "unit":
                return f" {text}" if text not in ("", "%") else text
            return said(text, self.language) if kind == "said" else text
        if kind == "span":
            return span(self.value, self.language)
        if kind == "ms":
            return f"{number(self.value)} ms" if abs(self.value) < 1000 else span(self.value / 1000, self.language)
        if kind in ("size", "share"):
            return size(self.value) if kind == "size" else share(self.value)
        return number(self.value)
