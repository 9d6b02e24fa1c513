"""Did-you-mean for configuration keys and names.

What belongs here: one function. What does not: the wording of errors (``loader``).
"""

from __future__ import annotations

from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like ``word``, None if nothing is near."""
    import difflib

    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean x?"`` or an empty text."""
    name = closest(word, known)
    return f"; did you mean {name}?" if name else ""
