"""YAML 1.2 text → plain data plus the line of every key and item (E-501).

What belongs here: parsing and positions. What does not: the meaning of keys.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from monitoring_pipelines.errors import ConfigError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data and, per path, the 1-based line where it stands."""

    data: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int | None:
        """Line of ``path`` or of its nearest parent that has one."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return self.lines.get(())


def read_yaml(text: str, file: str) -> Document:
    """Parse ``text``.

    Raises:
        ConfigError: For bad YAML and duplicate keys, with the line.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="rt", pure=True)
    try:
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        message = message.split("\n")[0]
        raise ConfigError(file, mark.line + 1 if mark else None, "", f"not valid YAML: {message}") from None
    except (YAMLError, ValueError) as error:
        raise ConfigError(file, None, "", f"not valid YAML: {str(error).splitlines()[0]}") from None
    lines: dict[Path, int] = {}
    return Document(_plain(tree, (), lines), lines)


def _plain(node: Any, path: Path, lines: dict[Path, int]) -> Any:
    position: Any = getattr(node, "lc", None)
    if isinstance(node, dict):
        result = {}
        for key, value in node.items():
            name = key if isinstance(key, str) else str(key)
            place = (*path, name)
            # Keys that came in by "<<" have no place of their own; the parent's is used.
            with suppress(AttributeError, KeyError, TypeError):
                lines[place] = position.key(key)[0] + 1
            result[name] = _plain(value, place, lines)
        return result
    if isinstance(node, list):
        items = []
        for index, value in enumerate(node):
            place = (*path, index)
            lines[place] = position.item(index)[0] + 1
            items.append(_plain(value, place, lines))
        return items
    return _scalar(node)


def _scalar(node: Any) -> Any:
    """Plain Python values instead of ruamel's round-trip classes."""
    if node is None or isinstance(node, bool):
        return node
    for kind in (str, int, float):
        if isinstance(node, kind):
            return kind(node)
    if isinstance(node, dt.datetime):
        return node
    if type(node).__name__ == "ScalarBoolean":
        return bool(node)
    return node


def show_path(path: Path) -> str:
    """``("sources", 0, "tables")`` → ``sources[0].tables``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
