"""Families of samples as Prometheus text 0.0.4 and as OpenMetrics (S-301, S-302, S-304).

What belongs here: escaping, numbers, the limit of series, the two formats. What does not: values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
#: Last line of OpenMetrics.
EOF = "# EOF\n"
OTHER = "__other__"
Sample = tuple[tuple[str, ...], float | int | Decimal]
#: Names and values of labels → their text.
Labels = dict[tuple[tuple[str, ...], tuple[str, ...]], str]


@dataclass(frozen=True)
class Family:
    """One family. ``labels`` in their order; a sample has a value per label. ``digits``: decimals; None as it is."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()
    samples: list[Sample] = field(default_factory=list)
    digits: int | None = None

    def add(self, values: Sequence[Any], number: Any) -> None:
        """Add a sample; NULL is not exported (S-303)."""
        self.add_texts(texts(values), number)

    def add_texts(self, values: tuple[str, ...], number: Any) -> None:
        """The same with values from ``texts``, for families that share them."""
        if number is not None and (not isinstance(number, float) or math.isfinite(number)):
            self.samples.append((values, number))


def texts(values: Sequence[Any]) -> tuple[str, ...]:
    """Label values; a missing one is empty (S-302)."""
    return tuple("" if value is None else str(value) for value in values)


def limited(families: Sequence[Family], most: int, label_chars: int) -> tuple[list[Family], dict[str, int]]:
    """Bounded families (S-304), and how many series of which family were left out.

    Beyond ``most`` series the smallest of a counter are folded into ``__other__``; those of a gauge are dropped.
    """
    result, dropped = [], {}
    fits: set[int] = set()  # label values that several families share need one look
    for family in families:
        samples = _cut(family, label_chars, fits)
        if len(samples) > most:
            samples = sorted(samples, key=lambda sample: (-sample[1], sample[0]))
            kept, rest = samples[: most - 1 if family.kind == "counter" else most], samples[most - 1 :]
            dropped[family.name] = len(samples) - len(kept)
            if family.kind == "counter":
                kept.append(((OTHER,) * len(family.labels), sum(number for _, number in rest)))
            samples = kept
        result.append(replace(family, samples=samples))
    return result, dropped


def _cut(family: Family, label_chars: int, fits: set[int]) -> list[Sample]:
    """The samples with shortened label values: those that became equal are added up, of gauges the largest stays.

    A series that stands twice in an answer would make Prometheus refuse all of it.
    """
    new = {id(values): values for values, _ in family.samples if id(values) not in fits}
    if all(len(value) <= label_chars for values in new.values() for value in values):
        fits.update(new)
        return family.samples
    found: dict[tuple[str, ...], Any] = {}
    for values, number in family.samples:
        key = tuple(value[:label_chars] for value in values)
        if key not in found:
            found[key] = number
        else:
            found[key] = found[key] + number if family.kind == "counter" else max(found[key], number)
    return list(found.items())


def dropped_series(dropped: Mapping[str, int]) -> Family:
    """How many series were left out, by family."""
    family = Family("mp_metrics_dropped_series", "gauge", "Series left out because a family has too many", ("family",))
    for name, n in sorted(dropped.items()):
        family.add((name,), n)
    return family


def as_text(families: Iterable[Family], known: Labels | None = None) -> str:
    """Prometheus text: one HELP, one TYPE, then all samples of a family; ends with a line feed.

    ``known``: labels written before, for families that are written one after another.
    """
    known = {} if known is None else known
    return "".join(_written(family, family.name, _help(family.help), known) for family in families)


def as_openmetrics(families: Iterable[Family], known: Labels | None = None) -> str:
    """The same as OpenMetrics, without the line that ends an answer (``EOF``): there only a counter's samples end in
    ``_total``, and HELP escapes quotes; samples are written alike.
    """
    known = {} if known is None else known
    parts = []
    for family in families:
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        parts.append(_written(family, name, _help(family.help).replace('"', '\\"'), known))
    return "".join(parts)


def _written(family: Family, name: str, text: str, known: Labels) -> str:
    """The lines of a family; ``known`` holds labels that are written already, which families of one subject share."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {family.kind}"]
    for values, number in family.samples:
        labels = known.get((family.labels, values))
        if labels is None:
            labels = known[family.labels, values] = _labels(family, values)
        lines.append(f"{family.name}{labels} {_number(family, number)}")
    return "\n".join(lines) + "\n"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _labels(family: Family, values: Sequence[str]) -> str:
    if not family.labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(family.labels, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(family: Family, value: float | int | Decimal) -> str:
    if family.digits is not None:
        exact = value if isinstance(value, Decimal) else Decimal(repr(value))
        return str(exact.quantize(Decimal(1).scaleb(-family.digits), ROUND_HALF_UP))
    if isinstance(value, int):
        return str(value)
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
