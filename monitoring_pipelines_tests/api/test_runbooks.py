"""Runbooks as pages: every text is reachable, and nothing in a text can act."""

from __future__ import annotations

import re

import pytest

from monitoring_pipelines.alerts.links import runbook_address
from monitoring_pipelines.api.pages import runbooks
from monitoring_pipelines.config.schema import Settings


def test_index_and_every_runbook_are_served_and_link_only_to_what_exists(serve) -> None:
    client = serve()
    names = runbooks.names()
    assert "missing_outputs" in names
    for name in ("", *sorted(names)):
        answer = client.get(f"/runbooks/{name}".rstrip("/"))
        assert answer.status_code == 200
        assert set(re.findall(r'href="/runbooks/([^"#]+)', answer.text)) <= names
    assert client.get("/runbooks/no_such").status_code == 404
    assert client.get("/runbooks/..%2f..%2fREADME").status_code == 404


def test_a_runbook_is_shown_in_the_language_of_the_reader(serve) -> None:
    client = serve()
    chinese = client.get("/runbooks/orphans?lang=zh-CN").text
    english = client.get("/runbooks/orphans?lang=en").text
    assert 'class="panel prose" lang="zh-CN"' in chinese
    assert "不属于任何已知任务的输出" in chinese
    assert 'class="panel prose" lang="en"' in english
    assert "outputs of tasks nobody knows" in english
    assert "不属于任何已知任务的输出" in client.get("/runbooks?lang=zh-CN").text


def test_a_runbook_without_translation_is_shown_in_english(serve, tmp_path, monkeypatch) -> None:
    (tmp_path / "own.md").write_text("# own: a rule of this site\n\nDo this.\n")
    monkeypatch.setattr(runbooks, "folder", lambda: tmp_path)
    runbooks.names.cache_clear()
    try:
        answer = serve().get("/runbooks/own?lang=zh-CN")
    finally:
        runbooks.names.cache_clear()
    assert answer.status_code == 200
    assert 'class="panel prose" lang="en"' in answer.text
    assert "Do this." in answer.text


def test_default_links_of_messages_lead_to_the_page() -> None:
    settings = Settings()
    address = runbook_address(settings, "orphans")
    assert address == "http://127.0.0.1:8787/runbooks/orphans"
    assert runbooks.page_of(settings, address) == "/runbooks/orphans"
    assert runbooks.page_of(settings, "https://docs.example/x.md") == "https://docs.example/x.md"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[a](javascript:alert)", "![x](http://evil/x.png)", "<img src=x onerror=y>"]
)
def test_html_and_foreign_addresses_of_a_text_do_nothing(text: str) -> None:
    _, html = runbooks.rendered(f"# t\n\n{text}\n\n<div>\n{text}\n</div>\n")
    assert not re.search(r"<script|<div|<img[^>]+(src|on)|<a [^>]*href", html)


def test_code_tables_and_links_between_runbooks_are_rendered() -> None:
    title, html = runbooks.rendered(
        "# Title\n\n```sh\nls <x>\n```\n\n[o](orphans.md#fix) [i](README.md)\n\n|a|\n|-|\n|1|\n"
    )
    assert title == "Title"
    assert "ls &lt;x&gt;" in html
    assert 'href="/runbooks/orphans#fix"' in html
    assert 'href="/runbooks"' in html
    assert "<table>" in html
