"""Outputs inside JSON documents: paths and fields.

What belongs here: walking a path and reading entries. What does not: where documents come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from monitoring_pipelines.compensation.model import Recovered

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
#: Fields of an entry by what they mean, unless configured otherwise.
DEFAULT_FIELDS = {"uri": "uri", "type": "type", "node": "node", "size": "size"}


def walk(document: Any, path: str | None) -> Any:
    """The value at ``path`` (``data.files``, ``$.results[0].files``); None when a step is missing."""
    for name, index in _STEP.findall((path or "").removeprefix("$")):
        if name:
            document = document.get(name) if isinstance(document, Mapping) else None
        else:
            inside = isinstance(document, list) and int(index) < len(document)
            document = document[int(index)] if inside else None
        if document is None:
            return None
    return document


def entry_output(entry: Any, fields: Mapping[str, str], evidence: Mapping[str, Any]) -> Recovered | None:
    """An entry of a list of outputs: a mapping with the configured fields, or just a link. None without a link."""
    if isinstance(entry, str):
        return Recovered(entry, evidence=evidence) if entry else None
    names = {**DEFAULT_FIELDS, **fields}
    uri = walk(entry, names["uri"])
    if not isinstance(uri, str) or not uri:
        return None
    return Recovered(
        uri, _text(walk(entry, names["type"])), _text(walk(entry, names["node"])), whole(walk(entry, names["size"])),
        evidence,
    )  # fmt: skip


def whole(value: Any) -> int | None:
    """A size as a whole number; None when it is not one, because unknown is not zero."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(str(value).strip())
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, (dict, list)) else str(value)
