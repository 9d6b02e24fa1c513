"""The stages that read the sources, refresh the core and publish.

What belongs here: how long each holds the warehouse, and what one failing source may stop. What does not: statistics
(``windows``) and comparing days (``reconciliation``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring_pipelines.errors import ProductError, WarehouseBusy
from monitoring_pipelines.lean import without_pandas
from monitoring_pipelines.pipeline.base import Pipeline
from monitoring_pipelines.pipeline.results import CoreRefresh, Extraction, Published
from monitoring_pipelines.warehouse.connect import WarehouseMissing
from monitoring_pipelines.warehouse.lock import FairLock, LockTimeout

if TYPE_CHECKING:
    from monitoring_pipelines.config.schema import SourceSettings
    from monitoring_pipelines.source.tail import CycleResult
    from monitoring_pipelines.warehouse.lake import Manifest

#: Longest wait for another extraction of the same source, seconds.
CYCLE_WAIT_S = 120.0


@without_pandas()
def extract(pipe: Pipeline, only: Iterable[str] | None = None, *, strict: bool = True) -> Extraction:
    """One extraction cycle per source, at the same time, so that a slow source does not hold up another (E-506).

    Raises:
        ProductError: Every source failed; the first error. With some failures the others' results are returned, and
            without ``strict`` the failures always are.
    """
    wanted = set(only) if only is not None else None
    sources = [source for source in pipe.sources if wanted is None or source.id in wanted]
    began = time.monotonic()
    result = Extraction()
    _move_own_rows(pipe)
    errors: list[ProductError] = []
    with ThreadPoolExecutor(max_workers=max(1, min(len(sources), 4)), thread_name_prefix="extract") as pool:
        pending = [(source.id, pool.submit(_extract_source, pipe, source)) for source in sources]
        for source_id, future in pending:
            try:
                result.cycles[source_id] = future.result()
            except ProductError as error:
                pipe.log.error(f"{source_id}: {error.message}")
                result.failed[source_id] = error.message
                errors.append(error)
    result.seconds = time.monotonic() - began
    if strict and errors and not result.cycles:
        raise errors[0]
    return result


def _move_own_rows(pipe: Pipeline) -> None:
    """What the product knows of itself becomes rows like those of a source; sources do not wait for it (E-506)."""
    from monitoring_pipelines.source.own import move_own_rows

    try:
        moved = move_own_rows(pipe.settings, pipe.warehouse, pipe.clock)
    except ProductError as error:
        pipe.log.error(f"own rows: {error.message}")
        return
    if any(moved.rows.values()):
        pipe.log.info(
            "own rows: " + ", ".join(f"{count} {entity}" for entity, count in sorted(moved.rows.items()) if count)
        )


@without_pandas()
def loaded_sources(pipe: Pipeline) -> set[str]:
    """Ids of the sources whose history was loaded: only they can be read in a minute's time."""
    try:
        with pipe.warehouse.reader("loaded sources", small=True) as con:
            rows = con.execute("SELECT DISTINCT source_id FROM meta.extract_mark WHERE last_success_at IS NOT NULL")
            return {row[0] for row in rows.fetchall()} & {source.id for source in pipe.sources}
    except WarehouseMissing:
        return set()


def is_extracting(warehouse: Path, source_id: str) -> bool:
    """Whether some process is in an extraction cycle, or the first load, of the source into this file at this instant."""
    return _cycle_lock(warehouse, source_id).holder() is not None


def _cycle_lock(warehouse: Path, source_id: str) -> FairLock:
    return FairLock(warehouse.with_name(f"extract-{source_id}.lock.d"))


def _extract_source(pipe: Pipeline, source: SourceSettings) -> CycleResult:
    """One cycle of one source; never two at once, because the older snapshot might be written last."""
    from monitoring_pipelines.source.tail import extract_cycle

    try:
        with _cycle_lock(pipe.warehouse.path, source.id).held(f"extract {source.id}", CYCLE_WAIT_S):
            return extract_cycle(pipe.settings, source, pipe.warehouse, pipe.clock, pipe.log)
    except LockTimeout as error:
        raise WarehouseBusy(f"another extraction of {source.id} is still running ({error.holder})") from error


@without_pandas()
def refresh_core(pipe: Pipeline) -> CoreRefresh:
    """Recompute the core rows of all keys that changed, source by source."""
    from monitoring_pipelines.warehouse import core_refresh

    began = time.monotonic()
    done = CoreRefresh()
    for source in pipe.sources:
        with pipe.warehouse.writer(f"core of {source.id}", small=True) as con:
            result = core_refresh.refresh_keys(con, source.id, gives_way=pipe.warehouse.offer)
        if result.is_unfinished:
            with pipe.warehouse.writer(f"core of {source.id}: tasks", small=True) as con:
                result = core_refresh.refresh_keys(con, source.id, begun=result)
        done.results[source.id] = result
        # Uses of their own: who waits need not wait for all.
        with pipe.warehouse.writer(f"samples of {source.id}", small=True) as con:
            core_refresh.compare_samples(con, result)
    done.seconds = time.monotonic() - began
    return done


@without_pandas()
def publish_pending(pipe: Pipeline, *, everything: bool = False) -> Published:
    """Publish changed partitions, newest days first; the warehouse is open only while rows are copied out of it.

    Args:
        pipe: What to work on.
        everything: Go on until nothing waits; a tick leaves what does not fit into its time to the next one.
    """
    began = time.monotonic()
    manifest = _publish_once(pipe)
    while everything and manifest.waiting:
        manifest = _publish_once(pipe)
    return Published(manifest, time.monotonic() - began)


def _publish_once(pipe: Pipeline) -> Manifest:
    from monitoring_pipelines.warehouse.publish import Publication, publish_in_slices

    return publish_in_slices(Publication(pipe.settings.lake_path, pipe.clock), pipe.warehouse)
