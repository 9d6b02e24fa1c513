"""The one table of rules: ids, levels, thresholds, durations, names, and what a message says (C-452).

What belongs here: facts about shipped rules and how configuration changes them. What does not: evaluating them.
Pages, messages, the Prometheus rule file and the engine all read this table, so a threshold has one home.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from monitoring_pipelines.readable import Figure, counted
from monitoring_pipelines.severity import Severity, rank

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

Language = Literal["en", "zh-CN"]
Operator = Literal[">", ">=", "<", "<=", "=", "!="]
MIB = 1_048_576


@dataclass(frozen=True)
class Level:
    """A threshold and how bad it is to be beyond it. ``threshold`` None: the condition has no number to set."""

    severity: Severity
    threshold: float | None = None
    label: str = ""

    @property
    def severity_label(self) -> str:
        """The word shown; ``warning`` of the collectors' world stays what it is (C-001)."""
        return self.label or self.severity


@dataclass(frozen=True)
class Rule:
    """One rule as it is in force. ``levels``: mildest first; the worst that holds counts."""

    id: str
    levels: tuple[Level, ...]
    en: str
    zh: str
    op: Operator = ">"
    unit: str = ""
    for_s: float = 0.0
    alertname: str = ""
    enabled: bool = True
    runbook: str = ""

    @property
    def family(self) -> str:
        """First part of the id."""
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        """Name in messages and routes; rules without one of their own are called by their id."""
        return self.alertname or self.id

    def level(self, severity: str) -> Level | None:
        """The level of a severity or label, None if the rule has none."""
        return next((level for level in self.levels if severity in (level.severity, level.severity_label)), None)

    def text(self, language: str, values: Mapping[str, Any]) -> str:
        """The sentence of a message; names that ``values`` lacks show as ``–``, one that is unknown at its end is left out."""
        shown = {name: Figure(value, language) for name, value in values.items() if value is not None}
        template = self.zh if language == "zh-CN" else counted(self.en, values)
        return _UNKNOWN_END.sub("", template.format_map(_Dashes(shown)))


#: What ends a sentence of which the last part is not known.
_UNKNOWN_END = re.compile(r" ?[(（]–[)）]$|[:：] ?–$")


class _Dashes(dict[str, Any]):
    def __missing__(self, key: str) -> Figure:
        return Figure("–", "en")


def _warning(threshold: float | None = None) -> Level:
    return Level("medium", threshold, "warning")


def _critical(threshold: float | None = None) -> Level:
    return Level("critical", threshold, "critical")


def _one(severity: Severity, threshold: float | None = None) -> tuple[Level, ...]:
    return (Level(severity, threshold),)


_MINUTE = 60.0

