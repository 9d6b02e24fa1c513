"""Restricted expressions of the mapping (E-504): text → tree → SQL of one dialect.

What belongs here: the tree and what can be told from it (columns, payload uses). The language is a subset of MySQL's;
user text never reaches a server, only the re-rendered tree does (``expr_sql``).
What does not: the parser (``expr_parser``), which column types may be read how (``config.live``), and how a SELECT is
put together (``source``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

Dialect = Literal["mysql", "mariadb", "sqlite"]

#: Longest accepted text and deepest nesting: a mapping expression is a line, not a program.
MAX_TEXT = 4000
MAX_DEPTH = 60
#: Longest piece of a long column that may leave the server (E-403).
MAX_LEFT = 1000
MAX_JSON_VALUE = 255


class ExprError(ValueError):
    """An expression that is not in the language of E-504.

    Args:
        message: What is wrong.
        text: The expression.
        position: 0-based offset of the place in ``text``.
    """

    def __init__(self, message: str, text: str, position: int) -> None:
        self.reason = message
        self.text = text
        self.position = position
        near = text[position : position + 12].split("\n")[0]
        place = f"at character {position + 1}" + (f" ({near!r})" if near else " (end of text)")
        super().__init__(f"{message} {place}")


# -- tree -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A node of the tree. Nodes are compared by value."""

    def children(self) -> Iterator[Node]:
        """Direct sub-expressions, left to right."""
        for item in fields(self):
            value = getattr(self, item.name)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Node):
                    yield part
                elif isinstance(part, tuple):
                    yield from (p for p in part if isinstance(p, Node))


@dataclass(frozen=True)
class Column(Node):
    """A column of the mapped table."""

    name: str


@dataclass(frozen=True)
class Text(Node):
    """A text literal, unescaped."""

    value: str


@dataclass(frozen=True)
class Number(Node):
    """A number literal as written (sign apart), so that no digit is lost."""

    value: str


@dataclass(frozen=True)
class Constant(Node):
    """``null``, ``true`` or ``false``."""

    word: str


@dataclass(frozen=True)
class Unary(Node):
    """``-x`` or ``not x``."""

    operator: str
    operand: Node


@dataclass(frozen=True)
class Binary(Node):
    """Arithmetic, comparison, ``and``, ``or``, ``like``, ``not like``."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class IsNull(Node):
    """``x is [not] null``."""

    operand: Node
    negated: bool


@dataclass(frozen=True)
class In(Node):
    """``x [not] in (literal, …)``."""

    operand: Node
    items: tuple[Node, ...]
    negated: bool


@dataclass(frozen=True)
class Call(Node):
    """One of the functions of E-504."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Cast(Node):
    """``cast(x as type)``; ``sizes`` are the numbers in parentheses."""

    operand: Node
    type: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Case(Node):
    """``case [subject] when … then … [else …] end``."""

    subject: Node | None
    branches: tuple[tuple[Node, Node], ...]
    default: Node | None


class PayloadUse(NamedTuple):
    """How an expression touches a column: ``raw``, ``left``, ``null_test`` or ``json_path`` (E-403)."""

    column: str
    how: Literal["raw", "left", "null_test", "json_path"]
    #: Characters that may leave the server for ``left``, else None.
    length: int | None = None


@dataclass(frozen=True)
class Expr:
    """A parsed expression. Two are equal when their trees are."""

    tree: Node
    #: What the user wrote, for messages only.
    text: str = field(default="", compare=False)

    def columns(self) -> set[str]:
        """Names of the table's columns that the expression reads, as written."""
        return {node.name for node in walk(self.tree) if isinstance(node, Column)}

    def column_name(self) -> str | None:
        """The column's name if the expression is nothing but a column."""
        return self.tree.name if isinstance(self.tree, Column) else None

    def render(self, dialect: Dialect) -> str:
        """SQL of ``dialect`` with quoted names and escaped literals; ExprError if the dialect cannot express it.

        The text holds ``%`` and ``:`` where literals do: execute it without driver-side parameter formatting.
        """
        from monitoring_pipelines.config.expr_sql import render

        return render(self.tree, dialect, self.text)

    def payload_uses(self) -> set[PayloadUse]:
        """Every (column, how) pair, so that validation can refuse reading payload columns (E-403)."""
        return set(_uses(self.tree))

    def bounded(self) -> Expr:
        """The same expression, cut to 255 characters when its value may come out of a JSON document (E-403)."""
        tree = self.tree
        if not any(_is_json_call(node) for node in _results(tree)):
            return self
        return Expr(Call("left", (tree, Number(str(MAX_JSON_VALUE)))), self.text)

    def __str__(self) -> str:
        """The canonical text; parsing it gives the same tree."""
        return self.render("mysql")


