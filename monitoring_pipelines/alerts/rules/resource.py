"""Rules over samples of processes and hosts (C-401 to C-411, C-450, C-451).

What belongs here: conditions on process samples. What does not: taking samples (``collect``, ``client``).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from monitoring_pipelines.alerts.model import Condition
from monitoring_pipelines.alerts.rules.scope import Scope, exact
from monitoring_pipelines.alerts.rules.table import MIB, Level
from monitoring_pipelines.alerts.rules.trend import SAMPLES, Trend, slope, trend
from monitoring_pipelines.collect.own import HOST, SELF

if TYPE_CHECKING:
    import duckdb

#: How far back samples are looked for; ten of them must lie in it for a trend.
LOOK_BACK = timedelta(hours=2)
#: Samples of a process that are kept: some may lack a figure.
KEPT = 30
_COLUMNS = (
    "rss_bytes", "vms_bytes", "mem_pct", "objects", "cpu_pct", "effective_cores", "load1", "fds", "fds_max", "conns",
    "tcp_by_state", "threads", "host_mem_available_bytes", "uptime_s", "scope",
)  # fmt: skip
_SQL = f"""
SELECT source_id, process_id, "at", {", ".join(_COLUMNS)} FROM raw.process_sample
WHERE "at" > $since AND "at" <= $now
QUALIFY row_number() OVER (PARTITION BY source_id, process_id ORDER BY "at" DESC) <= {KEPT}
"""
_SHOWN = ("rss_bytes", "mem_pct", "cpu_pct", "fds", "conns", "threads", "objects", "uptime_s")

Sample = dict[str, Any]


@dataclass
class Resources:
    """The samples of the last two hours by (source, process), oldest first."""

    samples: dict[tuple[str, str], dict[datetime, Sample]] = field(default_factory=dict)

    def recall(self, con: Connection, scope: Scope) -> None:
        """Nothing beyond the collected samples in the scope."""

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Samples that extraction has stored."""
        for row in con.execute(_SQL, {"since": scope.now - LOOK_BACK, "now": scope.now}).fetchall():
            values = dict(zip(_COLUMNS, row[3:], strict=True))
            if isinstance(values["tcp_by_state"], str):
                values["tcp_by_state"] = json.loads(values["tcp_by_state"])
            self.samples.setdefault((row[0], row[1]), {})[row[2]] = values

    def judge(self, scope: Scope) -> None:
        """All rules for every process with samples, and the data volume."""
        for sample in scope.samples:
            if sample.entity == "process_sample" and sample.at <= scope.now:
                key = (sample.source_id, sample.values["process_id"])
                self.samples.setdefault(key, {})[sample.at] = sample.values
        for (source_id, name), by_time in sorted(self.samples.items()):
            instants = sorted(by_time)[-KEPT:]
            _Process(scope, source_id, name, instants, [by_time[at] for at in instants]).judge()
        _judge_disk(scope)


