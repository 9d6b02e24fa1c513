"""A simulated text-to-speech service: texts, audio versions, and the events its application records.

What belongs here: tables ``tts_texts``, ``tts_audios`` and ``mp_task_events`` (E-512) of the tts preset, with a timeout
sweeper that is never called from an instant on. What does not: the other platforms.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitoring_pipelines.demo.eventloop import Changes, EventLoop, Row, day_curve, scramble
from monitoring_pipelines.demo.scale import DAY_MS, MINUTE_MS, Faults

_LIMIT_MS = 2_400_000
_WORKERS = 4
#: From the fault on, a text that the engine never answers comes this often.
_HANG_EVERY_MS = 25 * MINUTE_MS
_ERRORS = ("ffmpeg exited with code 1", "语音引擎返回空音频", "HTTP 429 from the voice service")


@dataclass(eq=False, slots=True)
class _Text:
    number: int
    user: int
    created: int
    updated: int
    written: bool = False


class Speech(EventLoop):
    """Texts become audio files; what happens to them is known from recorded events only."""

    database = "tts"

    def __init__(self, seed: int, start_ms: int, texts_per_day: float, faults: Faults) -> None:
        super().__init__(seed, start_ms)
        self.faults = faults
        self._arrivals = texts_per_day / DAY_MS
        self._number = self._audio = self._event = 0
        self._changed: dict[_Text, None] = {}
        self._hanging: dict[_Text, int] = {}
        self.at(start_ms + 2_000, self._arrive)
        self.at(start_ms + MINUTE_MS, self._sweep)
        first = max(start_ms, faults.sweeper_stuck_at)
        self.at(first + _HANG_EVERY_MS, self._arrive_to_hang)

    def _arrive(self) -> None:
        self._submit(hangs=self.rng.random() < 0.01)
        self.at(self.now + 1 + int(self.rng.expovariate(self._arrivals * day_curve(self.now))), self._arrive)

    def _arrive_to_hang(self) -> None:
        self.at(self.now + _HANG_EVERY_MS, self._arrive_to_hang)
        self._submit(hangs=True)

    def _submit(self, *, hangs: bool) -> None:
        self._number += 1
        text = _Text(self._number, 1 + scramble(self._number) % 40, self.now, self.now)
        self._changed[text] = None
        self._record(text, "created", None)
        self.at(self.now + self.rng.randint(300, 20_000), self._start, text, hangs)

    def _start(self, text: _Text, hangs: bool) -> None:
        rng = self.rng
        worker = f"gunicorn-{rng.randrange(_WORKERS)}"
        self._record(text, "started", worker)
        if hangs:
            self._hanging[text] = self.now
            return
        outcome = "failed" if rng.random() < 0.03 else "completed"
        self.at(self.now + 2_000 + int(rng.lognormvariate(9.9, 0.6)), self._finish, text, outcome, worker)

    def _finish(self, text: _Text, outcome: str, worker: str) -> None:
        rng = self.rng
        if outcome == "completed" and rng.random() > 0.004:  # a lost file now and then (C-101)
            self._save(text, 1, rng.randint(700, 4_800) if rng.random() < 0.006 else rng.randint(60_000, 2_400_000))
        self._record(text, outcome, worker, rng.choice(_ERRORS) if outcome == "failed" else None)
        text.updated = self.now
        self._changed[text] = None
        if outcome == "completed" and rng.random() < 0.05:
            self.at(self.now + rng.randint(60_000, 900_000), self._save, text, 2, rng.randint(60_000, 2_400_000))

    def _sweep(self) -> None:
        """End texts over the limit once a minute; from the fault on nobody calls it, and they stay in processing."""
        self.at(self.now + MINUTE_MS, self._sweep)
        if self.now >= self.faults.sweeper_stuck_at:
            return
        for text in [text for text, started in self._hanging.items() if self.now - started > _LIMIT_MS]:
            del self._hanging[text]
            self._record(text, "timeout", None, "timeout after 2400 s")
            text.updated = self.now
            self._changed[text] = None

    def _save(self, text: _Text, version: int, size: int) -> None:
        self._audio += 1
        name = f"{text.number}_v{version}.mp3"
        at = self.text(self.now)
        self.insert("tts_audios", (self._audio, text.number, version, name, f"audio/{name}", size, 0, at, at))

    def _record(self, text: _Text, kind: str, worker: str | None, error: str | None = None) -> None:
        self._event += 1
        key = f"{scramble(self._event):016x}"
        self.insert(
            "mp_task_events", (self._event, key, str(text.number), "tts", kind, self.text(self.now), worker, error)
        )

    def take(self) -> Changes:
        """Audio files and events since the last call, and the present state of changed texts."""
        changes = super().take()
        for text in self._changed:
            target = changes.updates if text.written else changes.inserts
            target.setdefault("tts_texts", []).append(self._row(text))
            text.written = True
        self._changed = {}
        return changes

    def _row(self, text: _Text) -> Row:
        content = f"演示文本 {text.number}，不会被读取。"
        return (text.number, text.user, content, 0, self.text(text.created), self.text(text.updated))
