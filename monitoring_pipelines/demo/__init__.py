"""A simulated task platform with seeded faults, for trying out, tests and benchmarks.

What belongs here: the simulation, its ground truth, the writers that put it into SQLite, MySQL or MariaDB, and the demo
directory. What does not: anything that reads a source or computes a statistic; the product must not know it is a demo.
"""

from __future__ import annotations

from monitoring_pipelines.demo.generate import GenerateResult, generate
from monitoring_pipelines.demo.scale import BENCHMARK, SMALL, STANDARD, Scale
from monitoring_pipelines.demo.world import World

__all__ = ["BENCHMARK", "SMALL", "STANDARD", "GenerateResult", "Scale", "World", "generate"]
