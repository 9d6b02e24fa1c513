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
        if number is not None and (not isinstance(number, float) or math.isfinite(number)):
            self.samples.append((tuple("" if value is None else str(value) for value in values), number))


def limited(families: Iterable[Family], most: int, label_chars: int) -> tuple[list[Family], dict[str, int]]:
    """Bounded families (S-304), and how many series of which family were left out.

    Beyond ``most`` series the smallest of a counter are folded into ``__other__``; those of a gauge are dropped.
    """
    result, dropped = [], {}
    for family in families:
        samples = [(tuple(value[:label_chars] for value in values), number) for values, number in family.samples]
        if len(samples) > most:
            samples.sort(key=lambda sample: (-sample[1], sample[0]))
            kept, rest = samples[: most - 1 if family.kind == "counter" else most], samples[most - 1 :]
            dropped[family.name] = len(samples) - len(kept)
            if family.kind == "counter":
                kept.append(((OTHER,) * len(family.labels), sum(number for _, number in rest)))
            samples = kept
        result.append(replace(family, samples=samples))
    return result, dropped


def dropped_series(dropped: Mapping[str, int]) -> Family:
    """How many series were left out, by family."""
    family = Family("mp_metrics_dropped_series", "gauge", "Series left out because a family has too many", ("family",))
    for name, n in sorted(dropped.items()):
        family.add((name,), n)
    return family


def as_text(families: Iterable[Family]) -> str:
    """Prometheus text: one HELP, one TYPE, then all samples of a family; ends with a line feed."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {_help(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += [f"{family.name}{_labels(family, values)} {_number(family, n)}" for values, n in family.samples]
    return "".join(f"{line}\n" for line in lines)


def as_openmetrics(families: Iterable[Family]) -> str:
    """The same as OpenMetrics, through prometheus_client, without the line that ends an answer (``EOF``)."""
    from prometheus_client.core import Metric
    from prometheus_client.openmetrics.exposition import generate_latest

    class _Once:
        def collect(self) -> Iterable[Metric]:
            for family in families:
                name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
                metric = Metric(name, family.help, family.kind)
                for values, number in family.samples:
                    labels = dict(zip(family.labels, values, strict=True))
                    metric.add_sample(family.name, labels, float(number))
                yield metric

    text: bytes = generate_latest(_Once())
    return text.decode().removesuffix(EOF)


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
