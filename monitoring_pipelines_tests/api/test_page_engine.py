"""Templates of pages say what Jinja by itself would make of them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment, StrictUndefined
from jinja2.exceptions import UndefinedError
from markupsafe import Markup, escape

from monitoring_pipelines.api.pages.engine import PageEnvironment
from monitoring_pipelines.published.jobs import Job, _job

SOURCES = {
    "whole.html": "<ul>{% block all %}{% endblock %}</ul>",
    "parts.html": '{% macro cell(value, more="") %}<td{{ more }}>{{ value }}</td>{% endmacro %}',
    "page.html": """{% extends "whole.html" %}{% import "parts.html" as p %}
{% macro own(row) %}{{ p.cell(row.job_id) }}{{ said(row.last_status, loud=true) }}{% endmacro %}
{% block all %}
{% for row in rows %}{% set text = row.job_id ~ "<" %}{{ loop.index }}{{ text }}{{ own(row) }}{{ p.cell(row["job_id"], more=mark) }}{{ row.get("job_id") }}
{% endfor %}
{% call framed("b", *some, loud=true) %}{{ mark }}<{% endcall %}{{ said(*some, **named) }}{{ said(word="<", **named) }}{{ said("class", **{"class": 1}) if false }}
{% for name, value in odd.items() %}{{ name }}{{ value }}{{ odd.keys is callable }}{{ odd.get("keys") }}{% endfor %}{{ odd["items"] }}{{ odd.other }}
{{ at.year }}{{ price }}{{ none }}{{ [text, mark] }}{{ (rows | map(attribute="job_id") | list) }}
{% endblock %}""",
}


class Loud:
    """Safe by itself."""

    def __html__(self) -> str:
        return "<i>loud</i>"


def said(word: str, loud: bool = False) -> Any:
    return Loud() if loud else word


def framed(*words: str, caller: Any, loud: bool) -> Markup:
    return Markup("<p>{}{}{}</p>").format(loud, ",".join(words), caller())


def rendered(kind: type[Environment], template: str = "page.html", **more: Any) -> str:
    env = kind(loader=DictLoader(SOURCES), autoescape=True, undefined=StrictUndefined)
    jobs = [_job(("sched", "a<b"), {"name": 'Nightly "one"'}, {}), _job(("sched", "c&d"), {}, {"last_status": "ok"})]
    names: dict[str, Any] = {
        "rows": [*jobs, {"job_id": "'own'", "last_status": Markup("<b>"), "keys": 3}], "said": said, "mark": Markup(" class=n"),
        "odd": {"items": "<1>", "keys": 2, "other": "&"}, "at": datetime(2026, 2, 1), "price": Decimal("1.50"), "text": "<",
        "framed": framed, "some": ["<c>"], "named": {"loud": False},
    }  # fmt: skip
    return env.get_template(template).render(names | more)


def test_rows_calls_macros_and_what_is_put_out_are_as_jinja_has_them() -> None:
    whole = rendered(PageEnvironment)
    assert whole == rendered(Environment)
    assert "<td>a&lt;b</td><i>loud</i>" in whole


@given(
    st.one_of(
        st.text(), st.text("&<>'\"ab"), st.integers(), st.floats(), st.none(), st.text().map(Markup), st.builds(Loud)
    )
)
def test_any_value_is_escaped_as_by_the_library(value: Any) -> None:
    assert PageEnvironment.text(value) == escape(value)


def test_a_column_that_a_row_does_not_have_is_an_error_and_not_an_empty_text() -> None:
    for rows in ([{"job_id": "a"}], [Job(dict(_job(("s", "a"), {}, {})))]):
        SOURCES["missing.html"] = "{% for row in rows %}{{ row.no_such }}{% endfor %}"
        with pytest.raises(UndefinedError, match="no_such"):
            rendered(PageEnvironment, "missing.html", rows=rows)


def test_long_ids_may_break_after_their_joints_and_mean_nothing_in_html() -> None:
    from monitoring_pipelines.api.pages.base import _environment

    template = _environment().from_string("{{ text | breaks }}")
    assert template.render(text="sync_<b>/a") == "sync_<wbr>&lt;b&gt;/<wbr>a"