SHIPPED: tuple[Rule, ...] = (
    # -- tasks (C-311, C-312, C-320); thresholds come from C-301 ------------------------------------------------------
    Rule(
        "tasks.backlog", _one("medium"), "{value} tasks are waiting (limit {threshold})",
        "{value} 个任务在等待（上限 {threshold}）",
    ),
    Rule(
        "tasks.queue_wait", _one("high"), "the oldest waiting task has waited {value:span} (limit {threshold:span})",
        "最久的等待任务已等待 {value:span}（上限 {threshold:span}）", unit="s",
    ),
    Rule(
        "tasks.long_running", _one("medium"), "{count} tasks run longer than {threshold:span}, the longest {value:span}",
        "{count} 个任务运行超过 {threshold:span}，最长 {value:span}", unit="s",
    ),
    Rule(
        "tasks.failure_rate", _one("high"),
        "{failed} of {ended} tasks of the last 24 h failed ({value:share}, limit {threshold:share})",
        "近 24 小时 {ended} 个任务中 {failed} 个失败（{value:share}，上限 {threshold:share}）",
    ),
    Rule(
        "tasks.success_rate", _one("medium"),
        "{completed} of {ended} tasks of the last 24 h succeeded ({value:share}, lower limit {threshold:share})",
        "近 24 小时 {ended} 个任务中 {completed} 个成功（{value:share}，下限 {threshold:share}）", op="<",
    ),
    Rule(
        "tasks.timeouts", _one("high", 0), "{value} tasks are over the time limit or timed out in the last hour",
        "{value} 个任务超过时限，或在近一小时内超时",
    ),
    # -- jobs (C-340, C-341) ------------------------------------------------------------------------------------------
    Rule(
        "jobs.failing", _one("medium"), "job {job} has failed {value} times since its last success: {error:said}",
        "作业 {job} 自上次成功以来失败 {value} 次：{error:said}", op=">=",
    ),
    Rule(
        "jobs.duration_over_sla", _one("medium"), "job {job} took {value:span}, agreed are {threshold:span}",
        "作业 {job} 用时 {value:span}，约定 {threshold:span}", unit="s",
    ),
    Rule(
        "jobs.missed", _one("medium"), "job {job} has not run for {value:span}; it is due every {period_s:span}",
        "作业 {job} 已有 {value:span}未运行；应每 {period_s:span}运行一次", unit="s",
    ),
    Rule(
        "jobs.never_ran", _one("low"), "job {job} was registered {value:span} ago and has never run",
        "作业 {job} 注册 {value:span}后仍从未运行", unit="s",
    ),
    Rule(
        "jobs.failure_rate", _one("medium", 0.05), "job {job}: {failed} of {runs} runs of the last 24 h failed",
        "作业 {job}：近 24 小时 {runs} 次运行中 {failed} 次失败", op=">=",
    ),
    # -- notifications (C-350) ----------------------------------------------------------------------------------------
    Rule(
        "notify.channel_down", _one("high", 0), "channel {channel}: {failed} attempts of the last 5 min failed, none succeeded",
        "通道 {channel}：近 5 分钟 {failed} 次尝试全部失败",
    ),
    Rule(
        "notify.failure_ratio", _one("high", 0.3), "channel {channel}: {failed} attempts of the last 5 min failed, {ok} succeeded",
        "通道 {channel}：近 5 分钟失败 {failed} 次，成功 {ok} 次",
    ),
    # -- processes (C-401 to C-411) -----------------------------------------------------------------------------------
    Rule(
        "resource.memory", (_warning(3_000_000_000),), "{process} uses {value:size} of memory (limit {threshold:size})",
        "{process} 占用内存 {value:size}（上限 {threshold:size}）", unit="bytes", for_s=5 * _MINUTE,
        alertname="CollectorHighMemory",
    ),
    Rule(
        "resource.connections", (_warning(50), _critical(100)), "{process} has {value} TCP connections (limit {threshold})",
        "{process} 有 {value} 个 TCP 连接（上限 {threshold}）", op=">=", alertname="CollectorHighConnections",
    ),
    Rule(
        "resource.fds", (_warning(70), _critical(85)), "{process} uses {fds} of {fds_max} file descriptors ({value} %)",
        "{process} 已用文件描述符 {fds}/{fds_max}（{value}%）", op=">=", unit="%", alertname="CollectorHighFds",
    ),
    Rule(
        "resource.cpu", (_warning(85), _critical(95)), "{process} uses {value} % CPU while the load per core is {load_ratio}",
        "{process} CPU 使用率 {value}%，每核负载 {load_ratio}", op=">=", unit="%", alertname="CollectorHighCpu",
    ),
    Rule(
        "resource.memory_level", (_warning(1000), _critical(1400)),
        "{process} uses {value} MiB of memory (limit {threshold} MiB at the host's free memory)",
        "{process} 占用内存 {value} MiB（按主机可用内存上限 {threshold} MiB）", op=">=", unit="MiB", enabled=False,
    ),
    Rule(
        "resource.limits", (_warning(), _critical()), "{process}: {metric} {value} is over its limit {threshold}",
        "{process}：{metric:said} {value} 超过上限 {threshold}",
    ),
    Rule(
        "resource.threads", (_warning(20), _critical(50)), "{process} has {value} threads (limit {threshold})",
        "{process} 有 {value} 个线程（上限 {threshold}）", op=">=", enabled=False,
    ),
    Rule(
        "leak.trend", (Level("info", 0.2), _warning(1.0)),
        "{process}: {metric:said} grows by {value}{unit:unit} per sample ({trend:said})",
        "{process}：{metric:said}每次采样增长 {value}{unit:unit}（{trend:said}）",
    ),
    Rule(
        "leak.close_wait", (_warning(0),), "{process} has {value} connections in CLOSE_WAIT and their number grows",
        "{process} 有 {value} 个 CLOSE_WAIT 连接且在增长",
    ),
    Rule(
        "fd.forecast", (_warning(3600),), "{process} runs out of file descriptors in {value:span} ({fds} of {fds_max} used)",
        "{process} 将在 {value:span}内耗尽文件描述符（已用 {fds}/{fds_max}）", op="<", unit="s", for_s=5 * _MINUTE,
    ),
    Rule(
        "host.cpu", (_warning(80), Level("high", 90)), "the host's CPUs are {value} % busy (limit {threshold} %)",
        "主机 CPU 使用率 {value}%（上限 {threshold}%）", unit="%", for_s=5 * _MINUTE,
    ),
    Rule(
        "host.memory", (_warning(80), Level("high", 90)), "the host's memory is {value} % used (limit {threshold} %)",
        "主机内存使用率 {value}%（上限 {threshold}%）", unit="%", for_s=5 * _MINUTE,
    ),
    Rule(
        "host.disk", (_warning(85), _critical(95)), "the volume of {path} is {value} % full (limit {threshold} %)",
        "{path} 所在卷已用 {value}%（上限 {threshold}%）", unit="%", for_s=5 * _MINUTE,
    ),
    # -- targets and ingest (C-421 to C-433) --------------------------------------------------------------------------
    Rule(
        "target.down", (_critical(),), "target {target} cannot be scraped: {reason:said}", "目标 {target} 无法抓取：{reason:said}",
        op="=", for_s=30, alertname="CollectorTargetDown",
    ),
    Rule(
        "target.health_down", (_critical(),), "the health page of {target} fails: {reason:said}",
        "目标 {target} 的健康检查失败：{reason:said}", for_s=_MINUTE, alertname="CollectorHealthDown",
    ),
    Rule(
        "ingest.none", (_critical(0),), "{process} ingests nothing: the 5-minute rate over all series is 0 ({reason:said})",
        "{process} 没有采集到数据：所有序列的 5 分钟速率为 0（{reason:said}）", op="=", unit="/s", for_s=3 * _MINUTE,
        alertname="CollectorNoDataIngestion",
    ),
    Rule(
        "ingest.low", (_warning(10),), "{process} ingests {value} messages per second (lower limit {threshold})",
        "{process} 每秒采集 {value} 条（下限 {threshold}）", op="<", unit="/s", for_s=5 * _MINUTE,
        alertname="CollectorDataIngestionLow",
    ),
    Rule(
        "ingest.series_stale", _one("info"), "{process}: series {series} has not grown for {value:span} (limit {threshold:span})",
        "{process}：序列 {series} 已 {value:span}没有增长（上限 {threshold:span}）", unit="s",
    ),
    # -- the product itself (C-501 to C-512) --------------------------------------------------------------------------
    Rule(
        "self.heartbeat", _one("high", 2), "{component} has not been heard of for {value:span}; it beats every {period_s:span}",
        "组件 {component} 已 {value:span}没有心跳；周期 {period_s:span}",
    ),
    Rule(
        "self.extract_lag", _one("high", 3), "{source} was last read {value:span} ago (limit {threshold:span}): {error:said}",
        "数据源 {source} 上次读取在 {value:span}前（上限 {threshold:span}）：{error:said}", unit="s",
    ),
    Rule(
        "self.snapshot_coverage", (Level("medium", 90), Level("high", 50)),
        "{source}: only {received} of {expected} expected snapshots of 15 min arrived ({value} %)",
        "{source}：15 分钟内应有 {expected} 个快照，只到 {received} 个（{value}%）", op="<", unit="%",
    ),
    Rule(
        "self.snapshot_gap", _one("high", 180), "{source}: workers are online but the newest snapshot is {value:span} old",
        "{source}：有工作器在线，但最新快照已是 {value:span}前", unit="s",
    ),
    Rule(
        "self.aggregation", _one("high", 300), "statistics of {source} are behind: {reason:said}", "{source} 的统计滞后：{reason:said}",
        unit="s",
    ),
    Rule("self.schema_drift", _one("high"), "{source}: {error:said}", "{source}：{error:said}"),
    Rule(
        "self.check_error", _one("high"), "{check}: {reason:said}", "{check}：{reason:said}",
    ),
    Rule(
        "self.storage", (Level("medium", 10), _critical(3)), "{path}: {reason:said}", "{path}：{reason:said}", op="<", unit="%",
    ),
    Rule("self.config", _one("low"), "{problem}", "{problem}"),
    Rule(
        "self.plausibility", _one("high", 0), "{source}: {value} contradictory rows of statistics ({reason:said})",
        "{source}：{value} 行统计自相矛盾（{reason:said}）",
    ),
    Rule(
        "self.anomalies", _one("low", 1), "{source}: {count} anomalies {kind} in {events} rows of the last hour",
        "{source}：近一小时 {events} 行中有 {count} 个异常 {kind}", unit="%",
    ),
    Rule(
        "self.clock", (Level("medium", 5), Level("high", 60)), "the clocks of the product and of {source} differ by {value:span}",
        "产品与 {source} 的时钟相差 {value:span}", unit="s",
    ),
    # -- configured rules shipped off (C-602) -------------------------------------------------------------------------
    Rule(
        "endpoint.p95_execution", (_warning(5000), Level("high", 10_000)), "endpoint {endpoint}: p95 of execution is {value:ms}",
        "端点 {endpoint}：执行时间 p95 为 {value:ms}", unit="ms", enabled=False,
    ),
    Rule(
        "endpoint.queue_depth", (_warning(100), Level("high", 500)), "endpoint {endpoint}: {value} tasks wait",
        "端点 {endpoint}：{value} 个任务在排队", enabled=False,
    ),
    Rule(
        "endpoint.failure_share", (_warning(5), Level("high", 20)), "endpoint {endpoint}: {value} % of the ended tasks failed",
        "端点 {endpoint}：结束的任务中 {value}% 失败", unit="%", enabled=False,
    ),
    Rule(
        "endpoint.gpu", _one("info", 30), "endpoint {endpoint}: mean GPU utilisation is {value} %",
        "端点 {endpoint}：GPU 平均利用率 {value}%", op="<", unit="%", enabled=False,
    ),
    Rule(
        "endpoint.cold_start", (_warning(180_000),), "endpoint {endpoint}: cold starts take {value:ms} on average",
        "端点 {endpoint}：冷启动平均 {value:ms}", unit="ms", enabled=False,
    ),
    Rule(
        "endpoint.no_workers", (_critical(0),), "endpoint {endpoint}: {waiting} tasks wait and there is no worker",
        "端点 {endpoint}：{waiting} 个任务在等待，但没有工作器", op="=", enabled=False,
    ),
)  # fmt: skip

