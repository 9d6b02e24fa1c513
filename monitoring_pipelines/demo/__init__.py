"""A simulated task platform with seeded faults, for trying out, tests and benchmarks.

What belongs here: the simulation, its ground truth, the writers that put it into SQLite, MySQL or MariaDB, and the demo
directory. What does not: anything that reads a source or computes a statistic; the product must not know it is a demo.

The seeded faults (``scale.Faults``, hours before the end of the generated history; all go on in live mode):

* ``tktool``, workflow ``wf-upscale``: since 30 h 17 min most succeeded tasks leave no output; ``wf-video-cut`` delivers
  late for three hours since 9 h. Repeated, orphan and 0-byte outputs are scattered everywhere.
* ``tts``: since 40 h the application no longer calls its timeout check; every 25 minutes a text stays in processing.
  ``tktool``'s own sweeper hangs since the same instant.
* ``collector``, process ``collector-okx``: since 9 h memory, file descriptors and connections grow by the hour; since 24
  min none of its series publishes. ``collector-binance`` was restarted once (counters begin again at 0).
* ``scheduler``: since 5 h ``sync_purchase_orders`` fails three times in four, and the times of
  ``check_payment_reminder`` pass without a run (``missed``).
* ``waverless``: since 7 h two hours without samples of one endpoint; since 20 h one endpoint is deleted; besides, late
  rows, duplicate events, lost ends, dead workers, reversed clocks, zero dates (MySQL only) and case variants.
"""

from __future__ import annotations

from monitoring_pipelines.demo.generate import GenerateResult, generate
from monitoring_pipelines.demo.scale import BENCHMARK, SMALL, STANDARD, Scale
from monitoring_pipelines.demo.world import World

__all__ = ["BENCHMARK", "SMALL", "STANDARD", "GenerateResult", "Scale", "World", "generate"]
