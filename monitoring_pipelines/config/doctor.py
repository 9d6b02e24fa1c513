"""What ``mp doctor`` looks at: can this machine run the product, and reach its sources with the right account.

What belongs here: one small check per fact, each with a remedy. What does not: the mapping (``inspection``).
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from monitoring_pipelines.config.inspection import read_grants, surplus_grants
from monitoring_pipelines.errors import ProductError

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.config.source_schema import SourceSettings
    from monitoring_pipelines.source.engine import SourceConnection

Level = Literal["ok", "warning", "error"]
_PACKAGES = ("dagster", "dagster-webserver", "duckdb", "sqlalchemy", "pymysql", "connectorx", "pyarrow", "pydantic")
_LOW_SHARE, _VERY_LOW_SHARE = 0.10, 0.03  # C-508
_CLOCK_WARNING_S, _CLOCK_ERROR_S = 5, 60  # C-512


@dataclass(frozen=True)
class Check:
    """One fact. ``exit_code`` counts when ``level`` is error."""

    name: str
    level: Level
    detail: str
    hint: str | None = None
    exit_code: int = 1


def examine(settings: Settings, sources: list[SourceSettings], clock: Clock) -> Iterator[Check]:
    """All checks, machine first, then each source."""
    yield from _software()
    yield from _folders(settings)
    yield from _warehouse(settings)
    yield _dagster_home()
    for source in sources:
        yield from _source(settings, source, clock)


def _software() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Check("python", "ok" if good else "error", version, None if good else "Python 3.11 or newer is needed")
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Check("packages", "error", f"missing: {', '.join(missing)}", "install the package's dependencies again")
    else:
        yield Check("packages", "ok", ", ".join(found))


def _folders(settings: Settings) -> Iterator[Check]:
    for name, path in (("data folder", settings.data_path), ("log folder", settings.logs_path)):
        place = path
        while not place.exists():
            place = place.parent
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            yield Check(name, "error", f"{path} cannot be written: {error.strerror}", "change its owner, or `paths`")
            continue
        yield Check(name, "ok", f"{path}" + ("" if place == path else " (will be created)"))
        if name == "data folder":
            yield _space(place)


def _space(path: Path) -> Check:
    usage = shutil.disk_usage(path)
    share = usage.free / usage.total if usage.total else 1.0
    level: Level = "ok" if share >= _LOW_SHARE else "warning" if share >= _VERY_LOW_SHARE else "error"
    text = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f} ({100 * share:.0f} %)"
    return Check("disk", level, text, None if level == "ok" else "free space, or shorten `retention`")


def _warehouse(settings: Settings) -> Iterator[Check]:
    from monitoring_pipelines.warehouse.connect import Warehouse

    path = settings.warehouse_path
    if not path.exists():
        yield Check("warehouse", "ok", f"{path} does not exist yet; the first extraction creates it")
        return
    try:
        with Warehouse(path).reader("doctor", timeout_s=20) as con:
            row = con.execute("SELECT count(*), min(as_of) FROM meta.source_state").fetchone()
    except ProductError as error:
        yield Check("warehouse", "error", error.message, error.hint, error.exit_code)
        return
    assert row is not None
    yield Check("warehouse", "ok", f"{path.stat().st_size / 2**20:,.0f} MiB, {row[0]} sources, as of {row[1] or '-'}")


def _dagster_home() -> Check:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        return Check("dagster home", "ok", "DAGSTER_HOME is not set; `mp up` uses a folder below `paths.data`")
    path = Path(home)
    if not path.is_absolute():
        return Check("dagster home", "error", f"{home} is not absolute", "Dagster needs an absolute DAGSTER_HOME")
    if not path.is_dir():
        return Check("dagster home", "warning", f"{home} does not exist", "create it, or let `mp up` do so")
    if not os.access(path, os.W_OK):
        return Check("dagster home", "error", f"{home} cannot be written", "change its owner")
    found = (path / "dagster.yaml").exists()
    hint = None if found else "`mp up` copies one; without it Dagster runs with its defaults"
    return Check("dagster home", "ok" if found else "warning", home + ("" if found else ", no dagster.yaml"), hint)


# -- sources ----------------------------------------------------------------------------------------------------------


def _source(settings: Settings, source: SourceSettings, clock: Clock) -> Iterator[Check]:
    from monitoring_pipelines.config.secrets import mask_dsn
    from monitoring_pipelines.source.engine import connect

    name = f"source {source.id}"
    try:
        dsn = source.read_dsn()
        with connect(dsn, settings) as connection:
            yield Check(f"{name}: connection", "ok", f"{mask_dsn(dsn)}, {connection.dialect}, "
                        f"version {connection.server_version}")  # fmt: skip
            yield from _account(source, name, connection)
            yield from _server(name, connection, clock)
    except ProductError as error:
        yield Check(f"{name}: connection", "error", error.message, error.hint, error.exit_code)
    yield from _other_dsns(source, name)


def _account(source: SourceSettings, name: str, connection: SourceConnection) -> Iterator[Check]:
    if connection.dialect == "sqlite":
        return
    surplus = surplus_grants(read_grants(connection))
    if not surplus:
        yield Check(f"{name}: privileges", "ok", "the account can only read")
        return
    text = f"the read account may do more than read: {', '.join(surplus[:6])}{' …' if len(surplus) > 6 else ''}"
    hint = "give it SELECT on the mapped tables only (R-8xx)"
    yield Check(f"{name}: privileges", "error" if source.strict_readonly else "warning", text, hint, 5)


def _server(name: str, connection: SourceConnection, clock: Clock) -> Iterator[Check]:
    if connection.dialect == "sqlite":
        return
    zone, session, text = connection.query(
        "select @@global.time_zone, @@session.time_zone, cast(utc_timestamp(6) as char)"
    )[0]
    yield Check(f"{name}: time zone", "ok", f"server {zone}, our connections {session}")
    difference = abs((datetime.fromisoformat(str(text)) - clock.now()).total_seconds())
    level: Level = "ok"
    if difference > _CLOCK_WARNING_S:
        level = "error" if difference > _CLOCK_ERROR_S else "warning"
    hint = (
        None if level == "ok" else "synchronise both clocks (NTP); rows from the future wait until their time (E-306)"
    )
    yield Check(f"{name}: clock", level, f"{difference:.1f} s between our clock and the server's", hint)


def _other_dsns(source: SourceSettings, name: str) -> Iterator[Check]:
    for what, getter in (("repair", source.repair_dsn), ("rollback", source.rollback_dsn)):
        try:
            dsn = getter()
        except ProductError as error:
            yield Check(f"{name}: {what} DSN", "warning", error.message, error.hint)
            continue
        if dsn is not None and what == "repair":
            # Only apply, resume and rollback may open it.
            yield Check(f"{name}: repair DSN", "ok", "configured; not opened here")
