"""The process in which one custom check runs (C-601): ``python -m monitoring_pipelines.quality.custom_child``.

What belongs here: the context such a check gets, calling it, writing its answer to a file. What does not: limits and
outcomes (``custom``). What the check prints goes nowhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.clock import parse_instant
from monitoring_pipelines.quality.model import Finding
from monitoring_pipelines.state.types import canonical_json

if TYPE_CHECKING:
    import duckdb

#: A check without ``run_types`` belongs to these runs.
DEFAULT_TYPES = ("full",)


@dataclass
class CustomContext:
    """What a custom check gets. ``window`` is (from, to), naive UTC, half-open."""

    source_ids: tuple[str, ...]
    window: tuple[datetime, datetime]
    now: datetime
    params: Mapping[str, Any]
    run_type: str
    _warehouse: str
    _stack: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The warehouse, read-only, opened at first use; everybody else waits for it until the check ends."""
        from monitoring_pipelines.warehouse.connect import Warehouse

        return self._stack.enter_context(Warehouse(self._warehouse).reader("custom check"))


def main() -> None:
    """Read the request from standard input, call the check, write the answer."""
    request = json.load(sys.stdin)
    result = Path(request["result"])
    result.write_text(canonical_json(_answer(request)), "utf-8")


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    module, _, name = request["target"].partition(":")
    function = getattr(import_module(module), name)
    types = tuple(getattr(function, "run_types", DEFAULT_TYPES))
    if not request["explicit"] and request["run_type"] not in types:
        return {"not_for": request["run_type"]}
    window = parse_instant(request["window_from"]), parse_instant(request["window_to"])
    context = CustomContext(
        tuple(request["source_ids"]), window, parse_instant(request["now"]), request["params"], request["run_type"],
        request["warehouse"],
    )  # fmt: skip
    with context._stack:
        found = function(context)
        if not isinstance(found, list | tuple):
            return {"error": f"it returned {type(found).__name__}, not a list of findings"}
        findings = [_plain(entry) for entry in found[: request["most"]]]
    return {"findings": findings, "more": len(found) > request["most"]}


def _plain(entry: Any) -> dict[str, Any]:
    if isinstance(entry, Finding):
        names = ("source_id", "alert_type", "severity", "message", "details", "task_ids", "labels")
        return {name: getattr(entry, name) for name in names}
    if isinstance(entry, Mapping):
        return dict(entry)
    raise TypeError(f"{type(entry).__name__} is no finding")


if __name__ == "__main__":
    main()
