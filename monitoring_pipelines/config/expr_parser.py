"""Text of a restricted expression → tree (E-504): tokens and recursive descent.

What belongs here: the grammar and its error messages. What does not: the tree (``expressions``), SQL (``expr_sql``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from monitoring_pipelines.config.expressions import (
    CAST_TYPES,
    FUNCTIONS,
    MAX_DEPTH,
    MAX_TEXT,
    Binary,
    Call,
    Case,
    Cast,
    Column,
    Constant,
    ExprError,
    In,
    IsNull,
    Node,
    Number,
    Text,
    Unary,
)

_GRAMMAR = "and or not is null in like case when then else end cast as true false"
_GRAMMAR_WORDS = set(_GRAMMAR.split())
_RESERVED = (
    "where union all any some interval binary collate into with values over distinct using escape match against having "
    "limit procedure insert update delete drop alter create grant set call execute load handler lock"
)
#: Words that start something the language does not have; as column names they need backticks.
_REFUSED_WORDS = {
    "select": "a subquery is not allowed",
    "exists": "a subquery is not allowed",
    "from": "another table cannot be read",
    "join": "another table cannot be read",
    "between": "write x >= a and x <= b",
    "regexp": "use like",
    "rlike": "use like",
    "div": "use floor(a / b)",
    "mod": "use a % b",
    "xor": "use and, or, not",
    "current_timestamp": "the clock of the server is not allowed",
    "current_date": "the clock of the server is not allowed",
} | dict.fromkeys(_RESERVED.split(), "a reserved word")

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<bad>--|/\*|\*/|;|\#|@|:=|\|\||&&|\?|\\)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d][\w$]*)
    |(?P<quoted>`(?:[^`]|``)*`)
    |(?P<text>'(?:[^'\\]|''|\\.)*')
    |(?P<op><=>|<>|!=|<=|>=|[-+*/%=<>(),.])""",
    re.VERBOSE | re.DOTALL,
)
_BAD = {
    "--": "a comment is not allowed",
    "/*": "a comment is not allowed",
    "*/": "a comment is not allowed",
    "#": "a comment is not allowed",
    ";": "a semicolon is not allowed",
    "@": "a variable is not allowed",
    ":=": "an assignment is not allowed",
    "||": "use or, or concat()",
    "&&": "use and",
    "?": "a parameter is not allowed",
    "\\": "unexpected backslash",
}
_ESCAPES = {"0": "\0", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "Z": "\x1a"}
_COMPARISONS = {"=", "<>", "!=", "<", "<=", ">", ">=", "<=>"}
_JSON_PATH = re.compile(r"""\$(?:\.[^\W\d]\w*|\."[^"\\*\x00-\x1f]+"|\[\d+\])+\Z""")


class _Token(NamedTuple):
    kind: str
    #: Keyword or function in lower case, name or text unescaped, operator as is.
    value: str
    position: int


