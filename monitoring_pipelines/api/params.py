"""Query parameters: pages, times, sources, word lists. A value that cannot be used is a 400, never replaced (S-102).

What belongs here: reading parameters strictly. What does not: bodies (each route has its model).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BeforeValidator

from monitoring_pipelines.api.answers import bad
from monitoring_pipelines.api.services import Services, services_of
from monitoring_pipelines.config.suggest import did_you_mean

Row = TypeVar("Row", bound=Mapping[str, Any])

_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
#: RFC 3339, or a date; seconds and offset may be left out, a space may stand for T, as it may for + in an address.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+ -]\d\d:\d\d)?)?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
MAX_PAGE_SIZE = 500


def _strict_integer(value: Any) -> Any:
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            raise ValueError("an integer is needed")
        return int(value)
    return value


def _strict_flag(value: Any) -> Any:
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError("true or false is needed")
        return value == "true"
    return value


def _strict_day(value: Any) -> Any:
    # Without this a number would be a day: that many seconds after 1970.
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("a date like 2026-02-01 is needed")
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _once_each(value: list[str]) -> list[str]:
    name, times = Counter(value).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{name[:40]!r} is given more than once")
    return value


#: For lists of texts of a body that hold at least one; its field says ``uniqueItems`` too.
NO_TWICE = AfterValidator(_once_each)
#: For integers of a body, behind their bounds: JSON and its schemas make no difference between 24 and 24.0.
WHOLE = BeforeValidator(_whole)
Integer = Annotated[int, BeforeValidator(_strict_integer)]
Flag = Annotated[bool, BeforeValidator(_strict_flag)]
#: Whether to answer 202 at once instead of waiting (S-102).
AsyncParam = Annotated[Flag, Query(alias="async", description="Answer 202 with the id of the run or plan at once")]
Day = Annotated[date, BeforeValidator(_strict_day)]
Instant = Annotated[
    str | None, Query(json_schema_extra=_INSTANT, description="RFC 3339 time or date; without offset it is UTC")
]
FromParam = Annotated[Instant, Query(alias="from")]
ToParam = Annotated[Instant, Query(alias="to")]
#: Of a ``source`` of a body that may be the product itself.
OR_SELF = "One source, or _self for the product itself; needed where several have the key"
SourceParam = Annotated[str | None, Query(max_length=32, description="Only this source; default: all")]


@dataclass(frozen=True)
class Page:
    """One page of a list (S-103)."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """Rows before the page."""
        return (self.number - 1) * self.size

    def wrap(self, items: Sequence[Any], total: int, **more: Any) -> dict[str, Any]:
        """The answer's data."""
        pages = -(-total // self.size)
        return {
            "items": list(items),
            "total": total,
            "page": self.number,
            "page_size": self.size,
            "pages": pages,
        } | more

    def cut(self, rows: Sequence[Any]) -> dict[str, Any]:
        """The page of a list that is there as a whole."""
        return self.wrap(rows[self.offset : self.offset + self.size], len(rows))


def bounded(low: int, high: int | None) -> Any:
    """A query parameter from ``low`` to ``high``; the document says so too, which a strict reader alone would lose."""
    said: dict[str, Any] = {"minimum": low} if high is None else {"minimum": low, "maximum": high}
    return Query(ge=low, le=high, json_schema_extra=said)


def list_of(known: Sequence[str]) -> Any:
    """A query parameter that is a comma list of known words."""
    word = f"({'|'.join(known)})"
    return Query(max_length=500, pattern=f"^{word}(,{word})*$", description="Comma list")


def sort_by(columns: Iterable[str]) -> Any:
    """A query parameter that names the column a list is ordered by, with ``-`` before it for descending (S-804)."""
    known = "|".join(columns)
    return Query(max_length=60, pattern=f"^-?({known})$", description="Column to order by; with - before it descending")


def ordered(rows: Sequence[Row], sort: str | None, columns: Mapping[str, Callable[[Row], Any]]) -> list[Row]:
    """The rows by the column that ``sort`` names; NULL last in both directions, equal ones stay as they are (S-103)."""
    if sort is None:
        return list(rows)
    value = columns[sort.removeprefix("-")]
    known = [row for row in rows if value(row) is not None]
    unknown = [row for row in rows if value(row) is None]
    return sorted(known, key=value, reverse=sort.startswith("-")) + unknown


def _page(
    request: Request,
    page: Annotated[Integer, bounded(1, 10_000_000)] = 1,
    page_size: Annotated[Integer | None, bounded(1, MAX_PAGE_SIZE)] = None,
) -> Page:
    return Page(page, page_size or min(services_of(request).settings.api.page_size, MAX_PAGE_SIZE))


PageParam = Annotated[Page, Depends(_page)]


def instant(value: str | None, name: str) -> datetime | None:
    """A time parameter as naive UTC (S-104).

    Raises:
        ApiError: 400 naming the parameter.
    """
    if value is None:
        return None
    try:
        if not _RFC_3339.fullmatch(value):
            raise ValueError(value)
        # The eleventh character stands for T whatever it is; a space after it is the + of an offset.
        found = datetime.fromisoformat(value[:11].upper() + value[11:].replace(" ", "+").upper())
        return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise bad(f"{name}: an RFC 3339 time or a date is needed, for example 2026-02-01T10:00:00Z") from None


def window(
    start: str | None, end: str | None, now: datetime, default: timedelta | None = None
) -> tuple[datetime | None, datetime | None]:
    """``from`` and ``to`` as ``[from, to)``; with ``default`` both are always given."""
    first, last = instant(start, "from"), instant(end, "to")
    if default is not None:
        last = last or now
        try:
            first = first or last - default
        except OverflowError:
            raise bad("to: too far in the past") from None
    if first is not None and last is not None and first >= last:
        raise bad("from: it must be before to")
    return first, last


def fixed_window(start: str | None, end: str | None, now: datetime, default: timedelta) -> tuple[datetime, datetime]:
    """As ``window``, with both ends."""
    first, last = window(start, end, now, default)
    assert first is not None
    assert last is not None
    return first, last


def chosen_sources(services: Services, source: str | None) -> list[str]:
    """The named source, else all enabled ones.

    Raises:
        ApiError: 400 for an unknown name.
    """
    if source is None:
        return services.source_ids
    known = [*services.source_ids, "_self"]
    if source not in known:
        raise bad(f"source: no source {source[:40]!r}{did_you_mean(source, known)}")
    return [source]


def one_source(found: Iterable[str], source: str | None, what: str) -> str | None:
    """The source an object belongs to; ambiguous when several have the key (S-104)."""
    names = sorted(set(found))
    if source is None and len(names) > 1:
        raise bad(f"{what} exists in several sources: {', '.join(names)}; name one with source", "ambiguous_source")
    return names[0] if names else None


def words(value: str | None, name: str, known: Sequence[str]) -> list[str] | None:
    """A comma list of known words; None when the parameter was not given."""
    if value is None:
        return None
    found = [word.strip() for word in value.split(",")]
    for word in found:
        if word not in known:
            raise bad(f"{name}: {word[:40]!r} is none of {', '.join(known)}")
    return found


__all__ = [
    "NO_TWICE",
    "OR_SELF",
    "WHOLE",
    "AsyncParam",
    "Day",
    "Flag",
    "Instant",
    "Integer",
    "Page",
    "PageParam",
    "SourceParam",
    "bounded",
    "chosen_sources",
    "fixed_window",
    "instant",
    "list_of",
    "one_source",
    "ordered",
    "sort_by",
    "window",
    "words",
]  # fmt: skip
