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
    from monitoring_pipelines.config.schema import SourceSettings
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
    (E-510). ``task_output`` has the columns ``inline`` or ``table`` besides: where outputs are kept. ``severity``: the
    usual one; None where bands or the job decide (C-002, C-340). ``extended``: only while ``checks.full.extended`` is
    on. ``function``: ``module:name`` below ``quality.checks``.
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
_TABLE = (_OUTPUTS[0], "task_output(table)")
_ATTEMPTS = ("task_event|task(status,started_at)",)
_RUNS = ("job_run",)
_JOBS = ("job", "job_run")
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
        "creation_delay", "C-104", "task_output_creation_delay", "Outputs are written in time", "输出及时写入",
        "completeness:creation_delay", (*_OUTPUTS, "task_output(created_at)"), _FULL,
    ),
    Check(
        "trend", "C-105", "data_integrity_trend_decline", "Completeness does not decline", "完整率没有下降",
        "history:trend", _OUTPUTS, _LONG, "medium",
    ),
    Check(
        "ratio", "C-106", "excessive_task_outputs", "Outputs per task are plausible", "每任务输出数合理",
        "history:ratio", _OUTPUTS, _LONG, "medium",
    ),
    Check(
        "change_point", "C-109", "change_point", "Change point of completeness", "完整率变化点",
        "history:change", _OUTPUTS, frozenset({"deep"}),
    ),
    Check(
        "output_flow", "C-107", "output_flow", "Outputs keep coming", "输出持续写入",
        "completeness:output_flow", (_OUTPUTS[0], "task_output(created_at|inline)"), _FULL, "critical", extended=True,
    ),
    Check(
        "duplicates", "C-110", "duplicate_outputs", "No duplicate outputs", "没有重复输出",
        "completeness:duplicates", _TABLE, _FULL, "medium", extended=True,
    ),
    Check(
        "orphans", "C-111", "orphan_outputs", "No orphan outputs", "没有孤立输出",
        "hygiene:orphans", _TABLE, _FULL, "medium", extended=True,
    ),
    Check(
        "wrong_status", "C-112", "outputs_of_unsuccessful", "No outputs of unsuccessful tasks", "未成功任务没有输出",
        "hygiene:wrong_status", (*_OUTPUTS, "task_output(created_at|inline)"), _FULL, "low", extended=True,
    ),
    Check(
        "no_end_time", "C-113", "no_end_time", "Ended tasks have an end", "完成任务有结束时间",
        "hygiene:no_end_time", ("task(status,ended_at)",), _FULL, "medium", extended=True,
    ),
    Check(
        "bad_times", "C-114", "bad_times", "Times are possible", "时间合理",
        "hygiene:bad_times", ("task(status,created_at|ended_at)",), _FULL, "low", extended=True,
    ),
    Check(
        "no_remote_id", "C-115", "no_remote_id", "Tasks can be found remotely", "任务有远程编号",
        "hygiene:no_remote_id", ("task(status,remote_id)",), _FULL, "low", extended=True,
    ),
    Check(
        "status_mismatch", "C-116", "status_mismatch", "Status agrees with the remote service", "状态与远端一致",
        "hygiene:status_mismatch", ("task(status,remote_id)",), _FULL, "medium", extended=True,
    ),
    Check(
        "key_length", "C-117", "key_length_risk", "Task keys fit the output table", "任务编号不超过输出表列长",
        "hygiene:key_length", _TABLE, _FULL, "low", extended=True,
    ),
    Check(
        "source_performance", "C-118", "source_performance", "The source answers and grows as usual", "源库性能正常",
        "history:source_performance", ("task(created_at)",), _FULL, "medium", extended=True,
    ),
    Check(
        "tasks.invariants", "C-310", "tasks.invariants", "Task counters add up", "任务计数成立",
        "tasks:invariants", _ATTEMPTS, _FULL, "high", extended=True,
    ),
    Check(
        "tasks.backlog", "C-311", "tasks.backlog", "The queue is short", "排队任务不多",
        "live:observed", _ATTEMPTS, _LIVE, "medium",
    ),
    Check(
        "tasks.queue_wait", "C-311", "tasks.queue_wait", "No task waits too long", "没有任务等待过久",
        "live:observed", _ATTEMPTS, _LIVE, "high",
    ),
    Check(
        "tasks.long_running", "C-311", "tasks.long_running", "No task runs too long", "没有任务运行过久",
        "live:observed", _ATTEMPTS, _LIVE, "medium",
    ),
    Check(
        "tasks.failure_rate", "C-312", "tasks.failure_rate", "Few tasks fail", "失败率不高",
        "live:observed", _ATTEMPTS, _LIVE, "high",
    ),
    Check(
        "tasks.success_rate", "C-312", "tasks.success_rate", "Most tasks succeed", "成功率足够",
        "live:observed", _ATTEMPTS, _LIVE, "medium",
    ),
    Check(
        "tasks.timeouts", "C-320", "tasks.timeouts", "No task is over its limit", "没有任务超时",
        "live:observed", _ATTEMPTS, _LIVE, "high",
    ),
    Check(
        "tasks.slots", "C-330", "tasks.slots", "Slots in use and leaked", "并发槽位",
        "tasks:slot_state", _ATTEMPTS, _LIVE,
    ),
    Check(
        "jobs.failing", "C-340", "jobs.failing", "Jobs succeed", "定时任务成功",
        "live:observed", _RUNS, _LIVE,
    ),
    Check(
        "jobs.duration_over_sla", "C-340", "jobs.duration_over_sla", "Jobs keep their SLA", "定时任务符合 SLA",
        "live:observed", _JOBS, _LIVE,
    ),
    Check(
        "jobs.missed", "C-340", "jobs.missed", "Jobs run when due", "定时任务按时运行",
        "live:observed", _JOBS, _LIVE,
    ),
    Check(
        "jobs.never_ran", "C-340", "jobs.never_ran", "Every job has run", "定时任务均已运行",
        "live:observed", _JOBS, _LIVE, "low",
    ),
    Check(
        "jobs.failure_rate", "C-341", "jobs.failure_rate", "Few job runs fail", "定时任务失败率不高",
        "live:observed", _RUNS, _LIVE, "medium",
    ),
    Check(
        "notify.channel_down", "C-350", "notify.channel_down", "Channels deliver", "通知通道可用",
        "live:observed", ("notification(channel)",), _LIVE, "high",
    ),
    Check(
        "notify.failure_ratio", "C-350", "notify.failure_ratio", "Few deliveries fail", "通知失败率不高",
        "live:observed", ("notification(channel)",), _LIVE, "high",
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
    Check(
        "expectations.output_stats", "M-601", "expectations_failed", "Output statistics are what they must be",
        "输出统计符合预期", "expectations:suite", _OUTPUTS, _DEEP,
    ),
    Check(
        "expectations.completeness", "C-002", "expectations_failed", "Completeness is within its bands",
        "完整率在区间内", "expectations:suite", _OUTPUTS, _DEEP,
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


def configured_inputs(source: SourceSettings) -> dict[str, set[str]]:
    """Entity → unified columns that the configuration maps; of outputs also whether they have a ``table`` or are
    ``inline``.
    """
    from monitoring_pipelines.config.features import mapped_columns

    mapped = mapped_columns(source)
    if "task_output" in mapped:
        kept = {"table" if table.inline is None else "inline" for table in source.mapped("task_output")}
        mapped["task_output"] = mapped["task_output"] | kept
    return mapped


def _is_met(need: str, mapped: Mapping[str, set[str]]) -> bool:
    """Whether one of the alternatives ``entity(columns)``, separated by ``|`` outside the brackets, is mapped."""
    return any(_has(option, mapped) for option in re.split(r"\|(?![^(]*\))", need))


def _has(option: str, mapped: Mapping[str, set[str]]) -> bool:
    found = re.fullmatch(r"(\w+)(?:\(([\w,|]+)\))?", option)
    if found is None:
        raise ValueError(f"not an input: {option!r}")
    entity, columns = found.groups()
    if entity not in mapped:
        return False
    return all(set(group.split("|")) & mapped[entity] for group in (columns or "").split(",") if group)
