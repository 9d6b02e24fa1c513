"""Documents that are made from the program are up to date, and links between documents lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from monitoring_pipelines_tests.deploy.test_runbooks import parse

ROOT = Path(__file__).resolve().parents[2]


def _script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_data_dictionary_is_what_the_models_say():
    made = _script("build_dictionary").text()
    assert (ROOT / "docs" / "data-dictionary.md").read_text("utf-8") == made, "run `make dictionary`"


def test_api_reference_is_what_the_server_says_of_itself():
    made = _script("build_api_reference").text()
    assert (ROOT / "docs" / "api.md").read_text("utf-8") == made, "run `make api-reference`"


def test_links_between_documents_lead_to_files():
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = []
    for document in documents:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            if "://" not in link and not link.startswith("mailto:") and not (document.parent / link).exists():
                broken.append(f"{document.relative_to(ROOT)}: {link}")
    assert broken == []


def commands(name: str) -> list[str]:
    """Command lines of a document: inline ones that have options or arguments, and lines of shell blocks."""
    text = (ROOT / name).read_text("utf-8")
    shell = [
        line.split("  #")[0] for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    found = re.findall(r"`(mp [^`]+)`", text) + [part for line in shell for part in line.split("&&")]
    starts = [re.sub(r"^\s*(?:\w+='[^']*'\s+)?", "", line).strip() for line in found]
    return sorted({line for line in starts if line.startswith("mp ") and "…" not in line})


@pytest.mark.parametrize(
    "name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "docs/operations.md", "docs/decisions.md"]
)
def test_commands_of_the_documents_exist_with_their_options(name):
    for line in commands(name):
        words = shlex.split(line)[1:]
        if len(words) > 1:
            parse(line, words)
