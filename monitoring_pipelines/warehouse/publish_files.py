"""Putting staged files in force: making them durable under their final names, and replacing the manifest.

What belongs here: names by content, what a crash may leave, when superseded files go. What does not: which partitions are
staged (``publish``), the manifest's format (``lake``).
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.warehouse.connect import DiskFull, is_no_space
from monitoring_pipelines.warehouse.lake import (
    KEEP_RETIRED_VERSIONS,
    MANIFEST_NAME,
    Columns,
    Manifest,
    PublishedFile,
    RetiredFile,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Staged:
    """One partition written to the staging directory; ``path`` is None when it has no rows any more."""

    table: str
    partition: str
    columns: Columns
    path: Path | None
    rows: int


@dataclass(frozen=True)
class Placing:
    """The files of one publication on their way into the lake; the holder of the lake's lock has one.

    Attributes:
        lake: The lake's directory.
        previous: The manifest in force; None: there is none.
        keep_retired_s: How long superseded files stay, seconds.
    """

    lake: Path
    previous: Manifest | None
    keep_retired_s: float

    def assemble(
        self, manifest: Manifest, staged_files: Iterable[Staged], acknowledged: list[str], created: list[Path]
    ) -> Manifest:
        """Name the staged files by content and enter them.

        Args:
            manifest: What the new one begins with.
            staged_files: Files to be named.
            acknowledged: Marks that are done with when the manifest is in force.
            created: Receives the files that are new.

        Returns:
            ``manifest``, or the previous one when nothing differs from it.
        """
        parents: set[Path] = set()
        for staged in staged_files:
            entries = manifest.tables[staged.table].partitions
            if staged.path is None:
                entries.pop(staged.partition, None)
                continue
            entry = self._place(staged, staged.path, created, parents)
            manifest.schemas[entry.schema] = staged.columns
            entries[staged.partition] = entry
        for parent in parents:
            _sync_directory(parent)
        known = self.previous
        if known is not None and not acknowledged and _same_content(known, manifest):
            return known
        used = {entry.schema for table in manifest.tables.values() for entry in table.partitions.values()}
        manifest.schemas = {key: columns for key, columns in manifest.schemas.items() if key in used}
        manifest.acknowledged = acknowledged
        manifest.retired = self._retired(manifest)
        return manifest

    def _place(self, staged: Staged, path: Path, created: list[Path], parents: set[Path]) -> PublishedFile:
        """Make one staged file durable under its final name, unless an equal file is there already."""
        digest = _sha256_and_sync(path)
        size = path.stat().st_size
        schema = hashlib.sha256(repr(staged.columns).encode()).hexdigest()[:12]
        name = "/".join([*staged.table.split("."), staged.partition, f"{digest[:20]}.parquet"])
        target = self.lake / name
        if target.exists() and target.stat().st_size == size:
            path.unlink()
        else:
            _make_directory(target.parent)
            created.append(target)
            os.replace(path, target)
            parents.add(target.parent)
        return PublishedFile(name, staged.rows, size, digest, schema)

    def _retired(self, manifest: Manifest) -> list[RetiredFile]:
        """Files of older versions that must stay for their readers."""
        if self.previous is None:
            return []
        live = manifest.files()
        fresh = [
            RetiredFile(file, manifest.version, manifest.published_at) for file in sorted(self.previous.files() - live)
        ]
        return [r for r in self.previous.retired if r.file not in live and not self._expired(r, manifest)] + fresh

    def _expired(self, retired: RetiredFile, manifest: Manifest) -> bool:
        age_s = (manifest.published_at - retired.at).total_seconds()
        return age_s > self.keep_retired_s and manifest.version - retired.version >= KEEP_RETIRED_VERSIONS

    def put_in_force(self, manifest: Manifest, created: list[Path]) -> None:
        """Put the manifest in force; from then on its new files are not ``created``'s any more and stay."""
        temporary = self.lake / f".{MANIFEST_NAME}.{uuid.uuid4().hex}"
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(manifest.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.lake / MANIFEST_NAME)
            created.clear()
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(self.lake)

    def delete_expired(self, manifest: Manifest) -> None:
        """Delete files that no reader may use any more; one that cannot be deleted is found again by maintenance."""
        if self.previous is None or manifest is self.previous:
            return
        keep = manifest.files() | {r.file for r in manifest.retired}
        for retired in self.previous.retired:
            if retired.file not in keep:
                remove_file(self.lake, retired.file)


def remove_file(lake: Path, file: str) -> bool:
    """Delete one file of the lake and its directory when that is empty; False (and a log line) when it cannot be."""
    path = lake / file
    try:
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
        return False
    return True


def _same_content(one: Manifest, other: Manifest) -> bool:
    mine, theirs = ((m.tables, m.sources, m.warehouse_id, m.waiting) for m in (one, other))
    return mine == theirs


def _sha256_and_sync(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def _make_directory(path: Path) -> None:
    """Create a directory so that its entry survives a power cut, parents included."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(lake: Path) -> Iterator[None]:
    """Turn "no space" and "not allowed" into errors that say what to do; others pass unchanged."""
    import duckdb

    try:
        yield
    except (OSError, duckdb.Error) as error:
        if is_no_space(error):
            raise DiskFull(
                f"no space left to publish to {lake}",
                "free space on that volume; readers keep the last published set and the next tick tries again",
                cause=str(error),
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ProductError(f"{lake} cannot be written: {error}", "check its owner and permissions") from error
        raise


def quoted(path: Path) -> str:
    """A path inside single quotes of SQL."""
    return str(path).replace("'", "''")
