"""What ``data`` of an answer looks like, for the OpenAPI document alone; nothing here runs while a request is answered.

What belongs here: one schema per object, closed, so that a field nobody described fails the test that compares both.
What does not: making answers (``routes``).
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def components() -> dict[str, dict[str, Any]]:
    """Every shape by its name in ``components/schemas``. Read when the document is asked for, not at start."""
    from monitoring_pipelines.api.shapes import compat, state, statistics, v1

    return {**state.SHAPES, **statistics.shapes(), **v1.SHAPES, **compat.SHAPES}
