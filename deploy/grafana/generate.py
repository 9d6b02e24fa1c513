"""Writes the Grafana dashboards of this folder: ``make grafana``. A test compares them with what this file gives.

With a configuration of your own: ``python deploy/grafana/generate.py --config monitoring.yaml --output FOLDER``.

What belongs here: panels and the queries behind them. What does not: thresholds; they come from the tables that rules and
checks read, so that a panel turns red when the alert does (C-452).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode, GraphTresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

from monitoring_pipelines.alerts.rules.table import in_force
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.config.schema import Settings

HERE = Path(__file__).resolve().parent
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED = "green", "yellow", "red"
WIDTH = 24
BY_ENDPOINT = '{source=~"$source",endpoint=~"$endpoint"}'


class Limits:
    """The configuration whose thresholds the panels show: as shipped, unless ``text_of`` is given another one."""

    settings = Settings()


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> Any:
    """Colours by value: ``base`` below the first step."""
    found = [Threshold(value=None, color=base), *(Threshold(value=value, color=colour) for value, colour in steps)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def of_rule(rule_id: str, factor: float = 1) -> Any:
    """The thresholds of a shipped rule, times what the rule's unit is in the panel's."""
    colours = {"medium": YELLOW, "low": YELLOW, "info": YELLOW}
    levels = [level for level in in_force(Limits.settings)[rule_id].levels if level.threshold is not None]
    return thresholds(*((float(level.threshold or 0) * factor, colours.get(level.severity, RED)) for level in levels))


def bands() -> Any:
    """The bands of completeness (C-002)."""
    limits = Limits.settings.checks.bands
    return thresholds((float(limits.degraded), YELLOW), (float(limits.healthy), GREEN), base=RED)


def query(expression: str, legend: str = "") -> Any:
    """One PromQL query."""
    return prometheus.Dataquery().expr(expression).legend_format(legend or "__auto")


def number(title: str, expression: str, unit: str, colours: Any, legend: str = "", width: int = 6) -> Any:
    """A tile with the newest value."""
    return (
        stat.Panel().title(title).datasource(SOURCE).unit(unit).thresholds(colours).height(5).span(width)
        .graph_mode(BigValueGraphMode.NONE).no_value("–").with_target(query(expression, legend).instant().ref_id("A"))
    )  # fmt: skip


def lines(
    title: str,
    *targets: tuple[str, str],
    unit: str = "short",
    colours: Any = None,
    top: float | None = None,
    width: int = 12,
) -> Any:
    """Curves over time; a value that is not exported is a gap, never a zero."""
    panel = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).height(8).span(width).min(0).span_nulls(False)
    if top is not None:
        panel = panel.max(top)
    if colours is not None:
        panel = panel.thresholds(colours)
        style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE)
        panel = panel.thresholds_style(style)
    for letter, (expression, legend) in zip("ABCDEF", targets, strict=False):
        panel = panel.with_target(query(expression, legend).ref_id(letter))
    return panel


def board(uid: str, title: str, tags: list[str]) -> Any:
    """An empty dashboard with the variables that all have."""
    return (
        dashboard.Dashboard(title).uid(uid).tags(["monitoring-pipelines", *tags]).refresh("30s").time("now-24h", "now")
        .timezone("browser").readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )  # fmt: skip


def variable(name: str, label: str, values: str) -> Any:
    """A choice of label values; all by default."""
    return (
        dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(f"label_values({values})").multi(True)
        .include_all(True).all_value(".*")
    )  # fmt: skip


def hourly(labels: str, family: str, scope: str = "") -> str:
    """What a counter grew by in an hour, summed by labels."""
    return f"sum by ({labels}) (increase({family}{scope}[1h]))"


def overview() -> Any:
    """Health, completeness, alerts, lag."""
    built = board("mp-overview", "Monitoring pipelines: overview", ["overview"])
    built = built.with_variable(variable("source", "Source", "mp_extract_last_success_timestamp_seconds, source"))
    panels = [
        number("Completion (24 h)", 'mp_completion_rate_percent{window="24h",source=~"$source"}', "percent", bands(), "{{source}}", 8),
        number("Firing alerts", 'sum(mp_alerts{state="firing"}) or vector(0)', "short", thresholds((1, RED)), width=4),
        number("Data lag", 'max by (source) (time() - mp_extract_last_success_timestamp_seconds{source=~"$source"})', "s",
               _lag(), "{{source}}", 8),
        number("Schema drift", 'sum(mp_schema_drift{source=~"$source"})', "short", thresholds((1, RED)), width=4),
        lines("Completion by window", ('mp_completion_rate_percent{source=~"$source"}', "{{source}} {{window}}"), unit="percent",
              colours=bands(), top=100),
        lines("Tasks without output", ('mp_tasks_missing_outputs{source=~"$source"}', "{{source}} {{window}}")),
        lines("Open alerts by severity", ("sum by (severity, state) (mp_alerts)", "{{severity}} {{state}}")),
        lines("Statistics lag", ('mp_aggregate_lag_seconds{source=~"$source"}', "{{source}}"), unit="s"),
        lines("Anomalies per hour", (hourly("source, kind", "mp_anomalies_total", '{source=~"$source"}'), "{{source}} {{kind}}")),
        lines("Messages by result", (hourly("channel, result", "mp_alert_notifications_total"), "{{channel}} {{result}}")),
    ]  # fmt: skip
    return _with(built, panels)


def _lag() -> Any:
    """The rule counts cycles of reading, which are a minute or longer; the family counts seconds (C-502)."""
    cycle = max(Limits.settings.extract.interval_s, 60)
    return of_rule("self.extract_lag", cycle)


def endpoints() -> Any:
    """Traffic, latency, workers of endpoints."""
    built = board("mp-endpoints", "Monitoring pipelines: endpoints", ["endpoints"])
    built = built.with_variable(variable("source", "Source", "mp_endpoint_stats_timestamp_seconds, source"))
    built = built.with_variable(
        variable("endpoint", "Endpoint", 'mp_endpoint_stats_timestamp_seconds{source=~"$source"}, endpoint')
    )
    seconds = ("avg", "p50", "p95", "p99")
    panels = [
        lines("Tasks per minute", (f"sum by (outcome) (rate(mp_endpoint_tasks_total{BY_ENDPOINT}[5m])) * 60", "{{outcome}}")),
        lines("Success rate", (f"mp_endpoint_success_rate_percent{BY_ENDPOINT}", "{{endpoint}}"), unit="percent", top=100),
        lines("Execution", *((f"mp_endpoint_execution_{name}_seconds{BY_ENDPOINT}", f"{{{{endpoint}}}} {name}") for name in seconds),
              unit="s", colours=_endpoint_seconds()),
        lines("Queue wait", (f"mp_endpoint_queue_wait_avg_seconds{BY_ENDPOINT}", "{{endpoint}}"), unit="s"),
        lines("Waiting tasks", (f"mp_endpoint_queue_depth{BY_ENDPOINT}", "{{endpoint}}"), colours=of_rule("endpoint.queue_depth")),
        lines("Running tasks", (f"mp_endpoint_running{BY_ENDPOINT}", "{{endpoint}}")),
        lines("Workers", (f"mp_endpoint_active_workers{BY_ENDPOINT}", "{{endpoint}} active"),
              (f"mp_endpoint_idle_workers{BY_ENDPOINT}", "{{endpoint}} idle")),
        lines("Utilization", (f"mp_endpoint_worker_utilization_percent{BY_ENDPOINT}", "{{endpoint}} worker"),
              (f"mp_endpoint_slot_utilization_percent{BY_ENDPOINT}", "{{endpoint}} slot"), unit="percent", top=100),
        lines("GPU", (f"mp_endpoint_gpu_utilization_percent{BY_ENDPOINT}", "{{endpoint}}"), unit="percent", top=100),
        lines("Snapshot coverage", (f"mp_endpoint_snapshot_coverage_percent{BY_ENDPOINT}", "{{endpoint}}"), unit="percent", top=100),
    ]  # fmt: skip
    return _with(built, panels)


def _endpoint_seconds() -> Any:
    """The rule counts milliseconds, the family seconds."""
    levels = [
        level.threshold
        for level in in_force(Limits.settings)["endpoint.p95_execution"].levels
        if level.threshold is not None
    ]
    return thresholds(*zip((float(value) / 1000 for value in levels), (YELLOW, RED), strict=True))


def collectors() -> Any:
    """Processes of collectors and what they ingest."""
    chosen = '{source=~"$source",process=~"$process"}'
    built = board("mp-collectors", "Monitoring pipelines: collectors", ["collectors"])
    built = built.with_variable(variable("source", "Source", "mp_process_uptime_seconds, source"))
    built = built.with_variable(variable("process", "Process", 'mp_process_uptime_seconds{source=~"$source"}, process'))
    files = f"100 * mp_process_open_fds{chosen} / mp_process_max_fds{chosen}"
    panels = [
        number("Target up", 'min(mp_target_up{source=~"$source"})', "short", thresholds((1, GREEN), base=RED)),
        number("Memory", f"max(mp_process_resident_memory_bytes{chosen})", "bytes", of_rule("resource.memory")),
        number("Open FDs of limit", f"max({files})", "percent", of_rule("resource.fds")),
        number("Uptime", f"min(mp_process_uptime_seconds{chosen})", "s", thresholds()),
        lines("Memory over time", (f"mp_process_resident_memory_bytes{chosen}", "{{process}} RSS"),
              (f"mp_process_virtual_memory_bytes{chosen}", "{{process}} virtual"), unit="bytes", colours=of_rule("resource.memory")),
        lines("CPU", (f"mp_process_cpu_percent{chosen}", "{{process}}"), unit="percent"),
        lines("FDs of limit", (files, "{{process}}"), unit="percent", colours=of_rule("resource.fds"), top=100),
        lines("Connections", ('sum by (process) (mp_process_connections{source=~"$source",process=~"$process",scope="process"})',
                              "{{process}}"), colours=of_rule("resource.connections")),
        lines("Ingest per second", ('mp_ingest_rate{source=~"$source",process=~"$process"}', "{{process}} {{series}}"), unit="ops"),
        lines("Threads", (f"mp_process_threads{chosen}", "{{process}}")),
        lines("Objects", (f"mp_process_objects{chosen}", "{{process}}")),
    ]  # fmt: skip
    return _with(built, panels)


def scheduler() -> Any:
    """Jobs and delivery."""
    built = board("mp-scheduler", "Monitoring pipelines: scheduler", ["scheduler"])
    built = built.with_variable(variable("job", "Job", "scheduler_job_success_total, job_id"))
    one = '{job_id=~"$job"}'
    ok, failed = (f"sum(increase(scheduler_job_{name}_total{one}[24h]))" for name in ("success", "failure"))
    panels = [
        number("Failures (24 h)", failed, "short", thresholds((1, RED))),
        number("Missed (24 h)", f"sum(increase(scheduler_job_missed_total{one}[24h]))", "short", thresholds((1, YELLOW))),
        number("Success rate (24 h)", f"100 * {ok} / ({ok} + {failed})", "percent", thresholds()),
        number("Delivery failures (24 h)", "sum(increase(scheduler_notification_failure_total[24h]))", "short", thresholds((1, RED))),
        lines("Runs per hour", (f"sum by (job_id) (increase(scheduler_job_success_total{one}[1h]))", "{{job_id}} ok"),
              (f"sum by (job_id) (increase(scheduler_job_failure_total{one}[1h]))", "{{job_id}} failed")),
        lines("P95 duration", (f"scheduler_job_duration_p95_seconds{one}", "{{job_id}}"), unit="s"),
    ]  # fmt: skip
    return _with(built, panels)


def _with(built: Any, panels: list[Any]) -> Any:
    for panel in panels:
        built = built.with_panel(panel)
    return built


BOARDS = {"overview": overview, "endpoints": endpoints, "collectors": collectors, "scheduler": scheduler}


def text_of(name: str, settings: Settings | None = None) -> str:
    """The JSON text of a dashboard, with the thresholds of ``settings``."""
    Limits.settings = settings or Settings()
    return JSONEncoder(sort_keys=True, indent=2).encode(BOARDS[name]().build()) + "\n"


def main() -> int:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="configuration whose thresholds are shown; default: those as shipped")
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to; default: this one")
    given = parser.parse_args()
    if given.config and given.output == HERE:
        parser.error("--config needs --output: the dashboards of this folder are those as shipped")
    given.output.mkdir(parents=True, exist_ok=True)
    for name in BOARDS:
        text = text_of(name, load_settings(given.config) if given.config else None)
        (given.output / f"{name}.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
