"""The rule file for a Prometheus server, made from the same table as the product's own rules (S-360, C-452).

What belongs here: expressions and their hardening against absence. What does not: thresholds and names (``table``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring_pipelines.alerts.links import runbook_address
from monitoring_pipelines.alerts.rules.table import Rule, in_force
from monitoring_pipelines.readable import number

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import Settings

#: Counter of published messages of the collector that is watched.
PUBLISHED = "marketprism_nats_messages_published_total"
JOB = "collector"
_HEAD = """\
# Rules for a Prometheus server that scrapes the collector and this product.
# Made from the product's own table of rules: `mp prometheus-rules > alerts.yml`; a test compares both.
# Page through Prometheus and Alertmanager or through the product's channels, not through both.
"""


@dataclass(frozen=True)
class _Alert:
    name: str
    expr: str
    for_s: float
    severity: str
    summary: str
    runbook: str


def render(settings: Settings, published: str = PUBLISHED, job: str = JOB) -> str:
    """The rule file as YAML text.

    Args:
        settings: Thresholds, durations and the place of the runbooks.
        published: Counter of messages the collector has published.
        job: Prometheus job of the collector.
    """
    rules = in_force(settings)
    groups = (
        ("collector", _collector(rules, published, job)),
        ("monitoring-pipelines", _product(settings)),
    )
    lines = [_HEAD + "groups:"]
    for group, alerts in groups:
        lines += [f"  - name: {group}", "    rules:"]
        for one in alerts:
            lines += [
                f"      - alert: {one.name}",
                f"        expr: {_quoted(one.expr)}",
                *([f"        for: {duration(one.for_s)}"] if one.for_s else []),
                f"        labels: {{severity: {one.severity}, service: {job if group == 'collector' else group}}}",
                "        annotations:",
                f"          summary: {_quoted(one.summary)}",
                f"          runbook_url: {_quoted(runbook_address(settings, one.runbook))}",
            ]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Seconds as Prometheus writes them."""
    whole = round(seconds)
    return f"{whole // 60}m" if whole and whole % 60 == 0 else f"{whole}s"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _collector(rules: dict[str, Rule], published: str, job: str) -> list[_Alert]:
    """The four rules of the collector; a series that vanished reads as zero (C-440)."""
    up = f'up{{job="{job}"}}'
    # `sum` of nothing is nothing; without `or vector(0)` the rule would fall silent with the process.
    flow = f"(sum(rate({published}[5m])) or vector(0))"
    return [
        _from(rules["target.down"], f"{up} == 0 or absent({up})", "The metrics page of the collector does not answer"),
        *(
            _from(rules["resource.memory"], f'process_resident_memory_bytes{{job="{job}"}} {_over(rules["resource.memory"])}',
                  "The collector uses {{ $value | humanize1024 }}B of memory"),
            _from(rules["ingest.none"], f"{flow} == 0", "The collector publishes nothing"),
            _from(rules["ingest.low"], f"{flow} {_over(rules['ingest.low'])}",
                  "The collector publishes {{ $value | humanize }} messages a second"),
        ),
    ]  # fmt: skip


def _from(rule: Rule, expr: str, summary: str) -> _Alert:
    return _Alert(rule.name, expr, rule.for_s, rule.levels[0].severity_label, summary, rule.id)


def _over(rule: Rule) -> str:
    return f"{rule.op} {number(float(rule.levels[0].threshold or 0))}"


def _product(settings: Settings) -> list[_Alert]:
    bands = settings.checks.bands
    rate = 'mp_completion_rate_percent{window="24h"}'
    up = 'up{job="monitoring-pipelines"}'
    share = "{{ $labels.source }}: {{ $value | humanize }} % of the succeeded tasks of 24 h have an output"
    failed, sent = "scheduler_notification_failure_total", "scheduler_notification_success_total"
    return [
        _Alert("CompletionRateLow", f"{rate} < {number(bands.degraded)}", 300, "warning", share, "missing_outputs"),
        _Alert("CompletionRateCritical", f"{rate} < {number(bands.critical)}", 300, "critical", share, "missing_outputs"),
        _Alert(
            "MonitoringStale", "time() - mp_extract_last_success_timestamp_seconds > 300", 120, "critical",
            "{{ $labels.source }} was last read {{ $value | humanizeDuration }} ago", "self.extract_lag",
        ),
        _Alert(
            "MonitoringDown", f"{up} == 0 or absent({up})", 60, "critical", "The monitoring itself does not answer",
            "self.heartbeat",
        ),
        _Alert("Watchdog", "vector(1)", 0, "none", "Always firing: its absence means that alerting is broken", "watchdog"),
        _Alert(
            "SchedulerJobFailing", "increase(scheduler_job_failure_total[1h]) > 0", 0, "warning",
            "Job {{ $labels.job_id }} has failed in the last hour", "jobs.failing",
        ),
        _Alert(
            "NotificationChannelDown",
            f"increase({failed}[5m]) > 0 unless on (channel) increase({sent}[5m]) > 0", 0, "warning",
            "Nothing gets through channel {{ $labels.channel }}", "notify.channel_down",
        ),
    ]  # fmt: skip
