"""A thread that reads each new version of the published files before somebody asks.

What belongs here: noticing a version and asking the questions every page and every scrape asks. What does not: answers.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from monitoring_pipelines.api.services import Services
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.lean import trim

log = logging.getLogger(__name__)

#: Seconds between two looks at the manifest's time stamp.
PERIOD_S = 0.3


@contextmanager
def keeping(services: Services) -> Iterator[None]:
    """Run the thread for the length of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(services, stop), name="published files", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)
        gc.unfreeze()  # a process that goes on without its server gets the memory back


def _watch(services: Services, stop: threading.Event) -> None:
    seen = version = -1
    set_apart()
    while not stop.is_set():
        try:
            version = services.published.lake().version
            if version != seen:
                prepare(services)
                if seen < 0:
                    set_apart()
                seen = version
                go_on(services, stop, seen)
        except ProductError as error:
            log.info("nothing to read ahead: %s", error.message)
        except Exception:
            # Reading ahead is a courtesy: whoever asks gets the error with its request.
            log.exception("reading ahead failed")
            seen = version
        stop.wait(PERIOD_S)


def set_apart() -> None:
    """Let collections of garbage pass over what is there by now: modules, routes, jobs.

    It stays, or is freed when its last reader lets go of it. One look at all of it holds up every request for 0.1 to 0.25 s.
    """
    gc.collect()
    gc.freeze()


def go_on(services: Services, stop: threading.Event, version: int) -> None:
    """Make what takes longer, half of the time, until it is done or there is a newer version."""
    from monitoring_pipelines.api.series import ahead
    from monitoring_pipelines.api.summaries import index_of
    from monitoring_pipelines.published import key_texts

    index = index_of(services)
    began = time.perf_counter()
    with services.published.look() as look:
        for _ in chain(
            index.texts.make(look), key_texts.index(index.texts, look), index.row_facts.make(look), ahead(services),
            index.list_rows.make(look),
        ):  # fmt: skip
            if stop.wait(time.perf_counter() - began) or services.published.lake().version != version:
                break
            began = time.perf_counter()
    trim()


def prepare(services: Services) -> None:
    """Ask what everybody asks: counts and keys of files, the overview, the families of a scrape."""
    from monitoring_pipelines.api import summaries
    from monitoring_pipelines.api.routes.metrics import collector_of

    with services.published.look() as look:
        for source_id in services.source_ids:
            summaries.task_totals(services, look, source_id)
            summaries.live_totals(services, look, source_id)
        summaries.index_of(services).bits.read(look)
    summaries.overview(services, services.source_ids)
    collector_of(services).read_ahead()
    trim()
