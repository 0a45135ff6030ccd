"""What was analysed, changed, judged, dismissed and tried: in lines of JSON that are only added.

    optimization/history.jsonl      the newest
    optimization/history.1.jsonl    those before, until they are forgotten

A line that cannot be read (the disk was full, the machine stopped while it was written) is skipped
and counted; so is one of a kind that this version does not know.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean, median
from typing import Final

import msgspec

from service.control.advice import Learned
from service.control.records import AnyRecord, Dismissed, Judged
from service.errors import StateNotWritten

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 2 << 20
# In memory too, so that nobody who asks waits for the disk.
MAX_RECORDS: Final = 10_000
# A line is some hundred bytes; a longer one is none of ours.
MAX_LINE: Final = 64 << 10

_decoder: Final = msgspec.json.Decoder(AnyRecord)


class History:
    """`add` may be called from any thread, and waits for the disk; what is read is in memory."""

    def __init__(self, folder: Path, *, most: int = MAX_BYTES) -> None:
        self.skipped = 0
        self._folder = folder
        self._most = most
        self._lock = threading.Lock()
        self._records: deque[AnyRecord] = deque(maxlen=MAX_RECORDS)
        # Final verdicts by (rule, hardware) and change: (metric, ratio).
        self._ratios: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
        for path in (self._older, self._newer):
            for record in self._read(path):
                self._take(record)

    @property
    def _newer(self) -> Path:
        return self._folder / "history.jsonl"

    @property
    def _older(self) -> Path:
        return self._folder / "history.1.jsonl"

    def add(self, record: AnyRecord) -> None:
        """Raises StateNotWritten, and the record is then in memory only."""
        with self._lock:
            self._take(record)
            try:
                self._rotate()
                self._append(record)
            except OSError as error:
                raise StateNotWritten(
                    f"The history of optimisation cannot be written: {error.strerror or error}."
                ) from None

    def records(self) -> list[AnyRecord]:
        """Oldest first."""
        with self._lock:
            return list(self._records)

    def verdict(self, id: str) -> Judged | None:
        """The last one of a change."""
        return next(
            (r for r in reversed(self.records()) if isinstance(r, Judged) and r.change == id), None
        )

    def dismissed(self, now: float) -> dict[str, Dismissed]:
        """Advice that is not wanted at the moment, by its id."""
        last = {r.id: r for r in self.records() if isinstance(r, Dismissed)}
        return {id: r for id, r in last.items() if r.until is None or r.until > now}

    def learned(self, rule: str, hardware: str) -> Learned | None:
        """What the rule's applications did on this hardware. Those that another change disturbed
        say nothing of it."""
        with self._lock:
            ratios = list(self._ratios.get((rule, hardware), {}).values())
        if not ratios:
            return None
        metric = ratios[-1][0]
        same = [ratio for of, ratio in ratios if of == metric]
        return Learned(metric, middle(same), len(same))

    def _take(self, record: AnyRecord) -> None:
        self._records.append(record)
        if isinstance(record, Judged) and record.final and record.rule is not None:
            effect = record.effects.get(record.metric)
            if effect is not None and record.confounded_by is None:
                ratios = self._ratios.setdefault((record.rule, record.hardware), {})
                ratios[record.change] = record.metric, effect.ratio

    def _append(self, record: AnyRecord) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        line = msgspec.json.encode(record) + b"\n"
        handle = os.open(self._newer, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            # The last line may have been cut; what comes after it must not be cut with it.
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                line = b"\n" + line
            if file.write(line) != len(line):
                raise OSError("the disk took a part of it")

    def _rotate(self) -> None:
        try:
            if self._newer.stat().st_size < self._most:
                return
        except FileNotFoundError:
            return
        os.replace(self._newer, self._older)
        # What is still in force is not forgotten with the rest.
        last = {r.id: r for r in self._records if isinstance(r, Dismissed)}
        for dismissed in last.values():
            self._append(dismissed)

    def _read(self, path: Path) -> Iterator[AnyRecord]:
        try:
            with path.open("rb") as file:
                while line := file.readline(MAX_LINE):
                    try:
                        yield _decoder.decode(line)
                    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                        self.skipped += 1
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("the history of optimisation cannot be read: %s", error.strerror)
        finally:
            if self.skipped:
                logger.warning("%d lines of %s cannot be read", self.skipped, path.name)


def middle(ratios: list[float]) -> float:
    """The median; of an even number the two in the middle are multiplied, as ratios are."""
    ordered = sorted(ratios)
    half = len(ordered) // 2
    return median(ordered) if len(ordered) % 2 else geometric_mean(ordered[half - 1 : half + 1])


def measured_here(learned: Learned | None) -> str:
    """For people: the change of the metric, in per cent."""
    if learned is None:
        return "not measured on this machine"
    times = f"{learned.applications} application" + ("s" if learned.applications != 1 else "")
    return f"measured here: {100 * (learned.ratio - 1):+.0f} % ({times})"
