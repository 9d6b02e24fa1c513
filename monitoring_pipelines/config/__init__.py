"""The configuration: YAML in, frozen models out.

``load_settings(path)`` is the way in. ``schema`` and ``source_schema`` hold the models, ``expressions`` the mapping's
expression language, ``mapping`` presets and merging, ``secrets`` credentials and masking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from monitoring_pipelines.config.schema import Settings


def load_settings(path: str | Path | None = None) -> Settings:
    """Read, merge and validate the configuration (E-501…E-508).

    Args:
        path: The file; None = environment variable MP_CONFIG, else ``./monitoring.yaml``.

    Raises:
        ConfigError: With file, line and path of every problem.
    """
    from monitoring_pipelines.config.loader import load

    return load(path)