#: Rule → the threshold of C-301 it follows.
TASK_THRESHOLDS = {
    "tasks.backlog": "max_pending_tasks",
    "tasks.queue_wait": "max_queue_wait_time",
    "tasks.long_running": "max_execution_time",
    "tasks.failure_rate": "max_failed_rate",
    "tasks.success_rate": "min_success_rate",
}


@cache
def shipped() -> dict[str, Rule]:
    """Shipped rules by id, as shipped."""
    return {rule.id: rule for rule in SHIPPED}


def in_force(settings: Settings, task_thresholds: Mapping[str, Any] | None = None) -> dict[str, Rule]:
    """Shipped rules by id with the configuration's changes and the thresholds people set at run time (C-301, C-602).

    Args:
        settings: ``rules`` and ``thresholds``; ``checks.disabled`` switches rules off too.
        task_thresholds: Values set at run time, by the names of C-301; they win over the configured ones.
    """
    rules = dict(shipped())
    for rule_id, name in TASK_THRESHOLDS.items():
        value = (task_thresholds or {}).get(name, getattr(settings.thresholds, name))
        rules[rule_id] = replace(rules[rule_id], levels=(replace(rules[rule_id].levels[0], threshold=float(value)),))
    for change in settings.rules:
        if change.metric is None and change.id in rules:
            rules[change.id] = _changed(rules[change.id], change)
    for own in settings.rules:
        if own.metric is not None and own.severity is not None:
            rules[own.id] = _configured(own)
    for rule_id in settings.checks.disabled:
        if rule_id in rules:
            rules[rule_id] = replace(rules[rule_id], enabled=False)
    return rules


