"""A simulated job scheduler: job configurations, runs and the notifications it sends.

What belongs here: tables ``scheduler_task_configs``, ``mp_job_runs`` and ``alert_notifications`` of the scheduler
preset, with one job that begins to fail and one that is no longer started. What does not: the product's own jobs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from monitoring_pipelines.demo.eventloop import Changes, EventLoop, Row, scramble
from monitoring_pipelines.demo.scale import MINUTE_MS, Faults

#: id, name, owner, category, every n minutes, mean duration in ms
_JOBS = (
    ("calculate_project_health", "计算项目健康度", "Backend Platform", "Project Health", 15, 1_250),
    ("send_alert_notifications", "发送告警通知", "SRE", "Alerting", 5, 420),
    ("sync_purchase_orders", "同步采购订单", "Supply Chain", "Data Sync", 10, 3_800),
    ("daily_spec_match_check", "每日规格匹配检查", "Engineering", "Quality", 720, 64_000),
    ("calculate_progress_summary", "计算进度汇总", "Backend Platform", "Project Health", 30, 5_400),
    ("check_payment_reminder", "收款提醒检查", "Finance", "Alerting", 60, 900),
    ("generate_shortage_alerts", "生成缺料预警", "Supply Chain", "Alerting", 60, 7_600),
    ("cleanup_expired_sessions", "清理过期会话", "Backend Platform", "Maintenance", 120, 2_100),
    ("calculate_response_metrics", "计算响应指标", "SRE", "Metrics", 20, 1_900),
    ("export_finance_report", "导出财务报表", "Finance", "Reports", 360, 38_000),
    ("check_workload_overload", "负荷超限检查", "PMO", "Project Health", 60, 1_600),
    ("sync_timesheets", "同步工时", "HR", "Data Sync", 60, 2_700),
)  # fmt: skip
_FAILING = "sync_purchase_orders"
#: No longer started from the fault on: its times pass without a run.
_MISSING = "check_payment_reminder"


@dataclass(eq=False, slots=True)
class _Run:
    number: int
    job: str
    scheduled: int
    trigger: str
    started: int | None = None
    ended: int | None = None
    outcome: str = "started"
    error: str | None = None
    result_error: str | None = None
    attempt: int = 1
    written: bool = False


class Scheduler(EventLoop):
    """Jobs with regular schedules."""

    database = "scheduler"

    def __init__(self, seed: int, start_ms: int, jobs: int, faults: Faults) -> None:
        super().__init__(seed, start_ms)
        self.faults = faults
        self._jobs = _JOBS[:jobs]
        self._number = self._notification = 0
        self._changed: dict[_Run, None] = {}
        self._configured = False
        self._busy: set[str] = set()
        for job in self._jobs:
            period = job[4] * MINUTE_MS
            self.at(start_ms - start_ms % period + period, self._due, job, self.now)

    def _due(self, job: tuple[str, str, str, str, int, int], _last: int) -> None:
        rng, due = self.rng, self.now
        self.at(due + job[4] * MINUTE_MS, self._due, job, due)
        self._number += 1
        trigger = "manual" if rng.random() < 0.01 else "schedule"
        run = _Run(self._number, job[0], due, trigger)
        self._changed[run] = None
        missing = job[0] == _MISSING and due >= self.faults.job_fails_at
        if missing or job[0] in self._busy or rng.random() < 0.004:
            run.outcome = "skipped" if job[0] in self._busy else "missed"
            return
        self._busy.add(job[0])
        run.started = due + rng.randint(5, 900)
        duration = 20 + int(job[5] * rng.lognormvariate(0.0, 0.35))
        self.at(run.started + duration, self._end, job, run)

    def _end(self, job: tuple[str, str, str, str, int, int], run: _Run) -> None:
        rng = self.rng
        self._busy.discard(job[0])
        run.ended, run.outcome = self.now, "success"
        draw = rng.random()
        broken = job[0] == _FAILING and self.now >= self.faults.job_fails_at
        if draw < (0.75 if broken else 0.008):
            run.outcome, run.error = "failed", "OperationalError: Lost connection to MySQL server during query"
        elif draw > 0.997:
            run.result_error = "partial: 3 of 40 rows rejected"  # ended without exception but says so itself (E-121)
        elif draw > 0.995:
            run.outcome, run.error = "timeout", "exceeded max_execution_time_seconds"
        self._changed[run] = None
        if job[0] == "send_alert_notifications":
            self._notify()

    def _notify(self) -> None:
        rng = self.rng
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            self._notification += 1
            number, failed = self._notification, rng.random() < 0.04
            state, retries = ("FAILED", 3) if failed else ("SENT", 0 if rng.random() < 0.9 else 1)
            self.insert(
                "alert_notifications",
                (
                    number, number // 2 + 1, rng.choice(("wechat", "email", "SYSTEM")), f"user-{number % 17}", state,
                    retries, None, None if failed else self.text(self.now),
                    self.text(self.now - rng.randint(50, 4_000)), "gateway timeout" if failed else None,
                ),
            )  # fmt: skip

    def take(self) -> Changes:
        """Runs that started or ended since the last call; the job list once."""
        changes = super().take()
        if not self._configured:
            self._configured = True
            changes.inserts["scheduler_task_configs"] = [
                self._config_row(number, job) for number, job in enumerate(self._jobs, 1)
            ]
        for run in self._changed:
            target = changes.updates if run.written else changes.inserts
            target.setdefault("mp_job_runs", []).append(self._run_row(run))
            run.written = True
        self._changed = {}
        return changes

    def _run_row(self, run: _Run) -> Row:
        duration = None if run.ended is None or run.started is None else run.ended - run.started
        return (
            run.number, f"run-{scramble(run.number):016x}", run.job, self.text(run.scheduled),
            self.optional_text(run.started), self.optional_text(run.ended), duration, run.outcome, run.error,
            run.attempt, run.trigger, run.result_error,
        )  # fmt: skip

    def _config_row(self, number: int, job: tuple[str, str, str, str, int, int]) -> Row:
        name, title, owner, category, minutes, mean = job
        cron = {"minute": f"*/{minutes}"} if minutes < 60 else {"hour": f"*/{minutes // 60}", "minute": "0"}
        sla = {"max_execution_time_seconds": max(5, mean * 4 // 1000), "retry_on_failure": number % 2 == 0}
        return (
            number, name, title, owner, category, f"{title}（演示）", 0 if number == 8 else 1, json.dumps(cron),
            ("LOW", "MEDIUM", "HIGH", "CRITICAL")[number % 4], json.dumps(sla), json.dumps([f"{name}_result"]),
            self.text(self.now),
        )  # fmt: skip
