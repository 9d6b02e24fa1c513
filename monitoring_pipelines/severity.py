"""Severities, bands and the rounding of rates: the one place that classifies (C-001 to C-003).

What belongs here: exact classification from integers and how a rate is written. What does not: who is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Literal, cast

Severity = Literal["info", "low", "medium", "high", "critical"]
Health = Literal["healthy", "degraded", "unhealthy", "unknown"]

#: Mildest first (C-001).
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high", "critical")
_WORDS: dict[str, Severity] = {"warning": "medium", "error": "high", "urgent": "critical", "critical": "critical"}


@dataclass(frozen=True)
class BandLimits:
    """Lower bounds in percent, inclusive (C-002)."""

    healthy: float = 95
    degraded: float = 80
    critical: float = 50


DEFAULT_BANDS = BandLimits()


def rank(severity: str) -> int:
    """Position of a severity, 0 = info; ValueError for an unknown word."""
    return SEVERITIES.index(cast(Severity, severity))


def highest(severities: Iterable[str | None]) -> Severity | None:
    """The most severe one, None if there is none."""
    found = [rank(word) for word in severities if word is not None]
    return SEVERITIES[max(found)] if found else None


def severity_of_word(word: str) -> Severity:
    """The unified severity of a source's own word (C-001).

    Raises:
        ValueError: The word is none of the known ones.
    """
    lower = word.lower()
    return _WORDS[lower] if lower in _WORDS else SEVERITIES[rank(lower)]


def health_of(complete: int, total: int, bands: BandLimits = DEFAULT_BANDS) -> Health:
    """Health of ``complete`` out of ``total`` (C-002); unknown when nothing was counted."""
    if total == 0:
        return "unknown"
    if _reaches(complete, total, bands.healthy):
        return "healthy"
    return "degraded" if _reaches(complete, total, bands.degraded) else "unhealthy"


def severity_of(complete: int, total: int, bands: BandLimits = DEFAULT_BANDS) -> Severity | None:
    """Severity of ``complete`` out of ``total`` (C-002); None when nothing is missing or nothing was counted."""
    if complete >= total:
        return None
    if _reaches(complete, total, bands.healthy):
        return "low"
    if _reaches(complete, total, bands.degraded):
        return "medium"
    return "high" if _reaches(complete, total, bands.critical) else "critical"


def rate_number(part: int, total: int, digits: int = 2) -> float | None:
    """100 · part / total, rounded half up from the exact fraction (C-003); None when total is 0."""
    return None if total == 0 else float(_rounded(Fraction(100 * part, total), digits))


def rate_text(part: int, total: int) -> str | None:
    """The rate with one decimal and a percent sign, half up from the exact fraction (C-003); None when total is 0."""
    return None if total == 0 else f"{_rounded(Fraction(100 * part, total), 1)}%"


def rounded(value: Fraction, digits: int) -> float:
    """An exact number rounded half up, away from zero for negative ones."""
    return float(_rounded(value, digits))


def quotient(top: int | float | Decimal, bottom: int | float | Decimal, digits: int, factor: int = 1) -> float:
    """Factor · top / bottom as ``rounded`` rounds it, but in integers: tables have tens of thousands of them."""
    (a, b), (c, d) = top.as_integer_ratio(), bottom.as_integer_ratio()
    n, m = factor * a * d * 10**digits, b * c
    whole = (2 * abs(n) + abs(m)) // (2 * abs(m))
    return (whole if (n < 0) == (m < 0) else -whole) / 10**digits


def _rounded(value: Fraction, digits: int) -> Decimal:
    scaled = abs(value) * 10**digits
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    number = Decimal(whole).scaleb(-digits)
    return (number if value >= 0 else -number).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def _reaches(part: int, total: int, percent: float) -> bool:
    """Whether part / total ≥ percent / 100, without rounding."""
    return 100 * part >= Fraction(str(percent)) * total
