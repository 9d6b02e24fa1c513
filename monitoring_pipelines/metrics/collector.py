"""All families of a scrape, with counters that never fall (S-303) and a bounded number of series (S-304).

What belongs here: putting the families together, remembering what was exported. What does not: the families.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from monitoring_pipelines import __version__
from monitoring_pipelines.errors import ProductError
from monitoring_pipelines.metrics import from_lake, from_state
from monitoring_pipelines.metrics.exposition import (
    EOF,
    Family,
    Labels,
    Sample,
    as_openmetrics,
    as_text,
    dropped_series,
    limited,
)
from monitoring_pipelines.metrics.patience import FIRST_WAIT_S, WAIT_S, Patience
from monitoring_pipelines.published import jobs
from monitoring_pipelines.warehouse.lake import LakeMissing

if TYPE_CHECKING:
    from monitoring_pipelines.clock import Clock
    from monitoring_pipelines.config.schema import Settings
    from monitoring_pipelines.published.reader import Look, Published
    from monitoring_pipelines.published.tasks import TaskIndex
    from monitoring_pipelines.state import StateStore
    from monitoring_pipelines.state.counters import Memo

log = logging.getLogger(__name__)

#: Families, and how many series of which were left out.
Families = tuple[list[Family], dict[str, int]]
#: What families of the state store follow from, and they.
_Read = tuple[Any, list[Family]]
_SETTING = "metrics:exported"
#: Window size that makes zlib write a gzip stream.
_GZIP = 31
#: What was exported is written down at most this often, seconds; what the files no longer say at once.
_KEEP_EVERY_S = 60.0
#: Who reads ahead begins with a version within this time, seconds.
_AHEAD_WITHIN_S = 3.0


@dataclass
class _Member:
    """A family as it was computed and as it is exported, and its text in the formats that were asked for."""

    computed: Family
    family: Family
    dropped: int | None = None
    texts: dict[bool, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Begun:
    """Compressing of the texts of some members, as far as they go."""

    members: list[_Member]
    beginning: bytes
    state: Any

    def then(self, members: list[_Member], text: bytes) -> _Begun:
        """The same with further members."""
        state = self.state.copy()
        return _Begun([*self.members, *members], self.beginning + state.compress(text), state)


@dataclass
class _Part:
    """Families of one version of the files, and their text in the formats that were asked for.

    A family that was computed for the version before and still holds keeps its text; what begins as in the version before,
    which is nearly all of a large answer, is not compressed again. ``first``: so many members change with jobs alone.
    """

    version: int
    members: list[_Member]
    first: int = 0
    _begun: dict[bool, tuple[_Begun, _Begun]] = field(default_factory=dict)

    @property
    def families(self) -> list[Family]:
        """Bounded."""
        return [member.family for member in self.members]

    @property
    def dropped(self) -> dict[str, int]:
        """How many series of which family were left out."""
        return {one.family.name: one.dropped for one in self.members if one.dropped is not None}

    @property
    def formats(self) -> list[bool]:
        """Those that were asked for."""
        return list(self._begun)

    def text(self, openmetrics: bool) -> bytes:
        """The families as text."""
        return _text_of(self.members, openmetrics)

    def compressed(self, rest: bytes, openmetrics: bool, before: _Part | None = None) -> bytes:
        """The text and what follows it, with gzip; compressing the text is begun once, or by the part ``before``."""
        if openmetrics not in self._begun:
            first, others = self.members[: self.first], self.members[self.first :]
            known = before._begun.get(openmetrics) if before else None
            if known is None or not _same(known[0].members, first):
                head = _Begun([], b"", zlib.compressobj(1, zlib.DEFLATED, _GZIP)).then(
                    first, _text_of(first, openmetrics)
                )
            else:
                head = known[0]
            self._begun[openmetrics] = head, head.then(others, _text_of(others, openmetrics))
        begun = self._begun[openmetrics][1]
        mine = begun.state.copy()
        return bytes(begun.beginning + mine.compress(rest) + mine.flush())


def _text_of(members: list[_Member], openmetrics: bool) -> bytes:
    write, labels = as_openmetrics if openmetrics else as_text, Labels()
    for member in members:
        if openmetrics not in member.texts:
            member.texts[openmetrics] = write([member.family], labels).encode()
    return b"".join(member.texts[openmetrics] for member in members)


def _why(error: Exception) -> str:
    """What the store said, without the statement."""
    return str(getattr(error, "orig", None) or error)


def _same(some: list[_Member], others: list[_Member]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


@dataclass(frozen=True)
class Text:
    """An answer to a scrape: the part of the published files and the rest."""

    _part: _Part
    _rest: bytes
    _openmetrics: bool

    def whole(self) -> bytes:
        """The text."""
        return self._part.text(self._openmetrics) + self._rest

    def compressed(self) -> bytes:
        """The text with gzip."""
        return self._part.compressed(self._rest, self._openmetrics)


def _text(part: _Part, rest: list[Family], openmetrics: bool) -> Text:
    return Text(part, (as_openmetrics(rest) + EOF if openmetrics else as_text(rest)).encode(), openmetrics)


@dataclass
class Collector:
    """Builds the families of one application; shared by threads.

    What stands in the published files is computed and written out once per version; the rest with every scrape. While the state
    store does not answer, its families are those it had last, and ``mp_state_store_up`` is 0.
    """

    settings: Settings
    published: Published
    state: StateStore
    clock: Clock
    index: TaskIndex
    _parts: dict[tuple[str, ...], _Part] = field(default_factory=dict)
    _of_state: dict[str, tuple[Any, Families]] = field(default_factory=dict)
    _read_last: dict[str, _Read] = field(default_factory=dict)
    _memo: Memo = field(default_factory=dict)
    _ahead: bool = False
    _newest: tuple[int, float] = (0, 0.0)
    _exported: dict[str, float] | None = None
    _kept_at: float = 0.0
    _unsaved: set[str] = field(default_factory=set)
    _urgent: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _building: threading.Lock = field(default_factory=threading.Lock)
    _reading: Patience = field(default_factory=lambda: Patience("reading families of the state store"))
    _writing: Patience = field(default_factory=lambda: Patience("writing down exported counters"))

    def everything(self) -> list[Family]:
        """Families of ``/metrics``: base units, names the linter accepts."""
        part, families, dropped = self._everything()
        return [*part.families, *families, dropped_series(dropped)]

    def everything_text(self, openmetrics: bool = False) -> Text:
        """``/metrics`` in one of its formats."""
        part, families, dropped = self._everything()
        return _text(part, [*families, dropped_series(dropped)], openmetrics)

    def scheduler_text(self, names: Sequence[str], openmetrics: bool = False) -> Text:
        """S-424: families under their own names, jobs of these sources only."""
        with self.published.look() as look:
            part = self._part(("jobs", *names), look, lambda: (*self._jobs(look, base_units=False, names=names), 0))
        (families, _), _ = self._deliveries()
        self._keep_soon()
        return _text(part, families, openmetrics)

    def read_ahead(self) -> None:
        """Build the families of the newest version in the formats in use, and write down what was exported."""
        self._ahead = True
        with self.published.look() as look:
            before = self._parts.get(())
            part = self._part((), look, lambda: self._of_lake(look), at_once=True)
            for openmetrics in (before.formats if before else ()) or (False,):
                part.compressed(b"", openmetrics, before)
        self.keep()

    def _everything(self) -> tuple[_Part, list[Family], dict[str, int]]:
        try:
            with self.published.look() as look:
                part, lags = self._part((), look, lambda: self._of_lake(look)), self._lags(look)
        except LakeMissing:
            part, lags = _Part(0, []), []
        (deliveries, some), answered = self._deliveries()
        now = self.clock.now()
        minute = now.replace(
            second=0, microsecond=0
        )  # a target that nobody probes any more becomes unknown by time alone
        (families, dropped), answers = self._stored(
            "state",
            lambda: self._read("state", minute, lambda: from_state.collect(self.settings, self.state, now, self._memo)),
        )
        up = Family("mp_state_store_up", "gauge", "1 if the state store answered, 0 if its families are older")
        up.add((), int(answered and answers))
        bounded, more = self._bounded([*lags, *self._own(), up])
        self._keep_soon()
        return part, [*deliveries, *families, *bounded], part.dropped | some | dropped | more

    def _deliveries(self) -> tuple[Families, bool]:
        """Families of attempts, of the product's own messages and of those in published files."""

        def read() -> _Read:
            with ExitStack() as stack:
                try:
                    look = stack.enter_context(self.published.look())
                except LakeMissing:
                    look = None
                version = look.lake.version if look else None
                return self._read("deliveries", version, lambda: from_state.delivery_families(self.state, look))

        return self._stored("deliveries", read)

    def _stored(self, name: str, read: Callable[[], _Read]) -> tuple[Families, bool]:
        """Families of the state store, bounded, and whether it answered; if not they are those it had last.

        A store that always takes longer than a scrape waits has them one scrape late.

        Raises:
            StateUnavailable: It does not answer and never has.
        """
        known, answered = self._of_state.get(name), True
        try:
            found = self._reading.run(read, WAIT_S if known else FIRST_WAIT_S)
        except (ProductError, SQLAlchemyError) as error:
            late = self._read_last.get(name)  # of a read that nobody waited for any more
            if late is None:
                raise
            log.warning("families of the state store are as they were: %s", _why(error))
            found, answered = late, False
        if known is None or known[0] is not found[0]:
            known = self._of_state[name] = found[0], self._bounded(found[1])
        return known[1], answered

    def _read(self, name: str, also: Any, collect: Callable[[], list[Family]]) -> _Read:
        """What the families follow from, and they: read anew by one of many scrapes once something was committed.

        Args:
            name: Of the families.
            also: What else they follow from.
            collect: Reads them.
        """
        stamp = self.state.stamp()
        now = stamp, also
        known = self._read_last.get(name)
        if known is None or stamp is None or known[0] != now:
            known = self._read_last[name] = now, collect()
        return known

    def _part(
        self, name: tuple[str, ...], look: Look, build: Callable[[], tuple[list[Family], dict[str, int], int]], *,
        at_once: bool = False,
    ) -> _Part:  # fmt: skip
        """The part of this version; while somebody else builds it, or is about to, that of the version before."""
        known = self._parts.get(name)
        if known is not None and known.version == look.lake.version:
            return known
        if known is not None and not at_once and self._comes(name, look.lake.version):
            return known
        if not self._building.acquire(blocking=known is None):
            assert known is not None
            return known
        try:
            found = self._parts.get(name)
            if found is None or found.version != look.lake.version:
                families, dropped, first = build()
                found = _Part(look.lake.version, self._members(families, dropped, found), first)
                self._parts[name] = found
            return found
        finally:
            self._building.release()

    def _comes(self, name: tuple[str, ...], version: int) -> bool:
        """Whether a version is so new that who reads ahead may not have seen it yet: a scrape need not do that work."""
        if not self._ahead or name:
            return False
        if self._newest[0] != version:
            self._newest = (version, time.monotonic())
        return time.monotonic() - self._newest[1] < _AHEAD_WITHIN_S

    def _of_lake(self, look: Look) -> tuple[list[Family], dict[str, int], int]:
        """Families, what was left out, and how many of the first follow from jobs."""
        of_jobs, dropped = self._jobs(look, base_units=True, names=None)
        return [*of_jobs, *from_lake.collect(self.settings, look, self.index)], dropped, len(of_jobs)

    def _jobs(self, look: Look, *, base_units: bool, names: Sequence[str] | None) -> Families:
        """Bounded: of ten thousand jobs only those series stay in memory that are exported."""
        able = [one.id for one in self.settings.enabled_sources if one.mapped("job") or one.mapped("job_run")]
        chosen = names if names is not None else [*able, "_self"]
        return look.once(
            ("families of jobs", str(base_units), *chosen),
            jobs.TABLES,
            lambda: self._limited(self._of_jobs(look, base_units, chosen)),
        )

    def _of_jobs(self, look: Look, base_units: bool, chosen: Sequence[str]) -> list[Family]:
        rows = jobs.with_own(jobs.figures(look, chosen), self.settings, chosen)
        mode = self.settings.metrics.source_label
        several = len({row["source_id"] for row in rows}) > 1
        with_source = mode == "always" or (mode == "auto" and several)
        return from_lake.job_families(look, rows, with_source=with_source, base_units=base_units)

    def _lags(self, look: Look) -> list[Family]:
        now = self.clock.now()
        extract = Family("mp_extract_lag_seconds", "gauge", "Age of the newest successful extraction", ("source",))
        aggregate = Family("mp_aggregate_lag_seconds", "gauge", "Age of the newest closed minute", ("source",))
        for source, state in look.manifest.sources.items():
            at, closed = state.get("as_of"), state.get("closed_through")
            extract.add((source,), None if at is None else round((now - at).total_seconds(), 3))
            aggregate.add((source,), None if closed is None else round((now - closed).total_seconds(), 3))
        return [extract, aggregate]

    def _own(self) -> list[Family]:
        path = self.settings.warehouse_path
        sizes = [file.stat().st_size for file in (path, path.with_name(path.name + ".wal")) if file.exists()]
        store = Family("mp_store_bytes", "gauge", "Size of the warehouse on disk")
        store.add((), sum(sizes) if sizes else None)
        build = Family("mp_build_info", "gauge", "Version of the product; always 1", ("version",))
        build.add((__version__,), 1)
        watchdog = Family("mp_watchdog", "gauge", "Always 1")
        watchdog.add((), 1)
        return [store, build, watchdog]

    def _members(self, families: list[Family], left_out: dict[str, int], before: _Part | None) -> list[_Member]:
        """The families, bounded; those of the part before that are the same as then are taken over.

        ``left_out``: series of families that were bounded already.
        """
        known = {id(member.computed): member for member in before.members} if before else {}
        fresh = [family for family in families if id(family) not in known]
        bounded, dropped = self._bounded(fresh)
        dropped |= left_out
        made = {id(old): _Member(old, new, dropped.get(old.name)) for old, new in zip(fresh, bounded, strict=True)}
        return [known.get(id(family)) or made[id(family)] for family in families]

    def _bounded(self, families: list[Family]) -> Families:
        bounded, dropped = self._limited(families)
        held = [self._held(family) if family.kind == "counter" else family for family in bounded]
        return held, dropped

    def _limited(self, families: list[Family]) -> Families:
        limits = self.settings.metrics
        return limited(families, limits.max_series_per_family, limits.label_max_chars)

    def _held(self, family: Family) -> Family:
        """A counter that would fall stays until it is exceeded (S-303)."""
        exported = self._known()
        samples: list[Sample] = []
        with self._lock:
            for values, number in family.samples:
                key = "\x1f".join((family.name, *values))
                value: Any = max(number, exported.get(key, number))
                if exported.get(key) != value:
                    exported[key] = value
                    self._unsaved.add(key)
                elif value > number and key in self._unsaved:
                    self._urgent = True
                samples.append((values, int(value) if float(value).is_integer() else value))
        return replace(family, samples=samples)

    def _known(self) -> dict[str, float]:
        if self._exported is None:
            from sqlalchemy import select

            from monitoring_pipelines.state.tables import setting

            def read() -> dict[str, float] | None:
                with self.state.read() as con:
                    return con.execute(select(setting.c.value).where(setting.c.name == _SETTING)).scalar()

            stored = self._reading.run(read, FIRST_WAIT_S)
            with self._lock:
                if self._exported is None:
                    self._exported = dict(stored or {})
        return self._exported

    def _is_due(self) -> bool:
        waits = not self._urgent and self._kept_at and time.monotonic() - self._kept_at < _KEEP_EVERY_S
        return not waits and bool(self._unsaved)

    def _keep_soon(self) -> None:
        """As ``keep``; a store that cannot be written ends no scrape. No counter falls: what was exported stays in memory."""
        with self._lock:
            if not self._is_due():
                return
        try:
            self._writing.run(self.keep)
        except (ProductError, SQLAlchemyError) as error:
            log.warning("exported counters are not written down yet: %s", _why(error))

    def keep(self) -> None:
        """Write down what was exported, merged with what another process wrote."""
        from sqlalchemy import select

        from monitoring_pipelines.state.store import upsert
        from monitoring_pipelines.state.tables import setting

        with self._lock:
            if not self._is_due():
                return
            going, self._unsaved, was_urgent = self._unsaved, set(), self._urgent
            self._urgent, self._kept_at = False, time.monotonic()
            mine = dict(self._exported or {})
        try:
            with self.state.begin() as con:
                stored = con.execute(select(setting.c.value).where(setting.c.name == _SETTING)).scalar() or {}
                merged = mine | {key: max(value, mine.get(key, value)) for key, value in stored.items()}
                row = {"name": _SETTING, "value": merged, "updated_at": self.clock.now(), "updated_by": "metrics"}
                upsert(con, setting, [row])
        except Exception:
            with self._lock:
                self._unsaved |= going
                self._urgent |= was_urgent
            raise
