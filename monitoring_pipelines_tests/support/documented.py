"""Commands as the documents show them.

What belongs here: finding them in the text. What does not: running them, and what a reader puts in for names in capitals.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Documents whose commands are run; those of ``benchmarks`` measure for minutes, ``make bench`` runs them.
DOCUMENTS = (
    "docs/runbooks/README.md", "docs/operations.md", "CONTRIBUTING.md", "docs/decisions.md", "docs/api.md",
    "docs/data-dictionary.md", "README.md",
    *sorted(f"docs/runbooks/{path.name}" for path in (ROOT / "docs" / "runbooks").glob("*.md") if path.stem != "README"),
)  # fmt: skip
#: In code style, begin with a word, and are no commands.
_OTHER = {"no longer configured", "extract --full"}


def read(name: str) -> str:
    """Text of a document."""
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, kind: str = "sh") -> list[str]:
    """Fenced blocks of one kind, comments at the ends of lines removed."""
    found: list[str] = re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+# .*", "", block) for block in found]


def inline(text: str) -> list[str]:
    """Commands inside sentences: code of two words or more, the first of which could be the name of a program."""
    plain = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = (" ".join(span.split()) for _, span in re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", plain, re.DOTALL))
    return [span for span in spans if re.match(r"[a-z][\w.-]* \S", span) and span not in _OTHER]


def lines_of(name: str) -> list[str]:
    """Distinct commands of a document; what ``&&`` joins is several."""
    text = read(name)
    shown = [line.strip() for block in blocks(text) for line in block.splitlines() if line.strip()]
    return list(dict.fromkeys(part.strip() for line in [*shown, *inline(text)] for part in line.split(" && ")))
