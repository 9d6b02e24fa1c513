"""The demo directory: configuration, source data and everything the product writes, in one removable folder.

What belongs here: files and their content. What does not: running anything (``cli.demo``).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring_pipelines.demo.tables import DATABASES
from monitoring_pipelines.demo.world import mysql_schemas
from monitoring_pipelines.errors import ProductError, UsageError

_MARKER = ".mp-demo.json"
_OWN = ("source", "data", "logs", "secrets", "dagster", "monitoring.yaml", "truth.parquet", _MARKER)
#: Days of statistics history the workflow platform needs for its trends; see ``world``.
_HISTORY_DAYS = 15
#: A demo that stood still for longer is made anew: its faults would lie too far back.
_STALE = timedelta(days=2)
_ENTITIES = {
    "tts": (("task", "tts_texts"), ("task_output", "tts_audios"), ("task_event", "mp_task_events")),
    "tktool": (("task", "tasks"), ("task_output", "task_outputs")),
    "scheduler": (
        ("job", "scheduler_task_configs"),
        ("job_run", "mp_job_runs"),
        ("notification", "alert_notifications"),
    ),
    "collector": (("process_sample", "mp_process_samples"), ("ingest_counter", "mp_ingest_samples")),
}


SIGN_IN_FILE = "page.token"


@dataclass(frozen=True)
class DemoFolder:
    """Paths inside a demo directory."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "monitoring.yaml"

    @property
    def source(self) -> Path:
        """Folder of the SQLite sources."""
        return self.root / "source"

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance."""
        return self.root / "dagster"

    @property
    def page_token(self) -> Path:
        """The administrator's token of the page."""
        return self.root / "secrets" / SIGN_IN_FILE

    @property
    def truth(self) -> Path:
        """What the simulator knows to have happened."""
        return self.root / "truth.parquet"


def prepare_folder(root: Path, seed: int, days: float, now: datetime) -> DemoFolder:
    """Make an empty demo directory at ``root``; an earlier demo there is replaced.

    Raises:
        UsageError: ``root`` holds files that are not a demo's.
        ProductError: It cannot be written.
    """
    root = root.expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is not a folder", hint="choose another one with --dir")
    try:
        if root.exists() and any(root.iterdir()):
            if not (root / _MARKER).exists():
                raise UsageError(
                    f"{root} is not empty and not a demo directory; nothing was changed",
                    hint="choose another one with --dir",
                )
            _clear(root)
        root.mkdir(parents=True, exist_ok=True)
        _write_marker(root, {"seed": seed, "days": days, "now": now.isoformat()})
        for name in ("source", "data", "logs", "secrets", "dagster"):
            (root / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ProductError(
            f"cannot write the demo directory {root}: {error.strerror}", hint="choose another one with --dir"
        ) from error
    return DemoFolder(root)


@dataclass(frozen=True)
class EarlierDemo:
    """A finished demo directory: its folder, the end of its history, and the instant up to which it went on."""

    folder: DemoFolder
    now: datetime
    reached: datetime


def mark_ready(folder: DemoFolder, made_with: dict[str, Any]) -> None:
    """Note that the first run is complete, and the options it was made with: the next demo may go on from here."""
    _write_marker(folder.root, {**_read_marker(folder.root), "made_with": made_with})


def mark_reached(folder: DemoFolder, reached: datetime) -> None:
    """Note how far live traffic was written; rows after it are written again when the demo goes on."""
    _write_marker(folder.root, {**_read_marker(folder.root), "reached": reached.isoformat()})


def earlier_demo(root: Path, made_with: dict[str, Any], now: datetime) -> EarlierDemo | None:
    """The demo at ``root`` if it is complete, was made with the same options, and is not older than two days."""
    root = root.expanduser().resolve()
    marker = _read_marker(root)
    if not marker or marker.get("made_with") != made_with:
        return None
    began = datetime.fromisoformat(marker["now"])
    reached = datetime.fromisoformat(marker.get("reached", marker["now"]))
    if not began <= reached <= now <= reached + _STALE:
        return None
    return EarlierDemo(DemoFolder(root), began, reached)


def _read_marker(root: Path) -> dict[str, Any]:
    try:
        found = json.loads((root / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_marker(root: Path, content: dict[str, Any]) -> None:
    temporary = root / (_MARKER + ".new")
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    temporary.replace(root / _MARKER)


def _clear(root: Path) -> None:
    """Remove what a demo wrote, and nothing else."""
    for name in _OWN:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_token(path: Path) -> None:
    """A new token that only the user of this machine can read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(secrets.token_urlsafe(24) + "\n")


def write_configuration(
    folder: DemoFolder, now: datetime, mysql: tuple[str, str] | None = None, *, days: float = 0.0
) -> None:
    """Write ``monitoring.yaml``: all simulated platforms through their presets.

    Args:
        folder: The demo directory.
        now: End of the history, for the first day of statistics.
        mysql: (environment variable, DSN) when the platforms live on a server; else SQLite files are used. The DSN
            itself is not written anywhere.
        days: Length of the simulated history.
    """
    from monitoring_pipelines.demo.result_api import KEY_FILE, free_url, write_key

    write_key(folder.root / "secrets")
    _write_token(folder.page_token)
    schemas = mysql_schemas(mysql[1]) if mysql else {}
    blocks = []
    for name in DATABASES:
        lines = [f"  - id: {name}", f"    preset: {name}"]
        if mysql:
            lines.append(f"    read_dsn_env: {mysql[0]}")
            if name == "tktool":
                lines.append(f"    repair_dsn_env: {mysql[0]}")
            if name in _ENTITIES:
                lines.append("    tables:")
                lines += [f"      {e}: {{table: {schemas[name]}.{table}}}" for e, table in _ENTITIES[name]]
        else:
            secret = folder.root / "secrets" / f"{name}.dsn"
            secret.write_text(f"sqlite:///{folder.source / name}.db\n", encoding="utf-8")
            os.chmod(secret, 0o600)
            lines.append(f"    read_dsn_file: secrets/{name}.dsn")
            if name == "tktool":
                lines.append(f"    repair_dsn_file: secrets/{name}.dsn")
        blocks.append("\n".join(lines))
    start = (now - timedelta(days=max(days, _HISTORY_DAYS))).date()
    folder.config.write_text(
        "# Written by `mp demo`. Each source uses the preset of a platform; your own looks the same.\n"
        "version: 1\n"
        "timezone: Asia/Shanghai\n"
        "language: zh-CN\n"
        "paths: {data: ./data, logs: ./logs}\n"
        f"stats: {{start: {start.isoformat()}}}\n"
        "# Repair from the page needs the administrator's token; `mp demo` prints a link that signs you in.\n"
        f"api:\n  tokens:\n    - {{name: demo, token_file: secrets/{SIGN_IN_FILE}, roles: [admin]}}\n"
        "# Messages go to files below logs/alerts; a real team names DingTalk, e-mail or a webhook here.\n"
        "channels:\n  - {id: messages, type: file}\n"
        "alerts:\n  routes:\n    critical: {channels: [messages]}\n    warning: {channels: [messages]}\n"
        "# The simulated result service still knows the files that the workflow platform lost; `mp demo` runs it.\n"
        "repair:\n"
        "  rate_per_s: 100\n"
        "  batch_pause_s: 0.2\n"
        "  max_tasks: 5000\n"
        f"  recoverers:\n    - {{id: results, kind: http_result, preset: runninghub, base_url: {free_url()!r}, "
        f"api_key_file: secrets/{KEY_FILE}, allow_http: true}}\n"
        "sources:\n" + "\n".join(blocks) + "\n",
        encoding="utf-8",
    )
