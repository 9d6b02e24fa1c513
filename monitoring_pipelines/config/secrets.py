"""Secrets: read from the environment or a file, never from the configuration, and masked wherever they show (E-006).

What belongs here: resolving and masking. What does not: who uses them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from monitoring_pipelines.errors import ConfigError

MASK = "***"
_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/]*@(?=[^\s@]*(?:\s|$))", re.IGNORECASE)
#: Values handed out by this process; they are masked in any text given to ``mask``.
_seen: set[str] = set()


def read_secret(env: str | None, file: str | None, base: Path, path: str, config_file: str | None) -> str | None:
    """The secret in environment variable ``env`` or in ``file`` (relative to ``base``).

    Args:
        env: Name of the variable.
        file: Name of the file; its trailing line end is dropped.
        base: Folder of the configuration file.
        path: Place in the configuration, for errors.
        config_file: Configuration file, for errors.

    Returns:
        The value, None if neither is configured.

    Raises:
        ConfigError: If the variable is unset or the file unreadable or empty. The message never holds the value.
    """
    if env:
        value = os.environ.get(env, "")
        if not value:
            raise ConfigError(
                config_file, None, path, f"environment variable {env} is not set", hint=f"export {env}=… and try again"
            )
    elif file:
        place = (base / file).expanduser()
        try:
            value = place.read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise ConfigError(config_file, None, path, f"cannot read secret file {file}: {reason}") from None
        if not value:
            raise ConfigError(config_file, None, path, f"secret file {file} is empty")
    else:
        return None
    remember(value)
    return value


def remember(value: str) -> None:
    """Mask ``value`` from now on in everything given to ``mask``."""
    if len(value) >= 4:
        _seen.add(value)
    match = _PASSWORD.match(value)
    if match:
        password = value[match.end("head") + 1 : match.end() - 1]
        if len(password) >= 4:
            _seen.add(password)
        from urllib.parse import unquote

        if len(unquote(password)) >= 4:
            _seen.add(unquote(password))


def mask_dsn(dsn: str) -> str:
    """``dsn`` with its password replaced by ``***``."""
    return _PASSWORD.sub(rf"\g<head>:{MASK}@", dsn)


def mask(text: str) -> str:
    """``text`` without any secret this process has read and without passwords of URLs."""
    for value in sorted(_seen, key=len, reverse=True):
        replacement = mask_dsn(value) if "://" in value and mask_dsn(value) != value else MASK
        text = text.replace(value, replacement)
    return mask_dsn(text)
