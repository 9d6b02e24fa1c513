"""A placeholder row per task: never a real output, never by default (R §5).

What belongs here: the one placeholder. What does not: its approval (``approve``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.compensation.model import Recovered, RepairRefused, Task
from monitoring_pipelines.compensation.recoverers.base import Answer, Context, Outputs
from monitoring_pipelines.errors import ConfigError

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema_services import RecovererSettings


class StaticPlaceholder:
    """One configured link for every task; ``{task_key}`` in it is replaced."""

    needs_remote_id = False

    def __init__(self, item: RecovererSettings, ctx: Context) -> None:
        if not ctx.settings.repair.allow_placeholder:
            raise RepairRefused(
                "placeholder_not_allowed", f"recoverer {item.id} writes placeholders, which are not outputs",
                "set repair.allow_placeholder: true if that is what you want",
            )  # fmt: skip
        if not item.placeholder.get("uri"):
            raise ConfigError(None, None, f"repair.recoverers.{item.id}.placeholder", "a static recoverer needs a uri")
        self._values = item.placeholder

    def recover(self, task: Task, ctx: Context) -> Answer:
        """The placeholder."""
        from urllib.parse import quote

        uri = str(self._values["uri"]).replace("{task_key}", quote(task.task_key, safe=""))
        kind = self._values.get("media_type")
        node = self._values.get("node_key")
        row = Recovered(uri, kind and str(kind), node and str(node), None, {"placeholder": True})
        return Outputs((row,))
