"""The file systems that models are kept on: only those of directories that were named."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import Metric

from exporters.collector import Family, SampledCollector, one
from exporters.readings import StoreReading
from exporters.sampler import Sampler

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 10.0

Store = Family[StoreReading]

FAMILIES: Final = (
    Store(
        "llm_model_store_size_bytes",
        "Size of the file system that a directory of models is on.",
        (),
        one(lambda store: store.size),
    ),
    Store(
        "llm_model_store_free_bytes",
        "What is free there for an ordinary user.",
        (),
        one(lambda store: store.free),
    ),
)


class DiskCollector(SampledCollector[tuple[StoreReading, ...]]):
    """A directory that does not exist has no samples, and may be made later."""

    def __init__(self, directories: Sequence[Path], interval: float = INTERVAL_SECONDS) -> None:
        self._directories = tuple(dict.fromkeys(directories))
        super().__init__(Sampler("disk", self._read, interval=interval, stale_after=5 * interval))

    def _read(self) -> tuple[StoreReading, ...]:
        return tuple(filter(None, map(store, self._directories)))

    def families(self, value: tuple[StoreReading, ...] | None) -> Iterator[Metric]:
        readings = [((reading.path,), reading) for reading in value or ()]
        for family in FAMILIES:
            yield family.of(readings, ("path",))


def store(directory: Path) -> StoreReading | None:
    try:
        found = os.statvfs(directory)
    except OSError as error:
        logger.debug("The file system of %s cannot be asked: %s", directory, error)
        return None
    size = found.f_frsize
    return StoreReading(str(directory), found.f_blocks * size, found.f_bavail * size)