def _changed(rule: Rule, change: Any) -> Rule:
    """A shipped rule with one entry of ``rules`` over it.

    With a severity the rule has, the entry means that level; otherwise the mildest one, whose severity it may change.
    An entry for a rule that is off switches it on, unless it says ``enabled: false``.
    """
    levels = list(rule.levels)
    place = next((n for n, level in enumerate(levels) if change.severity == level.severity), 0)
    level = levels[place]
    if change.severity is not None and change.severity != level.severity:
        level = Level(change.severity, level.threshold)
    if change.threshold is not None:
        level = replace(level, threshold=change.threshold)
    levels[place] = level
    return replace(
        rule,
        levels=tuple(sorted(levels, key=lambda one: rank(one.severity))),
        enabled=change.enabled,
        op=change.op or rule.op,
        for_s=rule.for_s if change.for_s is None else change.for_s,
        alertname=change.alertname or rule.alertname,
        runbook=change.runbook or rule.runbook,
    )


def _configured(own: Any) -> Rule:
    """A rule of the configuration over a metric (C-602)."""
    text = f"{own.metric} is {{value}} ({own.op} {{threshold}}) {{reason}}"
    chinese = f"{own.metric} 为 {{value}}（{own.op} {{threshold}}）{{reason}}"
    return Rule(
        own.id, (Level(own.severity, own.threshold),), text, chinese, op=own.op, for_s=own.for_s or 0.0,
        alertname=own.alertname or "", enabled=own.enabled, runbook=own.runbook or "",
    )  # fmt: skip


def describe(rule_id: str, language: str, values: Mapping[str, Any]) -> str | None:
    """The sentence a message says about a stored alert of a rule; None for a type that is no shipped rule.

    Args:
        rule_id: Type of the alert.
        language: ``zh-CN`` or ``en``.
        values: Labels and details of the alert, and its ``value``, ``threshold`` and ``source``.
    """
    rule = shipped().get(rule_id)
    return None if rule is None else rule.text(language, values)