def _unescape(body: str) -> str:
    r"""A MySQL text literal without its quotes; ``\%`` and ``\_`` stay two characters, as in MySQL."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "''":
            return "'"
        char = match[0][1]
        return match[0] if char in "%_" else _ESCAPES.get(char, char)

    return re.sub(r"''|\\.", one, body, flags=re.DOTALL)


def tokens(text: str) -> list[_Token]:
    """Tokens of ``text`` without spaces, ended by one of kind ``end``; ExprError at the first thing that is none."""
    result: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExprError(_unknown_character(text[position]), text, position)
        kind, raw = str(match.lastgroup), match[0]
        if kind == "bad":
            raise ExprError(_BAD[raw], text, position)
        if kind == "number" and match.end() < len(text) and (text[match.end()].isalnum() or text[match.end()] in "_$"):
            raise ExprError("not a number; a column name that starts with a digit needs backticks", text, position)
        if kind == "quoted":
            raw = raw[1:-1].replace("``", "`")
            if not 0 < len(raw) <= 64 or "\0" in raw:
                raise ExprError("a column name has 1 to 64 characters", text, position)
        elif kind == "text":
            raw = _unescape(raw[1:-1])
            if "\0" in raw:
                raise ExprError("a NUL character is not allowed", text, position)
        if kind != "space":
            result.append(_Token(kind, raw, position))
        position = match.end()
    result.append(_Token("end", "", len(text)))
    return result


def _unknown_character(char: str) -> str:
    if char == "'":
        return "text without closing quote"
    if char == "`":
        return "name without closing backtick"
    if char == '"':
        return "use single quotes for text and backticks for names"
    return "unexpected character"


def parse_tree(text: str) -> Node:
    """The tree of ``text``; ExprError with the position of the first character that cannot be understood."""
    if len(text) > MAX_TEXT:
        raise ExprError(f"an expression has at most {MAX_TEXT} characters", text, MAX_TEXT)
    parser = _Parser(text)
    tree = parser.expression()
    parser.expect_end()
    return tree


class _Parser:
    """Recursive descent with MySQL's precedence: or, and, not, comparison, + -, * / %, unary minus."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.index = 0
        self.depth = 0

    # tokens

    @property
    def token(self) -> _Token:
        return self.tokens[self.index]

    def fail(self, message: str, token: _Token | None = None) -> ExprError:
        return ExprError(message, self.text, (token or self.token).position)

    def word(self) -> str | None:
        """The current token as lower-case word if it is an unquoted one."""
        return self.token.value.lower() if self.token.kind == "name" else None

    def take_word(self, *words: str) -> str | None:
        word = self.word()
        if word in words:
            self.index += 1
            return word
        return None

    def take(self, *operators: str) -> str | None:
        if self.token.kind == "op" and self.token.value in operators:
            self.index += 1
            return self.tokens[self.index - 1].value
        return None

    def need(self, operator: str) -> None:
        if not self.take(operator):
            raise self.fail(f"expected {operator!r}")

    def need_word(self, word: str) -> None:
        if not self.take_word(word):
            raise self.fail(f"expected {word!r}")

    def expect_end(self) -> None:
        if self.token.kind == "end":
            return
        if self.token.value == "." and self.token.kind == "op":
            raise self.fail("only columns of the mapped table, without a table name")
        if self.token.kind == "op" and self.token.value in _COMPARISONS:
            raise self.fail("put parentheses around chained comparisons")
        word = self.word()
        if word in _REFUSED_WORDS:
            raise self.fail(_REFUSED_WORDS[word])
        raise self.fail("unexpected text after the expression")

    # grammar

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(f"nested more than {MAX_DEPTH} levels deep")
        node = self.conjunction()
        while self.take_word("or"):
            node = Binary("or", node, self.conjunction())
        self.depth -= 1
        return node

    def conjunction(self) -> Node:
        node = self.negation()
        while self.take_word("and"):
            node = Binary("and", node, self.negation())
        return node

    def negation(self) -> Node:
        count = 0
        while self.take_word("not"):
            count += 1
            if count > MAX_DEPTH:
                raise self.fail(f"nested more than {MAX_DEPTH} levels deep")
        node = self.comparison()
        for _ in range(count):
            node = Unary("not", node)
        return node

    def comparison(self) -> Node:
        node = self.sum()
        operator = self.take(*_COMPARISONS)
        if operator:
            return Binary("<>" if operator == "!=" else operator, node, self.sum())
        if self.take_word("is"):
            negated = bool(self.take_word("not"))
            self.need_word("null")
            return IsNull(node, negated)
        negated = bool(self.take_word("not"))
        if self.take_word("in"):
            return In(node, self.literal_list(), negated)
        if self.take_word("like"):
            return Binary("not like" if negated else "like", node, self.sum())
        if negated:
            raise self.fail(_REFUSED_WORDS.get(self.word() or "", "expected 'in' or 'like'"))
        return node

    def literal_list(self) -> tuple[Node, ...]:
        self.need("(")
        items = [self.literal()]
        while self.take(","):
            items.append(self.literal())
        self.need(")")
        return tuple(items)

    def literal(self) -> Node:
        negative = bool(self.take("-"))
        token = self.token
        if token.kind == "number":
            self.index += 1
            return Unary("-", Number(token.value)) if negative else Number(token.value)
        if token.kind == "text" and not negative:
            self.index += 1
            return Text(token.value)
        word = self.take_word("null", "true", "false") if not negative else None
        if word:
            return Constant(word)
        refused = _REFUSED_WORDS.get(self.word() or "")
        raise self.fail(refused or "in (…) takes text and numbers only")

    def sum(self) -> Node:
        node = self.product()
        while operator := self.take("+", "-"):
            node = Binary(operator, node, self.product())
        return node

    def product(self) -> Node:
        node = self.unary()
        while operator := self.take("*", "/", "%"):
            node = Binary(operator, node, self.unary())
        return node

    def unary(self) -> Node:
        signs = 0
        while sign := self.take("-", "+"):
            signs += sign == "-"
            if signs > MAX_DEPTH:
                raise self.fail(f"nested more than {MAX_DEPTH} levels deep")
        node = self.primary()
        for _ in range(signs):
            node = Unary("-", node)
        return node

    def primary(self) -> Node:
        token = self.token
        if token.kind == "end":
            raise self.fail("unexpected end")
        self.index += 1
        if token.kind == "number":
            return Number(token.value)
        if token.kind == "text":
            return Text(token.value)
        if token.kind == "quoted":
            return self.column(token)
        if token.kind == "op" and token.value == "(":
            if self.word() in ("select", "with", "values"):
                raise self.fail("a subquery is not allowed")
            node = self.expression()
            self.need(")")
            return node
        if token.kind == "name":
            return self.named(token)
        raise self.fail("expected a column, a value or a function", token)

    def named(self, token: _Token) -> Node:
        word = token.value.lower()
        if word in ("null", "true", "false"):
            return Constant(word)
        if word == "case":
            return self.case()
        called = self.token.kind == "op" and self.token.value == "("
        if word == "cast" and called:
            return self.cast()
        if called:
            if word in _REFUSED_WORDS:
                raise self.fail(_REFUSED_WORDS[word], token)
            return self.call(word, token)
        if word in _GRAMMAR_WORDS or word in _REFUSED_WORDS:
            reason = _REFUSED_WORDS.get(word, "a reserved word")
            raise self.fail(f"{reason}; a column of that name needs backticks", token)
        return self.column(token)

    def column(self, token: _Token) -> Node:
        if self.token.kind == "op" and self.token.value == ".":
            raise self.fail("only columns of the mapped table, without a table name")
        if token.kind == "name" and len(token.value) > 64:
            raise self.fail("a column name has 1 to 64 characters", token)
        return Column(token.value)

    def call(self, name: str, token: _Token) -> Node:
        if name not in FUNCTIONS:
            raise self.fail(f"unknown function {name}(); known: {', '.join(sorted(FUNCTIONS))}", token)
        self.need("(")
        arguments = []
        if not self.take(")"):
            arguments.append(self.expression())
            while self.take(","):
                arguments.append(self.expression())
            self.need(")")
        fewest, most = FUNCTIONS[name]
        if not fewest <= len(arguments) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise self.fail(f"{name}() takes {wanted} arguments, not {len(arguments)}", token)
        if name in ("json_extract", "json_value"):
            path = arguments[1]
            if not (isinstance(path, Text) and len(path.value) <= 255 and _JSON_PATH.match(path.value)):
                raise self.fail("a JSON path is a text like '$.a.b[0]' without wildcards (≤ 255 characters)", token)
        return Call(name, tuple(arguments))

    def cast(self) -> Node:
        self.need("(")
        operand = self.expression()
        self.need_word("as")
        token = self.token
        word = self.word()
        if word not in CAST_TYPES:
            raise self.fail(f"cannot cast to that; known: {', '.join(CAST_TYPES)}", token)
        self.index += 1
        if word in ("signed", "unsigned"):
            self.take_word("integer")
        sizes: list[int] = []
        if self.take("("):
            while True:
                if self.token.kind != "number" or not self.token.value.isdigit() or len(self.token.value) > 4:
                    raise self.fail("expected a whole number")
                sizes.append(int(self.token.value))
                self.index += 1
                if not self.take(","):
                    break
            self.need(")")
        if len(sizes) > CAST_TYPES[word]:
            raise self.fail(f"too many sizes for {word}", token)
        self.need(")")
        return Cast(operand, word, tuple(sizes))

    def case(self) -> Node:
        subject = None if self.word() == "when" else self.expression()
        branches: list[tuple[Node, Node]] = []
        while self.take_word("when"):
            condition = self.expression()
            self.need_word("then")
            branches.append((condition, self.expression()))
        if not branches:
            raise self.fail("expected 'when'")
        default = self.expression() if self.take_word("else") else None
        self.need_word("end")
        return Case(subject, tuple(branches), default)
