"""``If-None-Match`` (RFC 9110 §13.1.2).

What belongs here: reading the header. What does not: making tags (``answers``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.datastructures import Headers

_OPAQUE_TAG = re.compile(r'(?:W/)?("[^"]*")')


def has_tag(headers: Headers, tag: str) -> bool:
    """Whether ``If-None-Match`` names this tag, alone or in a list, or is ``*``; the comparison is weak."""
    given = ",".join(headers.getlist("if-none-match"))
    return bool(given) and (given.strip() == "*" or tag.removeprefix("W/") in _OPAQUE_TAG.findall(given))
