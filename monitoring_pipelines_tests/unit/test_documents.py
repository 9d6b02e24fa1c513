"""Documents that are made from the program are up to date, and links between documents lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

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
