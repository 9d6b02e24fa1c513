"""Which tasks a plan looks at: read from the source in one read-only snapshot (R-301…R-303).

What belongs here: tasks of a window or of a list of ids, their outputs, and the completeness of the window.
What does not: asking for lost outputs (``recoverers``) and classes (``plan``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.model import PlanRequest, RepairRefused, Task
from monitoring_pipelines.compensation.stored import OutputReader, StoredOutput
from monitoring_pipelines.compensation.target import Target, inspect_target, output_mapping
from monitoring_pipelines.source.convert import convert, create_stage, load_stage
from monitoring_pipelines.source.inspect import inspect_tables
from monitoring_pipelines.source.lookup import KEYS_PER_QUERY, read_by_key
from monitoring_pipelines.source.select import build_select

if TYPE_CHECKING:
    import duckdb

    from monitoring_pipelines.config.schema import Settings, SourceSettings
    from monitoring_pipelines.source.engine import SourceConnection
    from monitoring_pipelines.source.select import SelectPlan

#: Bounds of a window are widened by this for columns in local time and filtered again afterwards.
_ZONE_MARGIN = timedelta(hours=1)


@dataclass(frozen=True)
class Completeness:
    """Settled tasks of a window and how many of them have a valid output (C-101)."""

    settled: int
    with_output: int

    def as_dict(self) -> dict[str, Any]:
        """Counts and the rate in percent, two decimals, NULL without tasks (C-003)."""
        rate = round(100 * self.with_output / self.settled, 2) if self.settled else None
        return {"settled": self.settled, "with_output": self.with_output, "rate_pct": rate}


@dataclass
class Scope:
    """What was found: tasks in plan order, outputs by task, and ids that are no candidates."""

    target: Target
    tasks: list[Task] = field(default_factory=list)
    outputs: dict[str, list[StoredOutput]] = field(default_factory=dict)
    unknown_ids: list[str] = field(default_factory=list)
    rejected_ids: dict[str, str] = field(default_factory=dict)

    def has_valid_output(self, task_key: str) -> bool:
        """Whether the task has an output that counts (E-102)."""
        return any(output.valid for output in self.outputs.get(task_key, ()))

    def natural_keys(self, task_key: str) -> set[str]:
        """Natural keys of all stored outputs of the task, valid or not (R-405)."""
        return {output.natural_key for output in self.outputs.get(task_key, ())}

    def ignore(self, placeholders: set[str]) -> None:
        """Outputs that are placeholders are there, but never valid (E-102)."""
        if placeholders:
            for key, found in self.outputs.items():
                self.outputs[key] = [replace(o, valid=o.valid and o.natural_key not in placeholders) for o in found]

    @property
    def completeness(self) -> Completeness:
        """Of the tasks found."""
        return Completeness(len(self.tasks), sum(self.has_valid_output(task.task_key) for task in self.tasks))


def read_scope(
    connection: SourceConnection, settings: Settings, source: SourceSettings, request: PlanRequest, now: datetime
) -> Scope:
    """Read tasks and outputs.

    Args:
        connection: A read-only snapshot of the source.
        settings: Configuration.
        source: The source.
        request: Window or ids.
        now: Instant for the settle time.

    Raises:
        RepairRefused: The output table cannot be repaired, or tasks have no end to place them by.
    """
    import duckdb

    scope = Scope(inspect_target(connection, settings, source))
    with duckdb.connect(":memory:") as memory:
        if request.task_ids is not None:
            _by_ids(connection, memory, settings, source, request.task_ids, scope, now)
        else:
            assert request.window_from is not None
            assert request.window_to is not None
            _by_window(connection, memory, settings, source, (request.window_from, request.window_to), scope, now)
    scope.tasks.sort(key=lambda task: (task.effective_end or datetime.max, task.task_key.encode()))
    scope.outputs = read_outputs(connection, settings, source, scope.target, [t.task_key for t in scope.tasks])
    return scope


def read_outputs(
    connection: SourceConnection, settings: Settings, source: SourceSettings, target: Target, keys: Sequence[str]
) -> dict[str, list[StoredOutput]]:
    """Stored outputs of the tasks ``keys``."""
    reader = OutputReader(connection, source, output_mapping(source), target, settings.repair.keep_query)
    found: dict[str, list[StoredOutput]] = {}
    for at in range(0, len(keys), KEYS_PER_QUERY):
        chunk = keys[at : at + KEYS_PER_QUERY]
        for output in reader.outputs(connection.query(reader.sql(chunk)), chunk):
            found.setdefault(output.task_key, []).append(output)
    return found


def _by_window(
    connection: SourceConnection, memory: duckdb.DuckDBPyConnection, settings: Settings, source: SourceSettings,
    window: tuple[datetime, datetime], scope: Scope, now: datetime,
) -> None:  # fmt: skip
    settled = now - timedelta(seconds=settings.checks.settle_s)
    for mapping in source.mapped("task"):
        info = inspect_tables(connection, [mapping.table]).get(mapping.table)
        if info is None:
            continue
        plan = build_select(mapping, source, connection.dialect, info.columns)
        create_stage(memory, plan, "stage_window")
        for condition in _window_conditions(plan, window, source):
            for rows in connection.stream(plan.render([condition])):
                load_stage(memory, "stage_window", plan.stage_columns(), rows)
        convert(memory, plan, source, "stage_window", now, settings.extract.future_tolerance_s)
        scope.tasks += _typed_tasks(
            memory, "typed_stage_window", mapping.table,
            "status = 'succeeded' AND NOT __deleted AND output_expected "
            "AND effective_end >= $start AND effective_end < $end AND effective_end <= $settled",
            {"start": window[0], "end": window[1], "settled": settled},
        )  # fmt: skip


def _window_conditions(plan: SelectPlan, window: tuple[datetime, datetime], source: SourceSettings) -> list[str]:
    """Disjoint conditions that together hold every task whose effective end may lie in the window (E-004)."""
    ended, created = plan.times.get("ended_at"), plan.times.get("created_at")
    if ended is None and created is None:
        raise RepairRefused(
            "no_task_times", f"{source.id}: neither ended_at nor created_at of {plan.table} can be searched",
            "map one of them to a column, or plan by --task-ids",
        )  # fmt: skip
    conditions = []
    for name, other in ((ended, None), (created, ended)):
        if name is None:
            continue
        low, high = window[0] - _ZONE_MARGIN, window[1] + _ZONE_MARGIN
        text = f"{name.sql} >= {name.bound(low)} and {name.sql} < {name.bound(high)}"
        conditions.append(f"({text})" if other is None else f"({other.sql} is null and {text})")
    return conditions


def _by_ids(
    connection: SourceConnection, memory: duckdb.DuckDBPyConnection, settings: Settings, source: SourceSettings,
    ids: Sequence[str], scope: Scope, now: datetime,
) -> None:  # fmt: skip
    wanted = list(dict.fromkeys(ids))
    states: dict[str, str] = {}
    for mapping in source.mapped("task"):
        info = inspect_tables(connection, [mapping.table]).get(mapping.table)
        if info is None:
            continue
        for at in range(0, len(wanted), KEYS_PER_QUERY):
            chunk = wanted[at : at + KEYS_PER_QUERY]
            relation = read_by_key(connection, memory, settings, source, mapping, info, chunk, now)
            states |= dict(
                memory.execute(
                    f"SELECT task_key, CASE WHEN __deleted THEN 'deleted' ELSE status END FROM {relation} "
                    "WHERE task_key IN (SELECT task_key FROM asked)"
                ).fetchall()
            )
            scope.tasks += _typed_tasks(
                memory, relation, mapping.table,
                "status = 'succeeded' AND NOT __deleted AND task_key IN (SELECT task_key FROM asked)", {},
            )  # fmt: skip
    found = {task.task_key for task in scope.tasks}
    scope.unknown_ids = [key for key in wanted if key not in states]
    scope.rejected_ids = {key: states[key] for key in wanted if key in states and key not in found}


def _typed_tasks(
    memory: duckdb.DuckDBPyConnection, relation: str, table: str, condition: str, values: dict[str, Any]
) -> Iterator[Task]:
    rows = memory.execute(
        f"SELECT DISTINCT task_key, raw_status, remote_id, effective_end, endpoint FROM {relation} WHERE {condition}",
        values,
    ).fetchall()
    for key, raw_status, remote_id, effective_end, endpoint in rows:
        yield Task(key, table, "succeeded", raw_status, remote_id, effective_end, endpoint)
