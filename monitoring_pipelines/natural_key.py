"""What makes two outputs the same output (R-201, R-202).

What belongs here: the canonical form of a link and the natural key of an output, for stored and proposed rows alike.
What does not: validity of outputs (``source.convert``) and proposing rows (``compensation``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def canonical_uri(uri: str, keep_query: Mapping[str, Sequence[str]] | None = None) -> str:
    """The form in which two links to one file are equal (R-202).

    Args:
        uri: A link or another identifier; anything that is not http(s) is returned as it is.
        keep_query: Host → names of parameters that are part of the identity; all others are dropped.
    """
    if not uri[:8].lower().startswith(("http://", "https://")):
        return uri
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return uri  # no valid link: nothing can be said about it but its text
    scheme = parts.scheme.lower()
    shown = f"[{host}]" if ":" in host else host
    place = shown if port in (None, _DEFAULT_PORTS[scheme]) else f"{shown}:{port}"
    path = _ESCAPE.sub(_normal_escape, parts.path)
    names = (keep_query or {}).get(host, ())
    kept = sorted(pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] in names)
    return f"{scheme}://{place}{path}" + (f"?{urlencode(kept)}" if kept else "")


def natural_key(task_key: str, node_key: str | None, canonical: str | None) -> str:
    """The identity of an output: SHA-256 in hex over task, node and canonical link (R-201)."""
    return hashlib.sha256("\x1f".join((task_key, node_key or "", canonical or "")).encode()).hexdigest()


def _normal_escape(match: re.Match[str]) -> str:
    character = chr(int(match.group(1), 16))
    return character if character in _UNRESERVED else f"%{match.group(1).upper()}"
