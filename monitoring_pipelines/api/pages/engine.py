"""Jinja without the ways round that no template here takes: a third of what a page costs.

What belongs here: how templates call, look up and escape. What does not: their filters, tests and names (``base``).
"""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, nodes
from jinja2.compiler import CodeGenerator, Frame
from markupsafe import Markup, escape

from monitoring_pipelines.published.jobs import Job

#: What rows of a list are, and the names that mean an attribute of theirs even if they have such a column.
_ROWS = {kind: frozenset(dir(kind)) for kind in (dict, Job)}
_means_something = re.compile("[&<>\"']").search


class _Code(CodeGenerator):
    """What a template is compiled to."""

    def visit_Call(  # noqa: N802 - the name Jinja calls
        self, node: nodes.Call, frame: Frame, forward_caller: bool = False
    ) -> None:
        """A plain call: nothing called here wants the context."""
        if forward_caller or node.dyn_args:
            super().visit_Call(node, frame, forward_caller=forward_caller)
            return
        self.visit(node.node, frame)
        self.write("(")
        for argument in (*node.args, *node.kwargs):
            self.visit(argument, frame)
            self.write(", ")
        if node.dyn_kwargs:
            self.write("**")
            self.visit(node.dyn_kwargs, frame)
        self.write(")")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        """A value of the page as ``text`` has it."""
        self.write("environment.text(")


class PageEnvironment(Environment):
    """Templates of pages; ``autoescape`` must be on."""

    code_generator_class = _Code

    @staticmethod
    def text(value: Any) -> str:
        """A value as it stands in the page: escaped, without the object that says so where it is not asked again."""
        kind = type(value)
        if kind is str:
            return value if _means_something(value) is None else escape(value)
        return value if kind is Markup else escape(value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``obj.attribute``; of a row its column, without looking for an attribute first."""
        names = _ROWS.get(type(obj))
        if names is not None and attribute not in names:
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)
