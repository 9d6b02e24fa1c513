"""Restricted expressions (E-504, E-403): parsing, rendering per dialect, and what never gets through."""

from __future__ import annotations

import re
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring_pipelines.config import expressions as e
from monitoring_pipelines.config.expr_parser import tokens
from monitoring_pipelines.config.expressions import ExprError, PayloadUse, column_expr, parse

# -- trees the language can express -----------------------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(["id", "status", "key", "at", "order", "Ended_At", "select", "a b", "x`y", 'q"z', "--", "列"]),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=64),
)
texts = st.one_of(
    st.sampled_from(["", "'", "\\", "\\'", "\\0", "'; drop table t; -- ", "50\\%", "a\nb", "%s", ":x", '"', "/* */"]),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30),
)
numbers = st.from_regex(r"\A(0|[1-9]\d{0,12})(\.\d{1,6})?(e[+-]?\d{1,2})?\Z")
literals = st.one_of(
    texts.map(e.Text), numbers.map(e.Number), st.sampled_from(["null", "true", "false"]).map(e.Constant)
)
leaves = st.one_of(names.map(e.Column), literals)
signed = st.one_of(literals, numbers.map(lambda n: e.Unary("-", e.Number(n))))


def _call(inner: st.SearchStrategy[e.Node]) -> st.SearchStrategy[e.Node]:
    def build(name: str) -> st.SearchStrategy[e.Node]:
        if name in ("json_extract", "json_value"):
            return inner.map(lambda x: e.Call(name, (x, e.Text("$.a[0].b"))))
        low, high = e.FUNCTIONS[name]
        return st.lists(inner, min_size=low, max_size=min(high, 3)).map(lambda a: e.Call(name, tuple(a)))

    return st.sampled_from(sorted(e.FUNCTIONS)).flatmap(build)