def column_expr(name: str) -> Expr:
    """The expression that is just the column ``name``."""
    return Expr(Column(name), name)


def walk(node: Node) -> Iterator[Node]:
    """All nodes, parents first."""
    yield node
    for child in node.children():
        yield from walk(child)


def _is_json_call(node: Node) -> bool:
    return isinstance(node, Call) and node.name in _JSON_FUNCTIONS


def _results(node: Node) -> Iterator[Node]:
    """Nodes whose text can become (part of) the value of ``node``; tests and counts cannot."""
    if isinstance(node, Case):
        for _, value in node.branches:
            yield from _results(value)
        if node.default is not None:
            yield from _results(node.default)
    elif isinstance(node, Cast):
        yield from _results(node.operand)
    elif isinstance(node, Call):
        yield node
        if node.name in ("char_length", "abs", "floor", "round"):
            return
        if node.name in ("left", "right"):
            length = _whole(node.arguments[1])
            if length is None or length > MAX_JSON_VALUE:
                yield from _results(node.arguments[0])
            return
        for argument in node.arguments[1:] if node.name == "if" else node.arguments:
            yield from _results(argument)


def _whole(node: Node) -> int | None:
    """The value of a whole-number literal."""
    return int(node.value) if isinstance(node, Number) and node.value.isdigit() else None


def _uses(node: Node) -> Iterator[PayloadUse]:
    if isinstance(node, Column):
        yield PayloadUse(node.name, "raw")
        return
    if isinstance(node, IsNull) and isinstance(node.operand, Column):
        yield PayloadUse(node.operand.name, "null_test")
        return
    if isinstance(node, Call) and node.arguments and isinstance(node.arguments[0], Column):
        first, rest = node.arguments[0], node.arguments[1:]
        if node.name == "left" and (length := _whole(rest[0])) is not None and length <= MAX_LEFT:
            yield PayloadUse(first.name, "left", length)
            return
        if node.name in ("json_extract", "json_value"):
            yield PayloadUse(first.name, "json_path")
            return
    for child in node.children():
        yield from _uses(child)


# -- language ---------------------------------------------------------------------------------------------------------

_JSON_FUNCTIONS = {"json_extract", "json_unquote", "json_value"}
#: Function → (fewest, most) arguments.
FUNCTIONS: dict[str, tuple[int, int]] = {
    "coalesce": (1, 20),
    "nullif": (2, 2),
    "if": (3, 3),
    "concat": (1, 20),
    "lower": (1, 1),
    "upper": (1, 1),
    "trim": (1, 1),
    "left": (2, 2),
    "right": (2, 2),
    "substring": (2, 3),
    "substring_index": (3, 3),
    "replace": (3, 3),
    "char_length": (1, 1),
    "json_extract": (2, 2),
    "json_unquote": (1, 1),
    "json_value": (2, 2),
    "greatest": (2, 20),
    "least": (2, 20),
    "abs": (1, 1),
    "floor": (1, 1),
    "round": (1, 2),
}
#: Cast type → most numbers in parentheses.
CAST_TYPES = {"char": 1, "signed": 0, "unsigned": 0, "decimal": 2, "date": 0, "datetime": 1, "double": 0}


def parse(text: str) -> Expr:
    """Parse ``text`` (E-504).

    Returns:
        The expression; its tree is independent of spelling, spaces and superfluous parentheses.

    Raises:
        ExprError: With the position of the first character that cannot be understood.
    """
    from monitoring_pipelines.config.expr_parser import parse_tree

    return Expr(parse_tree(text), text)
