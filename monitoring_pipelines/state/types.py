"""Column types that mean the same on SQLite, PostgreSQL and MySQL.

What belongs here: instants, JSON, keys. What does not: tables (``tables``).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Dialect, String, Text, TypeDecorator
from sqlalchemy.dialects import mysql
from sqlalchemy.types import DateTime

#: Ids made by the product.
Id = String(26)
#: Names inside keys and indexes. 191 characters of four bytes fit into every index of MySQL; compared as bytes (E-401).
Key = String(191).with_variant(mysql.VARCHAR(191, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
#: One word of a fixed list.
Word = String(32)
#: Text without a limit of its own; MySQL's TEXT would cut at 64 KB.
LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


class Instant(TypeDecorator[datetime]):
    """A naive UTC instant with microseconds (E-002); an aware one is refused, its zone would be lost silently."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """MySQL needs to be told that fractions count."""
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=False))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse instants with a zone."""
        if value is not None and value.tzinfo is not None:
            raise ValueError(f"an instant with a zone cannot be stored: {value.isoformat()}")
        return value


class Json(TypeDecorator[Any]):
    """Canonical JSON text: sorted keys, no spaces, UTF-8; NULL stays NULL. Instants become ISO text with Z."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write canonical JSON."""
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read JSON."""
        return None if value is None else json.loads(value)


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces, no escapes beyond what JSON demands (A-001).

    Raises:
        TypeError: Something that has no JSON form; ValueError: NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain, allow_nan=False)


def _plain(value: Any) -> Any:
    from datetime import date
    from decimal import Decimal

    if isinstance(value, datetime):
        return value.isoformat() + "Z" if value.tzinfo is None else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")
