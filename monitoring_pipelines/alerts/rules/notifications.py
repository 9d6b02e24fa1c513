"""Rules over delivery, the product's own and that of mapped sources (C-350).

What belongs here: conditions on attempts of the last five minutes. What does not: sending (``alerts.outbox``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select

from monitoring_pipelines.alerts.rules.queries import rows
from monitoring_pipelines.alerts.rules.scope import Scope, exact
from monitoring_pipelines.collect.own import SELF
from monitoring_pipelines.state.tables import notification, notification_attempt

if TYPE_CHECKING:
    import duckdb

WINDOW = timedelta(minutes=5)
RULES = ("notify.channel_down", "notify.failure_ratio")


@dataclass
class Notifications:
    """(ok, failed) attempts by (source, channel in upper case)."""

    attempts: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def recall(self, con: Connection, scope: Scope) -> None:
        """The product's own attempts; those of test messages change no alert (A-504)."""
        attempt = notification_attempt.c
        query = (
            select(attempt.channel, attempt.ok, func.count())
            .outerjoin(notification, notification.c.notification_id == attempt.notification_id)
            .where(attempt.at > scope.now - WINDOW, attempt.at <= scope.now)
            .where(func.coalesce(notification.c.kind, "") != "test")
            .group_by(attempt.channel, attempt.ok)
        )
        for channel, ok, count in con.execute(query):
            self._add(SELF, channel.upper(), count if ok else 0, 0 if ok else count)

    def look(self, con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        """Attempts that mapped tables tell of."""
        for row in rows(con, "notifications", since=scope.now - WINDOW, now=scope.now):
            self._add(row["source_id"], row["channel"], row["ok"], row["failed"])

    def judge(self, scope: Scope) -> None:
        """Every channel with an attempt; without one nothing is known, and an alert stays until one succeeds."""
        for (source_id, channel), (ok, failed) in sorted(self.attempts.items()):
            details = {"ok": ok, "failed": failed}
            down = failed > 0 and ok == 0
            # 10 · failed > 3 · (ok + 1) with the configured share instead of 3 / 10, exactly.
            often = failed > exact(scope.rules["notify.failure_ratio"].levels[0].threshold or 0) * (ok + 1)
            for rule_id, holds in zip(RULES, (down, often), strict=True):
                scope.say(
                    rule_id, source_id, {"channel": channel}, "true" if holds else "false", value=failed,
                    details=details if holds else None,
                )  # fmt: skip

    def _add(self, source_id: str, channel: str, ok: int, failed: int) -> None:
        before = self.attempts.get((source_id, channel), (0, 0))
        self.attempts[source_id, channel] = (before[0] + ok, before[1] + failed)
