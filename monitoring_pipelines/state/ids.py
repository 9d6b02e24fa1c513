"""Ids that sort by time (ULID), from the product's clock."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_lock = threading.Lock()
_last: tuple[datetime, int] | None = None


def new_id(now: datetime) -> str:
    """A new ULID, 26 characters; ids of later instants sort after earlier ones.

    Ids of one instant and process sort in the order in which they were asked for, across threads too.

    Args:
        now: Naive UTC instant of the clock (E-005).
    """
    global _last
    with _lock:
        if _last is not None and _last[0] == now:
            value = _last[1] + 1
        else:
            from ulid import ULID

            value = int(ULID.from_datetime(now.replace(tzinfo=UTC)))
        _last = (now, value)
    return "".join([_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5)])