def _compound(inner: st.SearchStrategy[e.Node]) -> st.SearchStrategy[e.Node]:
    operators = ["+", "-", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=", "<=>", "like", "not like", "and", "or"]
    casts = st.sampled_from([("char", ()), ("char", (5,)), ("signed", ()), ("decimal", (10, 2)), ("datetime", (3,))])
    branches = st.lists(st.tuples(inner, inner), min_size=1, max_size=2).map(tuple)
    return st.one_of(
        st.builds(e.Binary, st.sampled_from(operators), inner, inner),
        st.builds(e.Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(e.IsNull, inner, st.booleans()),
        st.builds(e.In, inner, st.lists(signed, min_size=1, max_size=3).map(tuple), st.booleans()),
        _call(inner),
        st.builds(lambda x, c: e.Cast(x, *c), inner, casts),
        st.builds(e.Case, st.none() | inner, branches, st.none() | inner),
    )


trees = st.recursive(leaves, _compound, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_rendered_expression_parses_to_the_same_tree(tree: e.Node) -> None:
    """E-504: parse(render(tree)) == tree, whatever names and texts it holds."""
    expr = e.Expr(tree)
    for dialect in ("mysql", "mariadb"):
        assert parse(expr.render(dialect)).tree == tree


@settings(max_examples=300, deadline=None)
@given(trees)
def test_columns_are_exactly_those_quoted(tree: e.Node) -> None:
    """E-504: every identifier of the rendered text is a quoted column the tree names."""
    expr = e.Expr(tree)
    found = tokens(expr.render("mysql"))
    assert {t.value for t in found if t.kind == "quoted"} == expr.columns()


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused_with_a_position(text: str) -> None:
    """E-504: no input crashes the parser; what is accepted contains no statement separator outside literals."""
    try:
        expr = parse(text)
    except ExprError as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017
        return
    bare = re.sub(r"'(?:[^'\\]|''|\\.)*'|`(?:[^`]|``)*`", "", expr.render("mysql"), flags=re.DOTALL)
    assert not re.search(r"[;#@?\"]|--|/\*|\*/", bare)


INJECTIONS = [
    "1; drop table tasks",
    "(select password from users limit 1)",
    "id in (select id from users)",
    "exists (select 1)",
    "id union select 1",
    "id -- rest",
    "id /* x */",
    "id /*!50000 or 1=1 */",
    "id # rest",
    "@@version",
    "@x := 1",
    "sleep(10)",
    "load_file('/etc/passwd')",
    "benchmark(1000000, md5('a'))",
    "users.password",
    "information_schema.tables.table_name",
    "now()",
    "current_timestamp",
    "id into outfile '/tmp/x'",
    "'a' 'b'",
    '"a" or 1=1',
    "id = ?",
    "a || b",
    "x collate utf8mb4_bin",
    "binary x",
    "interval 1 day",
    "_utf8mb4'x'",
    "0x41",
    "x'41'",
    "{fn now()}",
    "id\\",
    "name over ()",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_everything_outside_the_language_is_refused(text: str) -> None:
    """E-504: subqueries, other tables, variables, comments, semicolons, unknown functions."""
    with pytest.raises(ExprError):
        parse(text)


@pytest.mark.parametrize("value", ["' or 1=1 -- ", "\\' or 1=1 -- ", "\\\\'; drop", "a'';b", "%s %(x)s :x ?"])
def test_a_literal_stays_a_literal(value: str) -> None:
    """E-504: literals are escaped again, in both dialects; SQLite returns exactly the value."""
    expr = e.Expr(e.Text(value))
    assert parse(expr.render("mysql")).tree == e.Text(value)
    with sqlite3.connect(":memory:") as con:
        assert con.execute(f"select {expr.render('sqlite')}").fetchone()[0] == value


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("left(error 500)", 11, "expected ','|expected '\\)'"),
        ("case when a = 1 then 2", 22, "expected 'end'"),
        ("a = = 1", 4, "expected a column"),
        ("a between 1 and 2", 2, "write x >= a and x <= b"),
        ("a = 'open", 4, "without closing quote"),
        ("nope(a)", 0, "unknown function"),
        ("nullif(a)", 0, "takes 2 arguments"),
        ("a in (b)", 6, "takes text and numbers"),
        ("json_value(a, '$.*')", 0, "without wildcards"),
        ("cast(a as json)", 10, "cannot cast"),
        ('a = "x"', 4, "single quotes"),
        ("a < b < c", 6, "parentheses"),
        ("", 0, "unexpected end"),
    ],
)
def test_errors_name_the_place(text: str, position: int, reason: str) -> None:
    """E-504: an error says what and at which character."""
    with pytest.raises(ExprError) as caught:
        parse(text)
    assert caught.value.position == position
    assert re.search(reason, str(caught.value))


def test_a_text_holds_no_nul_but_may_hold_a_backslash_and_a_zero() -> None:
    r"""E-504: ``\0`` is NUL to MySQL and refused; ``\\0`` is two characters."""
    for text in (r"a = '\0'", r"a = 'x\\\0'", "a = '\0'", "a = '\\\0'"):
        with pytest.raises(ExprError, match="NUL"):
            parse(text)
    assert parse(r"a = '\\0'").tree == e.Binary("=", e.Column("a"), e.Text("\\0"))


def test_nesting_and_length_are_bounded() -> None:
    """E-504: deep or long texts are refused, not a stack overflow."""
    for text in ("(" * 500 + "1" + ")" * 500, "not " * 500 + "1", "- " * 500 + "1", "a" * 5000):
        with pytest.raises(ExprError):
            parse(text)


@pytest.mark.parametrize(
    ("text", "mysql"),
    [
        ("is_deleted = 1", "`is_deleted` = 1"),
        ("NOT a = 1 AND b OR c", "((not (`a` = 1)) and `b`) or `c`"),
        ("a + b * -c % 2", "`a` + ((`b` * (-`c`)) % 2)"),
        ("output IS NOT NULL", "`output` is not null"),
        ("`odd name` != 'it''s'", "`odd name` <> 'it''s'"),
        ("state in ('a', -1, null)", "`state` in ('a', -1, null)"),
        ("if(a > 1.50, 'x', 'y')", "if(`a` > 1.50, 'x', 'y')"),
        ("cast(id as unsigned integer)", "cast(`id` as unsigned)"),
    ],
)
def test_precedence_and_canonical_text(text: str, mysql: str) -> None:
    """E-504: MySQL's precedence, made visible by parentheses."""
    assert parse(text).render("mysql") == mysql


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("concat('s', 7)", "s7"),
        ("concat('s', null)", None),
        ("left('abcdef', 2)", "ab"),
        ("right('abcdef', 2)", "ef"),
        ("right('abc', 0)", ""),
        ("substring('abcdef', 2, 3)", "bcd"),
        ("lower(substring_index('a.b.MP3', '.', -1))", "mp3"),
        ("substring_index('noext', '.', -1)", "noext"),
        ("substring_index('a.b', '.', 1)", "a"),
        ("char_length('列a')", 2),
        ("if(1 > 2, 'x', 'y')", "y"),
        ("nullif('', '')", None),
        ("5 / 2", 2.5),
        ("7 % 4", 3),
        ("null <=> null", 1),
        ("greatest(1, 3, 2)", 3),
        ("cast('12' as signed) + 1", 13),
        ("cast('abcdef' as char(3))", "abc"),
        ("json_value('{\"a\": {\"b\": 5}}', '$.a.b')", 5),
        ("json_unquote(json_extract('{\"a\": \"x\"}', '$.a'))", "x"),
        ("'50%' like '50\\%'", 1),
        ("'501' like '50\\%'", 0),
        ("case 2 when 1 then 'a' when 2 then 'b' end", "b"),
    ],
)
def test_sqlite_gives_what_mysql_gives(text: str, expected: object) -> None:
    """E-504: the demo's dialect computes the same values."""
    with sqlite3.connect(":memory:") as con:
        assert con.execute(f"select {parse(text).render('sqlite')}").fetchone()[0] == expected


def test_payload_uses_tell_how_each_column_is_read() -> None:
    """E-403: raw, left, null test and JSON path are told apart; a longer left is raw."""
    uses = parse("coalesce(left(a, 1000), json_value(b, '$.x'), c, if(d is null, '', left(e, 1001)))").payload_uses()
    assert uses == {
        PayloadUse("a", "left", 1000),
        PayloadUse("b", "json_path"),
        PayloadUse("c", "raw"),
        PayloadUse("d", "null_test"),
        PayloadUse("e", "raw"),
    }


@pytest.mark.parametrize(
    ("text", "bounded"),
    [
        ("json_value(a, '$.x')", True),
        ("concat('x', json_value(a, '$.x'))", True),
        ("left(json_value(a, '$.x'), 100)", False),
        ("case when json_value(a, '$.x') = 1 then b else 'c' end", False),
        ("json_value(a, '$.x') > 5", False),
        ("left(a, 500)", False),
    ],
)
def test_values_out_of_json_are_cut_to_255_characters(text: str, bounded: bool) -> None:
    """E-403: what leaves the server of a JSON document is at most 255 characters."""
    assert (parse(text).bounded() != parse(text)) is bounded


def test_a_plain_column_is_recognised() -> None:
    """A mapping can tell a bare column, which an index serves, from a computed value."""
    assert parse("`a`").column_name() == "a"
    assert parse("a + 0").column_name() is None
    assert column_expr("x y").render("sqlite") == '"x y"'
