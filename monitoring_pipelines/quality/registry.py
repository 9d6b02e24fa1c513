"""The one list of checks: id, rule, alert type, inputs, runs, severity, titles, runbook.

What belongs here: facts about checks that every surface shares. What does not: what they compute (``quality.checks``),
when they run (``quality.runs``, ``orchestration``), and rules over samples and probes (``alerts``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from monitoring_pipelines.severity import Severity

if TYPE_CHECKING:
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.model import CheckOutcome

#: Runs a check belongs to. ``live``: evaluated with every alert tick, in no scheduled run.
Run = Literal["quick", "full", "deep", "live"]
#: The outcome every run has for every source: whether it could be read (C-025).
SOURCE_CHECK = "source"
#: Alert type of a source that could not be read and of a check that crashed (C-025, C-026).
MONITORING_ERROR = "monitoring_error"


@dataclass(frozen=True)
class Check:
    """One check.

    ``needs``: inputs as ``entity(column,column|alternative)``; one that is not mapped makes it ``not_applicable``
    (E-510). ``severity``: the usual one; None where bands decide (C-002). ``extended``: only while
    ``checks.full.extended`` is on. ``function``: ``module:name`` below ``quality.checks``.
    """

    id: str
    rule: str
    alert_type: str
    title_en: str
    title_zh: str
    function: str
    needs: tuple[str, ...]
    runs: frozenset[Run]
    severity: Severity | None = None
    extended: bool = False

    @property
    def runbook(self) -> str:
        """File below ``docs/runbooks`` without suffix; also the anchor of links."""
        return self.alert_type

    def title(self, language: str) -> str:
        """The title in ``zh-CN`` or ``en``."""
        return self.title_zh if language == "zh-CN" else self.title_en

    def load(self) -> Callable[[CheckContext], CheckOutcome]:
        """The function that computes it."""
        module, name = self.function.split(":")
        return getattr(import_module(f"monitoring_pipelines.quality.checks.{module}"), name)

    def missing_inputs(self, mapped: Mapping[str, set[str]]) -> list[str]:
        """Inputs the mapping (entity → unified columns) does not have; empty: the check applies."""
        return [need for need in self.needs if not _is_met(need, mapped)]


_OUTPUTS = ("task(status,created_at|ended_at)", "task_output")
_ALL: frozenset[Run] = frozenset({"quick", "full", "deep"})
_LONG: frozenset[Run] = frozenset({"full", "deep"})
_FULL: frozenset[Run] = frozenset({"full"})
_LIVE: frozenset[Run] = frozenset({"live"})

_DEEP: frozenset[Run] = frozenset({"deep"})

_CHECKS = (
    Check(
        "missing_outputs", "C-101", "missing_task_outputs", "Outputs are complete", "任务输出完整",
        "completeness:missing_outputs", _OUTPUTS, _ALL,
    ),
    Check(
        "expectations.task", "E-201", "expectations_failed", "Rows of tasks are what they must be", "任务数据符合预期",
        "expectations:suite", ("task",), _DEEP,
    ),
    Check(
        "expectations.task_output", "E-102", "expectations_failed", "Rows of outputs are what they must be",
        "输出数据符合预期", "expectations:suite", ("task_output",), _DEEP,
    ),
    Check(
        "expectations.endpoint_stats", "M-902", "expectations_failed", "Endpoint statistics are what they must be",
        "端点统计符合预期", "expectations:suite", ("task",), _DEEP,
    ),
)  # fmt: skip


@cache
def checks() -> dict[str, Check]:
    """All checks by id, in the order in which they run and are shown."""
    return {check.id: check for check in _CHECKS}


def checks_of(run: Run, *, extended: bool = True, disabled: tuple[str, ...] | list[str] = ()) -> list[Check]:
    """Checks of a run type in order, without disabled ones."""
    return [
        check
        for check in checks().values()
        if run in check.runs and check.id not in disabled and (extended or not check.extended)
    ]


def position(check_id: str) -> int:
    """Where results of a check are shown: the source's own first, checks that are not in the list last."""
    order = (SOURCE_CHECK, *checks())
    return order.index(check_id) if check_id in order else len(order)


def alert_type_of(check_id: str) -> str:
    """Alert type of a check's findings; ``monitoring_error`` for the source outcome, the id itself for custom checks."""
    if check_id == SOURCE_CHECK:
        return MONITORING_ERROR
    check = checks().get(check_id)
    return check.alert_type if check else check_id


def _is_met(need: str, mapped: Mapping[str, set[str]]) -> bool:
    found = re.fullmatch(r"(\w+)(?:\(([\w,|]+)\))?", need)
    if found is None:
        raise ValueError(f"not an input: {need!r}")
    entity, columns = found.groups()
    if entity not in mapped:
        return False
    return all(set(group.split("|")) & mapped[entity] for group in (columns or "").split(",") if group)
