"""Jinja without the ways round that no template here takes: pages in half the time.

What belongs here: how templates call, look up and put out. What does not: their filters, tests and names (``base``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import markupsafe
from jinja2 import Environment, Template
from jinja2.runtime import Context
from markupsafe import Markup

from monitoring_pipelines.published.jobs import Job

#: What rows of a list are, and the names that mean an attribute of theirs even if they have such a column.
_ROWS = {kind: frozenset(dir(kind)) for kind in (dict, Job)}
_escape_text: Callable[[str], str] = getattr(markupsafe, "_escape_inner", markupsafe.escape)


def escaped(value: Any) -> str:
    """As ``markupsafe.escape``, but not marked as safe: what a template puts out is only joined."""
    if type(value) is str:
        return _escape_text(value)
    if type(value) is Markup:
        return value
    return str(value.__html__()) if hasattr(value, "__html__") else _escape_text(str(value))


class _Context(Context):
    """Calls without asking what is called whether it wants the context: nothing here does."""

    def call(self, called: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What the call returns; ``called`` may be a macro."""
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        return called(*args, **kwargs)


class _Template(Template):
    """Puts text out through ``escaped``."""

    @classmethod
    def from_code(cls, *args: Any, **kwargs: Any) -> Template:
        """The template of compiled code, which has ``escape`` among its names."""
        template = super().from_code(*args, **kwargs)
        template.root_render_func.__globals__["escape"] = escaped
        return template


class PageEnvironment(Environment):
    """Templates of pages; ``autoescape`` must be on."""

    context_class = _Context
    template_class = _Template

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``obj.attribute``; of a row its column, without looking for an attribute first."""
        names = _ROWS.get(type(obj))
        if names is not None and attribute not in names:
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)
