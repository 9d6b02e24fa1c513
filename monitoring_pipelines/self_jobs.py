"""The product's own jobs: what they are called, when they are due, and which components they keep alive (S-702).

What belongs here: the registry, from the configuration. What does not: the jobs (``orchestration``), their runs and
switches (``state.self_jobs``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from monitoring_pipelines.cron import Cron
from monitoring_pipelines.partition_keys import day_key, hour_key

if TYPE_CHECKING:
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.quality.model import RunType

#: Source id of the product's own jobs, processes and notifications (E-001).
SELF = "_self"
OWNER = "monitoring-pipelines"
#: Module Dagster loads the jobs from.
CODE_LOCATION = "monitoring_pipelines.definitions"
Category = Literal["extraction", "statistics", "checks", "maintenance", "repair"]
#: What a run by hand works on where that is no choice: the newest closed hour or day, the running day. ``plan`` and
#: ``source``: it must be told one, so it is started from where that is known.
Scope = Literal["hour", "day", "today", "plan", "source"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class ProductJob:
    """One job of the product.

    ``cron`` is None for jobs that are started by sensors or people. ``components`` beat when a run of the job has ended,
    the first one even if it failed (C-501); ``check`` is the type of check run it makes.
    """

    id: str
    name_zh: str
    name_en: str
    category: Category
    zone: str
    cron: str | None = None
    risk_level: str = "medium"
    sla_seconds: float | None = None
    components: tuple[str, ...] = ()
    check: RunType | None = None
    scope: Scope | None = None

    def name(self, language: str) -> str:
        """The name in ``zh-CN`` or ``en``."""
        return self.name_zh if language == "zh-CN" else self.name_en

    @property
    def func(self) -> str:
        """Dotted name: the code location it is defined in (S-701), and its name there."""
        return f"{CODE_LOCATION}.{self.id}"

    def partition(self, now: datetime) -> str | None:
        """Key of the partition a run by hand works on, as Dagster calls it; None for a job without partitions."""
        if self.scope == "hour":
            return hour_key((now - HOUR).replace(minute=0, second=0, microsecond=0))
        if self.scope in ("day", "today"):
            return day_key(now - DAY if self.scope == "day" else now)
        return None

    def next_due(self, now: datetime) -> datetime | None:
        """The next due time after ``now``, naive UTC; None without a schedule."""
        return Cron.parse(self.cron).next(now, self.zone) if self.cron else None

    def period_s(self, now: datetime) -> float | None:
        """Seconds between due times around ``now``, the longer of two; None without a schedule."""
        period = Cron.parse(self.cron).period(now, self.zone) if self.cron else None
        return period / timedelta(seconds=1) if period else None


def product_jobs(settings: Settings) -> dict[str, ProductJob]:
    """All jobs by id, in the order in which they are shown."""
    checks, zone = settings.checks, settings.timezone
    jobs = (
        ProductJob(
            "minute_tick_job", "每分钟抽取与统计", "Minute tick", "extraction", zone, "* * * * *", "high", 60,
            ("extract", "aggregate", "sweeper"),
        ),
        ProductJob("hourly_stats_job", "小时统计", "Hour statistics", "statistics", zone, "6 * * * *", "medium", 600, scope="hour"),
        # Days are UTC days (M-101): their last hour closes shortly after midnight UTC, whatever the configured zone.
        ProductJob("daily_stats_job", "日统计", "Day statistics", "statistics", "UTC", "10 0 * * *", "medium", 1800, scope="day"),
        ProductJob(
            "quick_check_job", "快速检查", "Quick check", "checks", zone, checks.quick.cron, "high", 300, ("quick",),
            "quick",
        ),
        ProductJob(
            "full_check_job", "完整检查", "Full check", "checks", zone, checks.full.cron, "high", 900, ("full",), "full"
        ),
        ProductJob(
            "deep_check_job", "深度检查", "Deep check", "checks", zone, checks.deep.cron, "high", 3600, ("deep",), "deep"
        ),
        ProductJob("reconciliation_job", "与数据源对账", "Reconciliation", "extraction", zone, scope="today"),
        ProductJob("first_load_job", "首次加载", "First load", "extraction", zone, scope="source"),
        ProductJob(
            "maintenance_job", "维护", "Maintenance", "maintenance", zone, "30 3 * * *", "low", 7200
        ),
        # Started by people, and plans by a sensor; apply and rollback are the ones that write to a source.
        ProductJob("plan_compensation_job", "制定修复计划", "Plan a repair", "repair", zone),
        ProductJob("apply_compensation_job", "应用修复计划", "Apply a repair plan", "repair", zone, None, "high", scope="plan"),
        ProductJob("resume_compensation_job", "恢复修复", "Resume a repair", "repair", zone, None, "high", scope="plan"),
        ProductJob("verify_compensation_job", "验证修复", "Verify a repair", "repair", zone, scope="plan"),
        ProductJob("rollback_compensation_job", "回滚修复", "Roll back a repair", "repair", zone, None, "high", scope="plan"),
    )  # fmt: skip
    return {job.id: job for job in jobs}
