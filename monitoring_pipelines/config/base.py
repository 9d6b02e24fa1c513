"""Shared parts of the configuration models: strict blocks and the value types of the YAML.

What belongs here: the base model and reusable field types (seconds, cron, zones, secrets by name).
What does not: the blocks themselves (``schema``, ``source_schema``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Block(BaseModel):
    """A part of the configuration: unknown keys are errors (E-501), values are never coerced, objects are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_block(cls, value: Any) -> Any:
        """``checks:`` with nothing below it means the defaults."""
        return {} if value is None else value


def _number(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        raise ValueError("a number is needed")
    return value


def _text(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        raise ValueError(f"text is needed; write '{str(value).lower()}' in quotes")
    return value


def _boolean(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("true or false is needed")
    return value


def _zone(value: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(value)
    except (ValueError, OSError, LookupError):
        raise ValueError(f"{value!r} is not a time zone; use a name like Asia/Shanghai or UTC") from None
    return value


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: Any) -> float:
    """Seconds of ``90``, ``"90s"``, ``"5m"``, ``"1h"``, ``"2d"``; ValueError otherwise."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is seconds or a text like 30s, 5m, 1h")
    return float(match[1]) * _UNITS[match[2]]


CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
CRON_NAMES = {
    name: number
    for names, start in (("jan feb mar apr may jun jul aug sep oct nov dec", 1), ("sun mon tue wed thu fri sat", 0))
    for number, name in enumerate(names.split(), start)
}


def _cron_part(part: str, low: int, high: int) -> None:
    span, _, step = part.partition("/")
    if step and not (step.isdigit() and int(step) > 0):
        raise ValueError(f"bad step in {part!r}")
    if span == "*":
        return
    bounds = []
    for word in span.split("-"):
        number = CRON_NAMES.get(word.lower(), int(word) if word.isdigit() else -1)
        if not low <= number <= high:
            raise ValueError(f"{part!r} is outside {low}-{high}")
        bounds.append(number)
    if len(bounds) > 2 or bounds != sorted(bounds):
        raise ValueError(f"bad range {part!r}")


def check_cron(value: str) -> str:
    """``value`` if it is a cron line of five fields; ValueError says which field is wrong."""
    parts = value.split()
    if len(parts) != len(CRON_RANGES):
        raise ValueError("a cron line has five fields: minute hour day month weekday")
    for text, (low, high) in zip(parts, CRON_RANGES, strict=True):
        for part in text.split(","):
            _cron_part(part, low, high)
    return " ".join(parts)


def _host_url(value: str) -> str:
    if not re.match(r"https?://[^\s/]+", value):
        raise ValueError("an http(s) URL is needed")
    if "@" in value.split("/")[2]:
        raise ValueError("a URL with a password must not be written here (E-006)")
    return value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
#: Whole numbers and seconds; bounds are part of the type so that a negative value is refused where it stands.
Count = Annotated[int, BeforeValidator(_number), Field(ge=0)]
PositiveCount = Annotated[int, BeforeValidator(_number), Field(ge=1)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Seconds = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Percent = Annotated[float, BeforeValidator(_number), Field(ge=0, le=100)]
Zone = Annotated[str, BeforeValidator(_text), AfterValidator(_zone)]
Cron = Annotated[str, BeforeValidator(_text), AfterValidator(check_cron)]
Url = Annotated[str, BeforeValidator(_text), AfterValidator(_host_url)]
#: Name of an environment variable that holds a secret (E-006).
EnvName = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Identifier = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
#: E-001.
SourceId = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
ClockTime = Annotated[str, BeforeValidator(_text), Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
