"""SQL text of an expression tree, per dialect (E-504).

What belongs here: quoting, escaping and the spelling of each construct in MySQL, MariaDB and SQLite.
What does not: parsing (``expressions``). SQLite serves the demo and trying out, not production.
"""

from __future__ import annotations

from monitoring_pipelines.config import expressions as e
from monitoring_pipelines.config.expressions import Dialect, ExprError, Node

_MYSQL_ESCAPES = str.maketrans(
    {"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\x1a": "\\Z"}
)

#: Functions that SQLite has under another name.
_SQLITE_NAMES = {
    "if": "iif", "substring": "substr", "char_length": "length", "json_value": "json_extract",
    "greatest": "max", "least": "min",
}  # fmt: skip
#: Functions that SQLite spells otherwise.
_SQLITE_FORMS = {
    "left": "substr({0}, 1, {1})",
    "right": "iif({1} > 0, substr({0}, -({1})), '')",
    "json_extract": "({0} -> {1})",
    "json_unquote": "iif(json_valid({0}), json_extract({0}, '$'), {0})",
}


def quote_name(name: str, dialect: Dialect) -> str:
    """``name`` as a quoted identifier of ``dialect``."""
    if dialect == "sqlite":
        return '"' + name.replace('"', '""') + '"'
    return "`" + name.replace("`", "``") + "`"


def quote_text(value: str, dialect: Dialect) -> str:
    """``value`` as a text literal of ``dialect``; safe in MySQL whatever its backslash mode."""
    if dialect == "sqlite":
        return "'" + value.replace("'", "''") + "'"
    return "'" + value.translate(_MYSQL_ESCAPES) + "'"


def render(node: Node, dialect: Dialect, text: str = "") -> str:
    """Render ``node``; ``text`` is the user's expression for error messages.

    Raises:
        ExprError: When SQLite has no equivalent.
    """
    return _Renderer(dialect, text).sql(node)


class _Renderer:
    """Renders bottom-up; every compound operand gets parentheses, so precedence never matters."""

    def __init__(self, dialect: Dialect, text: str) -> None:
        self.dialect = dialect
        self.sqlite = dialect == "sqlite"
        self.text = text

    def sql(self, node: Node) -> str:
        match node:
            case e.Column(name):
                return quote_name(name, self.dialect)
            case e.Text(value):
                return quote_text(value, self.dialect)
            case e.Number(value):
                return value
            case e.Constant(word):
                return word
            case e.Unary(operator, operand):
                return f"-{self.operand(operand)}" if operator == "-" else f"not {self.operand(operand)}"
            case e.Binary():
                return self.binary(node)
            case e.IsNull(operand, negated):
                return f"{self.operand(operand)} is {'not ' if negated else ''}null"
            case e.In(operand, items, negated):
                listed = ", ".join(self.sql(item) for item in items)
                return f"{self.operand(operand)} {'not ' if negated else ''}in ({listed})"
            case e.Call(name, arguments):
                return self.call(name, arguments)
            case e.Cast():
                return self.cast(node)
            case e.Case():
                return self.case(node)
        raise AssertionError(f"unknown node {node!r}")  # a new node class without a rendering is a bug

    def operand(self, node: Node) -> str:
        text = self.sql(node)
        simple = isinstance(node, (e.Column, e.Text, e.Number, e.Constant, e.Call, e.Cast, e.Case))
        return text if simple else f"({text})"

    def binary(self, node: e.Binary) -> str:
        left, right = self.operand(node.left), self.operand(node.right)
        operator = node.operator
        if self.sqlite:
            if operator == "<=>":
                operator = "is"
            elif operator == "/":  # MySQL's / is never an integer division
                left = f"(1.0 * {left})"
            elif operator in ("like", "not like"):
                return f"{left} {operator} {right} escape '\\'"
        return f"{left} {operator} {right}"

    def case(self, node: e.Case) -> str:
        parts = ["case"]
        if node.subject is not None:
            parts.append(self.operand(node.subject))
        parts += [f"when {self.sql(condition)} then {self.sql(value)}" for condition, value in node.branches]
        if node.default is not None:
            parts.append(f"else {self.sql(node.default)}")
        return " ".join([*parts, "end"])

    def cast(self, node: e.Cast) -> str:
        value = self.sql(node.operand)
        if not self.sqlite:
            sizes = f"({', '.join(map(str, node.sizes))})" if node.sizes else ""
            return f"cast({value} as {node.type}{sizes})"
        if node.type == "char":
            text = f"cast({value} as text)"
            return f"substr({text}, 1, {node.sizes[0]})" if node.sizes else text
        if node.type == "decimal":
            scale = node.sizes[1] if len(node.sizes) > 1 else 0
            return f"round(cast({value} as real), {scale})"
        if node.type in ("date", "datetime"):
            return f"{node.type}({value})"
        return f"cast({value} as {'real' if node.type == 'double' else 'integer'})"

    def call(self, name: str, arguments: tuple[Node, ...]) -> str:
        if not self.sqlite:
            return f"{name}({', '.join(self.sql(a) for a in arguments)})"
        return self.sqlite_call(name, arguments)

    def sqlite_call(self, name: str, arguments: tuple[Node, ...]) -> str:
        args = [self.sql(a) for a in arguments]
        if name == "concat":
            return "(" + " || ".join(f"cast({a} as text)" for a in args) + ")"
        if name == "substring_index":
            return self.sqlite_substring_index(args[0], arguments)
        if name == "coalesce" and len(args) == 1:
            return args[0]
        if name in _SQLITE_FORMS:
            return _SQLITE_FORMS[name].format(*args)
        return f"{_SQLITE_NAMES.get(name, name)}({', '.join(args)})"

    def sqlite_substring_index(self, value: str, arguments: tuple[Node, ...]) -> str:
        """SQLite has no such function; the two common forms (before the first, after the last) are expressible."""
        delimiter, count = arguments[1], arguments[2]
        if isinstance(delimiter, e.Text) and len(delimiter.value) == 1:
            mark = quote_text(delimiter.value, self.dialect)
            if count == e.Number("1"):
                return f"iif(instr({value}, {mark}) = 0, {value}, substr({value}, 1, instr({value}, {mark}) - 1))"
            if count == e.Unary("-", e.Number("1")):
                return f"substr({value}, length(rtrim({value}, replace({value}, {mark}, ''))) + 1)"
        raise ExprError("SQLite can only do substring_index(x, <one character>, 1 or -1)", self.text, 0)
