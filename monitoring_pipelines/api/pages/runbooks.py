"""Runbooks: what to do about an alert, from the files that travel with the product (A-309).

What belongs here: finding and showing ``<id>.md`` in the reader's language. What does not: the texts (``docs/runbooks``
in English, each further language in a folder of its name).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as PathParam
from fastapi.responses import Response
from markupsafe import Markup

from monitoring_pipelines.alerts.links import dashboard_of
from monitoring_pipelines.api.answers import missing
from monitoring_pipelines.api.pages.base import View, render
from monitoring_pipelines.config.schema import Settings

STRINGS = {
    "runbooks.title": ("处置手册", "Runbooks"),
    "runbooks.all": ("全部手册", "All runbooks"),
    "runbooks.alerts": ("此类告警", "Alerts of this kind"),
}
router = APIRouter(include_in_schema=False, prefix="/runbooks")
_PACKAGE = Path(__file__).resolve().parents[2]
INDEX = "README"
#: Language of the texts that every runbook has.
FIRST_LANGUAGE = "en"
#: Addresses a runbook may lead to; anything else becomes plain text.
_KNOWN_LINK = re.compile(r"^(https?://|/(?!/)|#)")


def folder() -> Path:
    """Where the texts are: beside the installed package, or in the repository."""
    carried = _PACKAGE / "defaults" / "runbooks"
    return carried if carried.is_dir() else _PACKAGE.parent / "docs" / "runbooks"


@cache
def names() -> frozenset[str]:
    """Ids that have a runbook."""
    return frozenset(path.stem for path in folder().glob("*.md")) - {INDEX}


def page_of(settings: Settings, address: str | None) -> str | None:
    """Where this server shows a runbook; another address stays what it is."""
    if address is None:
        return None
    name = address.rsplit("/", 1)[-1].removesuffix(".md")
    ours = address.startswith((f"{dashboard_of(settings)}/runbooks/", "docs/runbooks/"))
    return f"/runbooks/{name}" if ours and name in names() else address


@router.get("")
def index(request: Request) -> Response:
    """All runbooks, by subject."""
    return _page(request, INDEX)


@router.get("/{runbook_id}")
def one(request: Request, runbook_id: Annotated[str, PathParam(pattern=r"^[A-Za-z0-9_.-]{1,120}$")]) -> Response:
    """One runbook; with the suffix ``.md`` it is the same one."""
    name = runbook_id.removesuffix(".md")
    if name not in names() and name != INDEX:
        raise missing("unknown runbook")
    return _page(request, name)


def _page(request: Request, name: str) -> Response:
    view = View(request)
    path, language = text_of(name, view.language)
    title, body = rendered(path.read_text(encoding="utf-8"))
    is_index = name == INDEX
    heading = view.t("runbooks.title") if is_index else title
    return render(
        request, "runbook.html", title=heading, view=view, refresh=None, body=body, language=language, is_index=is_index
    )


def text_of(name: str, language: str) -> tuple[Path, str]:
    """File of a runbook and its language: the reader's where there is one (S-801), else the first."""
    own = folder() / language / f"{name}.md"
    return (own, language) if own.is_file() else (folder() / f"{name}.md", FIRST_LANGUAGE)


@cache
def rendered(text: str) -> tuple[str, Markup]:
    """Title and HTML of a Markdown text; HTML inside it is shown, never obeyed."""
    from markdown import Markdown
    from markdown.extensions import Extension
    from markdown.treeprocessors import Treeprocessor

    class Safe(Treeprocessor):
        """Own files become pages, unknown schemes lose their address, wide tables can be scrolled by keyboard."""

        def run(self, root):  # type: ignore[no-untyped-def]
            for link in root.iter("a"):
                href = re.sub(r"^(?:\./)?([\w.-]+)\.md(#.*)?$", r"/runbooks/\1\2", link.get("href", ""))
                href = "/runbooks" if href == f"/runbooks/{INDEX}" else href
                if _KNOWN_LINK.match(href):
                    link.set("href", href)
                else:
                    link.attrib.pop("href", None)
            for image in list(root.iter("img")):
                image.attrib.pop("src", None)

    class SafeExtension(Extension):
        def extendMarkdown(self, md):  # type: ignore[no-untyped-def]  # noqa: N802
            md.preprocessors.deregister("html_block")
            md.inlinePatterns.deregister("html")
            md.treeprocessors.register(Safe(md), "safe", 0)

    first, _, rest = text.partition("\n")
    title, body = (first.removeprefix("# ").strip(), rest) if first.startswith("# ") else ("", text)
    html = Markdown(extensions=["fenced_code", "tables", SafeExtension()]).convert(body)
    html = html.replace("<pre>", '<pre tabindex="0">').replace("<table>", '<div class="scroll" tabindex="0"><table>')
    return title, Markup(html.replace("</table>", "</table></div>"))  # noqa: S704 - its HTML was escaped above
