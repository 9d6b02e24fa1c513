"""The digest of a source row: one 60-bit number over everything that is read of it (E-609).

What belongs here: the SQL that lets the source's server compute it, and the same for SQLite.
What does not: which columns are read (``select``), and comparing ranges (``reconcile``).

The server computes the digest when a row is extracted and the store keeps it. Both sides of a later comparison are
therefore made by the same server over the same expressions; a mapping that reads more columns changes every digest,
so rows read before are read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

#: Alias of the digest in every extraction SELECT, and its name on raw rows.
DIGEST_ALIAS = "__digest"
STORE_COLUMN = "src_digest"
#: Hexadecimal digits kept: 60 bits, positive in a signed BIGINT, exact in the server's DECIMAL sums and DuckDB's
#: HUGEINT ones.
_DIGITS = 15
#: SQLite adds up in 64 bits: 40 bits leave room for eight million rows in one range.
_SQLITE_DIGITS = 10
_SQLITE_FUNCTION = "mp_row_digest"


def digest_sql(expressions: Iterable[str], dialect: str) -> str:
    """SQL of the digest of one row.

    Args:
        expressions: The SQL of every column read, in their order (transport types: integers and text).
        dialect: ``mysql``, ``mariadb`` or ``sqlite``.

    Returns:
        An integer expression, never NULL.
    """
    parts = list(expressions)
    if dialect == "sqlite":
        return f"{_SQLITE_FUNCTION}({', '.join(parts)})"
    # SHA-2, because MySQL 9 may have no md5(). Unit and record separators as binary strings: no collation is involved,
    # and NULL differs from ''.
    fields = ", ".join(f"ifnull({part}, char(30))" for part in parts)
    return f"cast(conv(left(sha2(concat_ws(char(31), {fields}), 256), {_DIGITS}), 16, 10) as signed)"


def register_sqlite(connection: Any) -> None:
    """Give a ``sqlite3`` connection the digest function; SQLite has no hash of its own."""
    connection.create_function(_SQLITE_FUNCTION, -1, _python_digest, deterministic=True)


def _python_digest(*values: Any) -> int:
    # One call for all values: this runs once per row, and joining texts takes ten times as long.
    digest = hashlib.md5(repr(values).encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return int(digest[:_SQLITE_DIGITS], 16)
