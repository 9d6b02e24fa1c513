"""Simulated market-data collectors: processes that sample themselves, one of which leaks and then stops publishing.

What belongs here: tables ``mp_process_samples`` and ``mp_ingest_samples`` (E-512) with the leak of the resource
checks. What does not: probes and scrapes over HTTP.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from monitoring_pipelines.demo.eventloop import EventLoop, scramble
from monitoring_pipelines.demo.scale import HOUR_MS, Faults

_PROCESSES = ("collector-okx", "collector-binance", "collector-deribit")
_PUBLISHING = _PROCESSES[:2]
#: Published messages per second by series.
_SERIES = (
    ("orderbook", 42.0), ("trade", 18.0), ("funding_rate", 0.02), ("open_interest", 0.05), ("liquidation", 0.1),
    ("volatility_index", 0.02), ("lsr_top_position", 0.01), ("lsr_all_account", 0.01),
)  # fmt: skip
_FDS_MAX = 1024
_LEAK_HOURS = 36.0


@dataclass(slots=True)
class _Process:
    name: str
    started: int
    counters: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)


class Collector(EventLoop):
    """Three processes, sampled at a fixed interval."""

    database = "collector"

    def __init__(self, seed: int, start_ms: int, interval_s: int, faults: Faults) -> None:
        super().__init__(seed, start_ms)
        self.faults = faults
        self._interval = interval_s * 1_000
        self._sample_id = self._counter_id = 0
        self._processes = [_Process(name, start_ms - 3_600_000) for name in _PROCESSES]
        first = start_ms - start_ms % self._interval + self._interval
        for offset, process in enumerate(self._processes):
            self.at(first + offset * 700, self._sample, process)
        self.at(start_ms + 31 * HOUR_MS, self._restart, self._processes[1])

    def _restart(self, process: _Process) -> None:
        """A deployment: counters start again at zero (M-701)."""
        process.started = self.now
        process.counters.clear()
        process.errors.clear()

    def _sample(self, process: _Process) -> None:
        self.at(self.now + self._interval, self._sample, process)
        rng, now = self.rng, self.now
        leaking = process.name == _PROCESSES[0] and now >= self.faults.leak_at
        # A demo that goes on for days shows the last state: killed by nobody, at its limits.
        hours = min((now - self.faults.leak_at) / HOUR_MS, _LEAK_HOURS) if leaking else 0.0
        rss = int((880 + 25 * rng.random() + 265 * hours) * 1_048_576)
        conns = 12 + rng.randint(0, 2) + int(9.5 * hours)
        states = {"ESTABLISHED": conns - int(3.0 * hours), "CLOSE_WAIT": int(3.0 * hours)}
        load = 0.8 + rng.random() + 0.2 * hours
        self._sample_id += 1
        self.insert(
            "mp_process_samples",
            (
                self._sample_id, process.name, self.text(now), rss, rss + 1_900_000_000, round(rss / 160e9 * 100, 2),
                int(900_000 + 4_000 * rng.random() + 1_550_000 * hours), round(14 + 8 * rng.random() + 4 * hours, 2),
                4.0, round(load, 2), round(load * 0.9, 2), min(96 + rng.randint(0, 6) + int(78 * hours), _FDS_MAX - 1), _FDS_MAX, conns,
                json.dumps({state: count for state, count in states.items() if count}), None,
                24 + rng.randint(0, 1), int((now - process.started) // 9_000), int(9e9 - 2.4e8 * hours),
                (now - process.started) / 1000, "process",
            ),
        )  # fmt: skip
        if process.name in _PUBLISHING:
            self._ingest(process, stalled=leaking and hours > 8.6)

    def _ingest(self, process: _Process, stalled: bool) -> None:
        """Monotone counters per series; the leaking process stops publishing shortly before the end of its memory."""
        rng, seconds = self.rng, self._interval / 1000
        for series, rate in _SERIES:
            step = 0.0 if stalled else rate * seconds * (0.9 + 0.2 * rng.random())
            process.counters[series] = process.counters.get(series, 0.0) + step
            failed = 1.0 if rng.random() < rate * seconds * 0.0002 else 0.0
            process.errors[series] = process.errors.get(series, 0.0) + failed
            values = [("ok", process.counters[series])]
            if rate >= 1:  # only the busy series export an error counter
                values.append(("error", process.errors[series]))
            for kind, value in values:
                self._counter_id += 1
                labels = json.dumps({"exchange": process.name.split("-")[1], "shard": scramble(len(series)) % 4})
                self.insert(
                    "mp_ingest_samples",
                    (self._counter_id, process.name, series, self.text(self.now), kind, int(value), labels),
                )
