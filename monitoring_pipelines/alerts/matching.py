"""Which alerts a silence or an inhibition rule means (A-306, A-307).

What belongs here: comparing an alert with matchers. What does not: what follows from a match (``standing``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monitoring_pipelines import patterns
from monitoring_pipelines.errors import UsageError

OPERATORS = ("=", "!=", "=~", "!~")
#: Names a matcher may use besides labels, and the column each one reads.
FIELDS = {"type": "type", "alertname": "alertname", "source": "source_id", "service": "service", "severity": "severity"}
_TEXT = re.compile(r"\s*(?P<name>[A-Za-z_][\w.-]*)\s*(?P<op>=~|!~|!=|=)\s*(?P<value>.*?)\s*$", re.DOTALL)


@dataclass(frozen=True)
class Matcher:
    """One condition on a field or label; patterns must match the whole value."""

    name: str
    op: str
    value: str

    def holds(self, alert: Mapping[str, Any]) -> bool:
        """Whether ``alert`` (a row of the alert table) fulfils it; a missing label counts as empty."""
        found = value_of(alert, self.name)
        if self.op in ("=", "!="):
            return (found == self.value) == (self.op == "=")
        return patterns.means(self.value, found) == (self.op == "=~")

    def as_dict(self) -> dict[str, str]:
        """The stored form (S-242)."""
        return {"name": self.name, "op": self.op, "value": self.value}


def value_of(alert: Mapping[str, Any], name: str) -> str:
    """The text of a field or label of an alert; empty when it has none."""
    value = alert.get(FIELDS[name]) if name in FIELDS else (alert.get("labels") or {}).get(name)
    return "" if value is None else str(value)


def matches(alert: Mapping[str, Any], matchers: Iterable[Matcher]) -> bool:
    """Whether all ``matchers`` hold."""
    return all(matcher.holds(alert) for matcher in matchers)


def parse_matcher(text: str) -> Matcher:
    """Read ``name=value``, ``name!=value``, ``name=~pattern`` or ``name!~pattern``.

    Raises:
        UsageError: It is none of them, or the pattern is broken.
    """
    found = _TEXT.match(text)
    if not found:
        raise UsageError(f"not a matcher: {text!r}", "write name=value or name=~pattern, for example type=target.down")
    return checked(found["name"], found["op"], found["value"].strip('"'))


def read_matchers(items: Any) -> list[Matcher]:
    """Matchers from their JSON form ``[{"name", "op", "value"}]`` (S-242).

    Raises:
        UsageError: The list is empty or an entry is not complete.
    """
    if not isinstance(items, list) or not items:
        raise UsageError(
            "a silence needs at least one matcher", 'for example {"name": "type", "op": "=", "value": "x"}'
        )
    done = []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not set(item) <= {"name", "op", "value"} or "name" not in item:
            raise UsageError(f"matchers[{number}] needs name, op and value")
        name, op, value = item["name"], item.get("op", "="), item.get("value")
        if not isinstance(name, str) or not isinstance(op, str) or not isinstance(value, str):
            raise UsageError(f"matchers[{number}]: name, op and value are texts")
        done.append(checked(name, op, value))
    return done


def checked(name: str, op: str, value: str) -> Matcher:
    """A matcher whose operator is known and whose pattern compiles; UsageError otherwise."""
    if not name:
        raise UsageError("a matcher needs a name")
    if op not in OPERATORS:
        raise UsageError(f"unknown operator {op!r}", f"one of {' '.join(OPERATORS)}")
    if op in ("=~", "!~"):
        problem = patterns.problem_of(value)
        if problem is not None:
            raise UsageError(f"{value!r} is no pattern: {problem}")
    return Matcher(name, op, value)


def of_rule(conditions: Mapping[str, str]) -> tuple[Matcher, ...]:
    """Matchers of an inhibition rule of the configuration: ``~`` begins a pattern."""
    return tuple(
        Matcher(name, "=~", value[1:]) if value.startswith("~") else Matcher(name, "=", value)
        for name, value in conditions.items()
    )
