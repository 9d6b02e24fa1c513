"""Configuration file → ``Settings``; every problem with file, line and path (E-501).

What belongs here: finding and reading the file, and turning problems of all stages into one kind of error.
What does not: the rules themselves (``schema``, ``mapping``, ``semantics``).
"""

from __future__ import annotations

import os
import types
import typing
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from monitoring_pipelines.config.mapping import Notes, Problem, resolve_source
from monitoring_pipelines.config.schema import Settings
from monitoring_pipelines.config.semantics import check_settings
from monitoring_pipelines.config.suggest import did_you_mean
from monitoring_pipelines.config.yaml_text import Document, Path, read_yaml, show_path
from monitoring_pipelines.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_FILE = "monitoring.yaml"
_SECRET_WORDS = ("dsn", "password", "secret", "token", "api_key", "webhook", "username", "base_url", "url")


def config_path(path: str | FilePath | None) -> FilePath:
    """The file to read: ``path``, else MP_CONFIG, else ``monitoring.yaml`` in the current folder."""
    return FilePath(path or os.environ.get("MP_CONFIG") or DEFAULT_FILE)


def load(path: str | FilePath | None) -> Settings:
    """Read and validate the configuration.

    Raises:
        ConfigError: The first problem in file order; ``problems`` holds all of them.
    """
    place = config_path(path)
    try:
        text = place.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            str(place), None, "", "no such configuration file", hint="`mp init` writes one; --config names another"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(str(place), None, "", f"cannot read it: {reason}") from None
    return load_text(text, str(place), base=place.resolve().parent, file=place)


def load_text(text: str, name: str, base: FilePath, file: FilePath | None = None) -> Settings:
    """Like ``load`` for text already read.

    Args:
        text: The YAML.
        name: What to call it in errors.
        base: Folder that relative paths start at.
        file: The file the text came from, if any.
    """
    document = read_yaml(text, name)
    notes = Notes()
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise ConfigError(name, 1, "", "a block of keys is needed, e.g. sources: […]")
    settings: Settings | None = None
    resolved = _resolve(data, notes)
    try:
        settings = Settings.model_validate(resolved)
    except ValidationError as error:
        notes.problems += [_problem(detail, notes) for detail in error.errors(include_url=False)]
    if settings is not None:
        check_settings(settings, notes)
    if notes.problems:
        raise _error(notes, document, name)
    assert settings is not None
    return settings.attach(file, base)


def _resolve(data: dict[str, Any], notes: Notes) -> dict[str, Any]:
    sources = data.get("sources")
    if not isinstance(sources, list):
        return data
    resolved = [
        resolve_source(source, index, notes) if isinstance(source, dict) else source
        for index, source in enumerate(sources)
    ]
    return data | {"sources": resolved}


def _error(notes: Notes, document: Document, name: str) -> ConfigError:
    def build(problem: Problem, problems: tuple[ConfigError, ...] = ()) -> ConfigError:
        line = document.line(problem.path)
        return ConfigError(
            name, line, show_path(problem.path), problem.message, problem.hint, problems=problems, cause=None
        )

    unique = {(p.path, p.message): p for p in notes.problems}
    ordered = sorted(unique.values(), key=lambda p: document.line(p.path) or 0)
    # A broken block makes its parent incomplete too; the deeper problem is the cause.
    return build(ordered[0], tuple(build(problem) for problem in ordered))


# -- pydantic's findings in the words of the configuration ------------------------------------------------------------

_WORDS = {
    "missing": "is missing",
    "model_type": "a block of keys is needed",
    "dict_type": "a block of keys is needed",
    "list_type": "a list is needed",
    "string_type": "text is needed",
    "string_too_short": "must not be empty",
    "int_from_float": "a whole number is needed",
    "int_type": "a whole number is needed",
    "float_type": "a number is needed",
    "finite_number": "a finite number is needed",
}
_PATTERNS = {
    r"^[a-z][a-z0-9_]{0,31}$": "lower-case letters, digits and _, at most 32, starting with a letter (E-001)",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of an environment variable is needed, never the secret itself (E-006)",
    r"^([01]\d|2[0-3]):[0-5]\d$": "a time of day like '22:00' is needed",
}


def _problem(detail: ErrorDetails, notes: Notes) -> Problem:
    place = tuple(detail["loc"])
    path = notes.origin(place)
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(path, *_unknown_key(place))
    if kind == "missing":
        return Problem(path[:-1] or path, f"{place[-1]} is missing")
    if kind == "value_error":
        return Problem(path, detail["msg"].removeprefix("Value error, "))
    if kind == "literal_error":
        return Problem(path, _not_one_of(str(context.get("expected", "")), detail.get("input")))
    if kind == "string_pattern_mismatch":
        return Problem(path, _PATTERNS.get(str(context.get("pattern")), f"must match {context.get('pattern')}"))
    if kind in _WORDS:
        return Problem(path, _WORDS[kind])
    message = detail["msg"].replace("Input should be", "must be")
    value = detail.get("input")
    shown = f", not {value}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
    return Problem(path, message + shown)


def _not_one_of(expected: str, value: Any) -> str:
    words = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
    guess = did_you_mean(value, words) if isinstance(value, str) else ""
    shown = f"{value!r} is not " if isinstance(value, (str, int, bool)) and len(str(value)) <= 40 else "must be "
    return f"{shown}one of {', '.join(words)}{guess}"


def _unknown_key(place: Path) -> tuple[str, str | None]:
    """Message and hint for a key that the block at ``place`` does not have."""
    key, known = str(place[-1]), _keys_at(place[:-1])
    for variant in (f"{key}_env", f"{key}_file"):
        if variant in known and key.split("_")[-1] in {w.split("_")[-1] for w in _SECRET_WORDS}:
            choices = " or ".join(name for name in (f"{key}_env", f"{key}_file") if name in known)
            return "a secret is never written in the configuration (E-006)", f"put it elsewhere and name it: {choices}"
    return f"unknown key{did_you_mean(key, known)}", f"known here: {', '.join(known)}" if known else None


def _keys_at(place: Path) -> list[str]:
    """Keys the block at ``place`` of the resolved document may have."""
    model: Any = Settings
    for part in place:
        annotation = None
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            found = model.model_fields.get(part)
            annotation = found.annotation if found else None
        elif typing.get_origin(model) in (list, dict):
            annotation = typing.get_args(model)[-1]
        model = _strip_optional(annotation)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    names = [field.alias or name for name, field in model.model_fields.items() if name != "entity"]
    return [*names, "key"] if "row_id" in names else names


def _strip_optional(annotation: Any) -> Any:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        left = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _strip_optional(left[0]) if len(left) == 1 else annotation
    return annotation
