"""What loads really took for each byte that was predicted, so that the next prediction is better.

`Calibration` is pure; `Learnt` keeps one in a file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from service.whole_file import write_whole

# A load that took less than half or more than twice of what was predicted was disturbed: another
# process took or gave back memory meanwhile.
LEAST: Final = 0.5
MOST: Final = 2.0
# Of the newest load; what was known before keeps the rest.
WEIGHT: Final = 0.5
# Of models and configurations; those that were not loaded for longest go.
MANY: Final = 256

logger = logging.getLogger(__name__)


class Calibration(Struct, frozen=True):
    """Ratios of bytes taken to bytes predicted, by model and configuration (`key`)."""

    ratios: Mapping[str, float] = field(default_factory=dict)

    def observe(self, key: str, predicted: int, taken: int) -> Calibration:
        """`predicted` is what was estimated without any ratio. A disturbed load changes nothing."""
        if predicted <= 0 or not LEAST <= (ratio := taken / predicted) <= MOST:
            return self
        known = self.ratios.get(key)
        better = ratio if known is None else known + WEIGHT * (ratio - known)
        others = [(other, kept) for other, kept in self.ratios.items() if other != key]
        return replace(self, ratios=dict([*others[1 - MANY :], (key, better)]))

    def ratio(self, key: str) -> float:
        """1.0 where nothing was observed."""
        return self.ratios.get(key, 1.0)


def key_of(path: str, type_k: str, type_v: str, *, flash_attention: bool, device: str) -> str:
    """What changes the ratio: the file, how its cells are kept, and the kind of device."""
    return "|".join((path, type_k, type_v, "flash" if flash_attention else "plain", device))


class Learnt:
    """From any thread. What cannot be read is forgotten: it is learnt again with the next load."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = Lock()
        self._calibration = Calibration() if path is None else read(path)

    def ratio(self, key: str) -> float:
        return self._calibration.ratio(key)

    def observe(self, key: str, predicted: int, taken: int) -> None:
        with self._lock:
            before, self._calibration = (
                self._calibration,
                self._calibration.observe(key, predicted, taken),
            )
            if self._path is not None and self._calibration != before:
                self._write(self._path)

    def _write(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, msgspec.json.encode(self._calibration), lasting=False)
        except OSError as error:
            logger.warning("what loads took is not kept: %s", error.strerror)


def read(path: Path) -> Calibration:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except FileNotFoundError:
        return Calibration()
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        logger.info("what loads took is learnt anew: %s", error)
        return Calibration()
