"""Mappings of known platforms (entities §9), one YAML file each.

What belongs here: reading a preset. What does not: merging it with the user's configuration (``mapping``).
"""

from __future__ import annotations

import copy
from functools import cache
from importlib import resources
from typing import Any

NAMES = ("waverless", "tts", "tktool", "scheduler", "collector")


@cache
def _read(name: str) -> dict[str, Any]:
    from monitoring_pipelines.config.yaml_text import read_yaml

    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text("utf-8")
    data = read_yaml(text, f"{name}.yaml").data
    if not isinstance(data, dict):  # a broken package, not a user's error
        raise TypeError(f"preset {name} is not a mapping")
    return data


def load_preset(name: str) -> dict[str, Any]:
    """The preset called ``name`` as plain data: source settings, ``tables``, and ``scrape`` where metrics are read.

    Raises:
        KeyError: If there is no such preset.
    """
    if name not in NAMES:
        raise KeyError(name)
    return copy.deepcopy(_read(name))
