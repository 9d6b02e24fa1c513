"""Ids that sort by time (ULID), from the product's clock."""

from __future__ import annotations

from datetime import UTC, datetime


def new_id(now: datetime) -> str:
    """A new ULID, 26 characters; ids of later instants sort after earlier ones.

    Args:
        now: Naive UTC instant of the clock (E-005).
    """
    from ulid import ULID

    return str(ULID.from_datetime(now.replace(tzinfo=UTC)))
