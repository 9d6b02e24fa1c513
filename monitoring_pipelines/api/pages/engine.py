"""Jinja without the ways round that no template here takes: a quarter of what a page costs.

What belongs here: how templates call and look up. What does not: their filters, tests and names (``base``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment
from jinja2.runtime import Context

from monitoring_pipelines.published.jobs import Job

#: What rows of a list are, and the names that mean an attribute of theirs even if they have such a column.
_ROWS = {kind: frozenset(dir(kind)) for kind in (dict, Job)}


class _Context(Context):
    """Calls without asking what is called whether it wants the context: nothing here does."""

    def call(self, called: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What the call returns; ``called`` may be a macro."""
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        return called(*args, **kwargs)


class PageEnvironment(Environment):
    """Templates of pages; ``autoescape`` must be on."""

    context_class = _Context

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``obj.attribute``; of a row its column, without looking for an attribute first."""
        names = _ROWS.get(type(obj))
        if names is not None and attribute not in names:
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)
