"""Reading back what was inserted and comparing it with the journal (R-601, R-602).

What belongs here: comparison by primary key and hash, duplicates, completeness before and after. What does not:
anything that writes; the reading account is used.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.compensation.apply import read_row
from monitoring_pipelines.compensation.candidates import read_outputs, read_scope
from monitoring_pipelines.compensation.journal import image_hash
from monitoring_pipelines.compensation.model import PlanRequest
from monitoring_pipelines.compensation.session import open_session
from monitoring_pipelines.compensation.target import inspect_target
from monitoring_pipelines.source.engine import connect
from monitoring_pipelines.state import StateStore, audit
from monitoring_pipelines.state import repair as store
from monitoring_pipelines.state.ids import new_id

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings, SourceSettings

_STEP_S = 1.0


@dataclass
class Verifier:
    """What verification needs."""

    settings: Settings
    state: StateStore
    clock: Clock
    sleep: Callable[[float], None] = time.sleep

    def verify(self, run_id: str, actor: str, *, new_run_id: str | None = None) -> dict[str, Any]:
        """Verify the rows of an apply or resume run (all rows of its plan) on demand, as a run of its own.

        Returns:
            The stored row of ``repair_run``; ``verification.result`` is ``verified`` or ``verify_failed``.
        """
        now = self.clock.now()
        with self.state.begin() as con:
            about = store.get_run(con, run_id)
            run = {
                "run_id": new_run_id or new_id(now), "plan_id": about["plan_id"], "source_id": about["source_id"],
                "kind": "verify", "dry_run": False, "actor": actor, "started_at": now, "state": "running",
            }  # fmt: skip
            store.save_run(con, run)
            audit.record(con, now, actor, "repair.verify", run["run_id"], {"of": run_id})
        try:
            found = self.check(about["plan_id"])
        except BaseException:
            with self.state.begin() as con:
                store.update_run(con, run["run_id"], state="failed", ended_at=self.clock.now())
            raise
        with self.state.begin() as con:
            store.update_run(
                con, run["run_id"], state="finished", ended_at=self.clock.now(), verification=found,
                counters={"rows_checked": found["rows_checked"]},
            )  # fmt: skip
            # The newest verification is what the reports of the run it is about show.
            store.update_run(con, run_id, verification=found)
            return store.get_run(con, run["run_id"])

    def check(self, plan_id: str) -> dict[str, Any]:
        """Compare the table with the journal of a plan.

        Returns:
            ``result``, ``rows_checked``, the lists ``missing``, ``modified`` and ``duplicate``, and the completeness of
            the plan's window ``before`` and ``after`` (R-601).
        """
        with self.state.read() as con:
            plan, journal = store.get_plan(con, plan_id), store.journal_rows(con, plan_id=plan_id)
        source = self.settings.source(plan["source_id"])
        expected = _expected(journal)
        missing, modified = self._compare(source, expected)
        with connect(source.read_dsn(), self.settings) as connection:
            scope = read_scope(connection, self.settings, source, _request(plan), plan["created_at"])
            keys = sorted({row["task_key"] for row in expected})
            found = read_outputs(connection, self.settings, source, scope.target, keys)
        with self.state.read() as con:
            scope.ignore(store.placeholder_keys(con, source.id))
        surplus = Counter(output.natural_key for outputs in found.values() for output in outputs if output.live)
        ours = {row["natural_key"]: row for row in expected}
        duplicate = [_shown(ours[key]) | {"rows": n} for key, n in surplus.items() if n > 1 and key in ours]
        bad = bool(missing or modified or duplicate)
        return {
            "result": "verify_failed" if bad else "verified", "at": self.clock.now(), "rows_checked": len(expected),
            "missing": missing, "modified": modified, "duplicate": duplicate, "before": plan["before"],
            "after": scope.completeness.as_dict(),
        }  # fmt: skip

    def _compare(
        self, source: SourceSettings, expected: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows that are gone, and rows that are not what was inserted. A replica gets time to catch up."""
        waited = 0.0
        while True:
            missing, modified = self._read_back(source, expected)
            patience = self.settings.repair.max_replica_lag_s if source.read_replica else 0.0
            if not missing or waited >= patience:
                return missing, modified
            self.sleep(_STEP_S)
            waited += _STEP_S

    def _read_back(
        self, source: SourceSettings, expected: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        missing, modified = [], []
        session = open_session(source.read_dsn(), self.settings, read_only=True)
        try:
            target = inspect_target(session, self.settings, source)
            for row in expected:
                now = read_row(session, target, row["pk"])
                if now is None:
                    missing.append(_shown(row))
                elif image_hash(now) != row["after_sha256"]:
                    changed = sorted(name for name, value in now.items() if value != row["after"].get(name))
                    modified.append(_shown(row) | {"columns": changed})
        finally:
            session.close()
        return missing, modified


def _expected(journal: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Insert rows that no later journal row of ours removed again."""
    removed = {_place(row) for row in journal if row["op"] in ("self_revert", "delete") and row["state"] == "committed"}
    return [
        row for row in journal
        if row["op"] == "insert" and row["state"] == "committed" and _place(row) not in removed
    ]  # fmt: skip


def _place(row: dict[str, Any]) -> tuple[str, tuple[Any, ...], str]:
    return row["target_table"], tuple(sorted(row["pk"].items())), row["natural_key"]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {"task_key": row["task_key"], "pk": row["pk"], "natural_key": row["natural_key"]}


def _request(plan: dict[str, Any]) -> PlanRequest:
    """The plan's own window or ids, for counting the same tasks again."""
    ids = tuple(plan["task_ids"]) if plan["task_ids"] is not None else None
    return PlanRequest(plan["source_id"], _instant(plan["window_from"]), _instant(plan["window_to"]), ids)


def _instant(value: Any) -> datetime | None:
    return value if value is None or isinstance(value, datetime) else datetime.fromisoformat(str(value).rstrip("Z"))
