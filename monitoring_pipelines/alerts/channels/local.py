"""Channels on this machine: files and the log (S-503).

What belongs here: writing. What does not: removing old files (the retention of logs).
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.alerts import bodies
from monitoring_pipelines.alerts.channels import Result

if TYPE_CHECKING:
    from monitoring_pipelines.alerts.messages import Message
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.config.schema_alerts import ChannelSettings

_log = logging.getLogger("monitoring_pipelines.alerts")
_LEVELS = {"critical": logging.CRITICAL, "high": logging.ERROR, "medium": logging.WARNING}


class CriticalFiles:
    """One file per critical alert, always on: ``critical_alert_<UTC time>_<alert_id>.json`` (S-503)."""

    language = None

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.logs_path / "alerts"

    def send(self, message: Message, clock: Clock) -> Result:
        """Write the files of all alerts of the message; writing them again changes nothing."""
        stamp = f"{message.created_at:%Y%m%dT%H%M%SZ}"
        return _write(
            {
                self._folder / f"critical_alert_{stamp}_{alert['alert_id']}.json": bodies.alert_json(alert)
                for alert in message.alerts
            }
        )


class Files:
    """One file per message, for programs that watch a folder."""

    def __init__(self, settings: Settings, given: ChannelSettings) -> None:
        self.language = given.language
        self._folder = settings.logs_path / "alerts"

    def send(self, message: Message, clock: Clock) -> Result:
        """Write ``alert_<UTC time>_<notification_id>.json``."""
        name = f"alert_{message.created_at:%Y%m%dT%H%M%SZ}_{message.notification_id}.json"
        return _write({self._folder / name: bodies.own_json(message)})


class Log:
    """The service log."""

    def __init__(self, given: ChannelSettings) -> None:
        self.language = given.language

    def send(self, message: Message, clock: Clock) -> Result:
        """One line with the title, the text below it."""
        _log.log(_LEVELS.get(message.severity, logging.INFO), "%s", message.text)
        return Result(True, target="log")


def _write(files: dict[Path, Any]) -> Result:
    """Write each file whole or not at all."""
    folder = "logs/alerts"
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".tmp")
            draft.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            os.replace(draft, path)
    except OSError as error:
        return Result(False, error=f"{folder}: {error.strerror}", target=folder)
    return Result(True, target=folder)