class _Process:
    """One process or host and its samples."""

    def __init__(
        self, scope: Scope, source_id: str, name: str, instants: list[datetime], samples: list[Sample]
    ) -> None:
        self.scope, self.source_id, self.name = scope, source_id, name
        self.instants, self.samples = instants, samples
        self.service = scope.service_of(source_id, name)
        self.labels = {"process": name}

    def judge(self) -> None:
        """Judge every sample that is new since the last evaluation, in order, and the trends of the newest."""
        expected = self.scope.expect(self.source_id, "process", self.name, self.instants[0])
        newest = self.instants[-1]
        before = expected.last_seen_at if not expected.changed else newest
        expected.seen(newest)
        if expected.retired_at is not None and expected.retired_at >= newest:
            return
        if self.scope.is_missing(self.source_id, self.name, newest, self.instants):
            return  # no news: what fires goes on firing (C-440)
        fresh = [n for n, at in enumerate(self.instants) if at > before] or [len(self.samples) - 1]
        for position in fresh:
            self._judge_sample(position)
        if self.samples[-1].get("scope") != "host":
            self._judge_trends()

    def _judge_sample(self, position: int) -> None:
        """Rules on single samples; earlier new ones only where they differ from what comes after (C-451)."""
        sample = self.samples[position]
        rules = _HOST_RULES if sample.get("scope") == "host" else _RULES
        start = len(self.scope.observations)
        for rule_id, value_of in rules:
            if self.scope.is_on(rule_id):
                value, details = value_of(sample)
                self.scope.judge(
                    rule_id, self.source_id, self.labels, value, service=self.service,
                    details=partial(self._with_tail, details, position),
                )  # fmt: skip
        if sample.get("scope") != "host":
            self._judge_cpu(sample, position)
            self._judge_memory_level(sample, position)
            self._judge_limits(sample)
        if position != len(self.samples) - 1:
            said = self.scope.observations
            said[start:] = [one for one in said[start:] if one.condition in ("true", "false")]

    def _judge_cpu(self, sample: Sample, position: int) -> None:
        """C-404: both the process's share and the load per core."""
        rule = self.scope.rules["resource.cpu"]
        cpu, load, cores = (sample.get(name) for name in ("cpu_pct", "load1", "effective_cores"))
        if not rule.enabled:
            return
        if cpu is None or load is None or not cores:
            self.scope.say("resource.cpu", self.source_id, self.labels, "not_measurable", service=self.service)
            return
        ratio = exact(load) / exact(cores)
        held: Level | None = None
        for level, least in zip(rule.levels, _load_ratios(len(rule.levels)), strict=True):
            if level.threshold is not None and exact(cpu) >= exact(level.threshold) and ratio >= least:
                held = level
        details = {"load_ratio": round(float(ratio), 4), "samples": self._tail(position)} if held else None
        self.scope.say(
            "resource.cpu", self.source_id, self.labels, "true" if held else "false", level=held, value=cpu,
            details=details, service=self.service,
        )  # fmt: skip

    def _judge_memory_level(self, sample: Sample, position: int) -> None:
        """C-405: limits move with the host's free memory."""
        rule = self.scope.rules["resource.memory_level"]
        if not rule.enabled:
            return
        rss, free = sample.get("rss_bytes"), sample.get("host_mem_available_bytes")
        if rss is None or free is None:
            self.scope.say(rule.id, self.source_id, self.labels, "not_measurable", service=self.service)
            return
        factor = Fraction(12, 10) if free > 2048 * MIB else Fraction(8, 10) if free < 1024 * MIB else Fraction(1)
        held = [level for level in rule.levels if Fraction(rss, MIB) >= exact(level.threshold or 0) * factor]
        shown = held[-1] if held else rule.levels[0]
        self.scope.say(
            rule.id, self.source_id, self.labels, "true" if held else "false", level=shown, value=Fraction(rss, MIB),
            threshold=exact(shown.threshold or 0) * factor, service=self.service,
            details={"samples": self._tail(position)} if held else None,
        )  # fmt: skip

    def _judge_limits(self, sample: Sample) -> None:
        """C-406: limits of single processes, strict."""
        limits = self.scope.settings.resource_limits.get(self.name)
        if limits is None or not self.scope.is_on("resource.limits"):
            return
        warning, critical = self.scope.rules["resource.limits"].levels
        for metric, column in (("memory_bytes", "rss_bytes"), ("connections", "conns"), ("fds", "fds")):
            limit = getattr(limits, metric)
            if limit is None:
                continue
            value, labels = sample.get(column), {**self.labels, "metric": metric}
            if value is None:
                self.scope.say("resource.limits", self.source_id, labels, "not_measurable", service=self.service)
                continue
            over = [(level, at) for level, at in ((warning, limit.soft), (critical, limit.hard)) if at is not None]
            held = [(level, at) for level, at in over if value > at]
            level, threshold = held[-1] if held else over[0]
            self.scope.say(
                "resource.limits", self.source_id, labels, "true" if held else "false", level=level, value=value,
                threshold=threshold, service=self.service,
            )  # fmt: skip

    def _judge_trends(self) -> None:
        scope = self.scope
        if scope.is_on("leak.trend"):
            trends = process_trends(self.samples, scope)
            fastest = sorted(
                ((name, round(float(t.slope), 3)) for name, (t, _) in trends.items() if t.slope and t.slope > 0),
                key=lambda pair: -pair[1],
            )
            for metric, (found, unit) in trends.items():
                self._say_trend(metric, found, unit, fastest)
        if scope.is_on("leak.close_wait"):
            self._judge_close_wait()
        if scope.is_on("fd.forecast"):
            self._judge_forecast()

    def _say_trend(self, metric: str, found: Trend, unit: str, fastest: list[tuple[str, float]]) -> None:
        info, warning = self.scope.rules["leak.trend"].levels
        labels = {**self.labels, "metric": metric}
        if found.slope is None:
            self.scope.say("leak.trend", self.source_id, labels, "insufficient_data", service=self.service)
            return
        level = {"rapidly_increasing": warning, "slowly_increasing": info}.get(found.name)
        details = None
        if level is not None:
            tail = self._tail(len(self.samples) - 1)
            details = {"trend": found.name, "unit": unit, "fastest": fastest, "samples": tail}
        self.scope.say(
            "leak.trend", self.source_id, labels, "true" if level else "false", level=level,
            value=round(float(found.slope), 3), details=details, service=self.service,
        )  # fmt: skip

    def _judge_close_wait(self) -> None:
        """C-409: connections the process forgot to close, and ever more of them."""
        counts = [s["tcp_by_state"].get("CLOSE_WAIT", 0) for s in self.samples if s.get("tcp_by_state") is not None]
        if len(counts) < SAMPLES or self.samples[-1].get("tcp_by_state") is None:
            missing: Condition = "insufficient_data" if counts else "not_measurable"
            self.scope.say("leak.close_wait", self.source_id, self.labels, missing, service=self.service)
            return
        grows = counts[-1] > 0 and slope(counts[-SAMPLES:]) > 0
        self.scope.say(
            "leak.close_wait", self.source_id, self.labels, "true" if grows else "false", value=counts[-1],
            details={"close_wait": counts[-SAMPLES:]} if grows else None, service=self.service,
        )  # fmt: skip

    def _judge_forecast(self) -> None:
        """C-410: at the slope of the last ten samples descriptors are used up within the threshold."""
        rule = self.scope.rules["fd.forecast"]
        known = [(at, s["fds"]) for at, s in zip(self.instants, self.samples, strict=True) if s.get("fds") is not None]
        limit = self.samples[-1].get("fds_max")
        if limit is None or self.samples[-1].get("fds") is None:
            self.scope.say(rule.id, self.source_id, self.labels, "not_measurable", service=self.service)
            return
        if len(known) < SAMPLES:
            self.scope.say(rule.id, self.source_id, self.labels, "insufficient_data", service=self.service)
            return
        last = known[-SAMPLES:]
        growth = slope([fds for _, fds in last])
        per_sample = Fraction((last[-1][0] - last[0][0]) // timedelta(microseconds=1), (SAMPLES - 1) * 1_000_000)
        left = max(limit - last[-1][1], 0) / growth * per_sample if growth > 0 else None
        near = left is not None and left < exact(rule.levels[0].threshold or 0)
        details = {"fds": last[-1][1], "fds_max": limit, "slope": round(float(growth), 3)}
        self.scope.say(
            rule.id, self.source_id, self.labels, "true" if near else "false",
            value=None if left is None else round(float(left), 1), details=details if near else None,
            service=self.service,
        )  # fmt: skip

    def _with_tail(self, details: dict[str, Any], position: int) -> dict[str, Any]:
        return details | {"samples": self._tail(position)}

    def _tail(self, position: int) -> list[dict[str, Any]]:
        """The last ten samples up to a position, as details (C-452)."""
        rows = zip(self.instants[: position + 1], self.samples, strict=False)
        kept = list(rows)[-SAMPLES:]
        return [{"at": at, **{n: s[n] for n in _SHOWN if s.get(n) is not None}} for at, s in kept]


def _load_ratios(levels: int) -> Sequence[Fraction]:
    """Least load per core of each level of C-404."""
    return (Fraction(70, 100), Fraction(90, 100))[-levels:] if levels < 2 else (Fraction(70, 100), Fraction(90, 100))


def _plain(column: str) -> Callable[[Sample], tuple[Any, dict[str, Any]]]:
    return lambda sample: (sample.get(column), {})


def _fds(sample: Sample) -> tuple[Fraction | None, dict[str, Any]]:
    """C-403: percent of the limit, exact; without a limit it is not measurable."""
    fds, limit = sample.get("fds"), sample.get("fds_max")
    if fds is None or not limit:
        return None, {}
    return Fraction(100 * fds, limit), {"fds": fds, "fds_max": limit}


_RULES: tuple[tuple[str, Callable[[Sample], tuple[Any, dict[str, Any]]]], ...] = (
    ("resource.memory", _plain("rss_bytes")),
    ("resource.connections", _plain("conns")),
    ("resource.fds", _fds),
    ("resource.threads", _plain("threads")),
)
_HOST_RULES = (("host.cpu", _plain("cpu_pct")), ("host.memory", _plain("mem_pct")))


def process_trends(samples: Sequence[Sample], scope: Scope) -> dict[str, tuple[Trend, str]]:
    """Trend and unit per metric of a process's samples, oldest first (C-450); NULL samples are left out."""
    found = {}
    for metric, unit, values, scale in _measured(samples):
        limits = scope.settings.trends.get(metric) or scope.settings.trends["default"]
        found[metric] = (trend(values, exact(limits.slow), exact(limits.rapid), scale), unit)
    return found


def _measured(samples: Sequence[Sample]) -> Iterator[tuple[str, str, Sequence[Fraction | int], Fraction]]:
    """(metric, unit, measured values, factor to the unit) of C-450."""

    def known(name: str) -> list[int]:
        return [sample[name] for sample in samples if sample.get(name) is not None][-SAMPLES:]

    yield "rss", "MiB", known("rss_bytes"), Fraction(1, MIB)
    limits = {sample.get("fds_max") for sample in [s for s in samples if s.get("fds") is not None][-SAMPLES:]}
    fds = known("fds")
    if len(limits) == 1 and (limit := limits.pop()):
        yield "fds", "%", fds, Fraction(100, limit)
    elif limits and all(limits):
        shares = [Fraction(100 * s["fds"], s["fds_max"]) for s in samples if s.get("fds") is not None]
        yield "fds", "%", shares[-SAMPLES:], Fraction(1)
    else:
        yield "fds", "", fds, Fraction(1)
    yield "conns", "", known("conns"), Fraction(1)
    yield "threads", "", known("threads"), Fraction(1)
    objects = known("objects")
    yield "objects", "%", objects, Fraction(100 * len(objects), sum(objects) or 1)


def _judge_disk(scope: Scope) -> None:
    """C-411 for the volume that holds the product's data."""
    if not scope.is_on("host.disk"):
        return
    path = scope.settings.data_path
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        scope.say("host.disk", SELF, {"volume": "data"}, "not_measurable", details={"path": str(path)}, service=HOST)
        return
    # As `df` counts: what is reserved for root is not available.
    used = Fraction(100 * usage.used, usage.used + usage.free)
    scope.judge("host.disk", SELF, {"volume": "data"}, used, details={"path": str(path)}, service=HOST)
