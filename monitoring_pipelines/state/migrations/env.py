"""Alembic's entry: the connection comes from the program, never from a file.

A new revision: ``python -m monitoring_pipelines.state.migrate "what changes"``, then review the file and raise ``HEAD``.
"""

from typing import Any, Literal

from alembic import context

from monitoring_pipelines.state import types
from monitoring_pipelines.state.tables import metadata


def render_item(kind: str, item: Any, _autogenerate_context: Any) -> str | Literal[False]:
    """Write the product's own column types by name, so that a migration works on every dialect."""
    if kind == "type":
        for name in ("Id", "Key", "Word", "LongText"):
            if item is getattr(types, name):
                return f"types.{name}"
        if isinstance(item, types.Instant | types.Json):
            return f"types.{type(item).__name__}()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes tables by copying them
    transaction_per_migration=False,
    render_item=render_item,
    compare_type=False,
)
context.run_migrations()
