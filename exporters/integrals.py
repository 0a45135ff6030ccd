"""Totals of what older cards only tell at a moment: energy from power, and seconds of throttling."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec

from exporters.readings import GpuReading, GpusReading

# After a longer pause nobody knows what was in between.
LONGEST_GAP_SECONDS: Final = 10.0


class Integrals:
    """Each interval counts with what was read at its end, which errs by half of it at a change."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._joules: dict[str, float] = {}
        self._throttled: defaultdict[str, dict[str, float]] = defaultdict(dict)
        # A driver that counts once and is silent then: its count and ours are not the same counter.
        self._counted: set[tuple[str, str]] = set()

    def complete(self, reading: GpusReading, now: float) -> GpusReading:
        """`now` in monotonic seconds."""
        seconds = 0.0 if self._at is None else now - self._at
        self._at = now
        if seconds > LONGEST_GAP_SECONDS:
            seconds = 0.0
        gpus = tuple(self._gpu(gpu, seconds) if gpu.up else gpu for gpu in reading.gpus)
        return msgspec.structs.replace(reading, gpus=gpus)

    def _gpu(self, gpu: GpuReading, seconds: float) -> GpuReading:
        return msgspec.structs.replace(
            gpu,
            energy=self._energy(gpu, seconds),
            throttle_seconds=self._throttle(gpu, seconds),
        )

    def _energy(self, gpu: GpuReading, seconds: float) -> dict[str, float]:
        if "nvml" in gpu.energy:
            self._counted.add((gpu.uuid, "energy"))
            return dict(gpu.energy)
        if gpu.power is None or (gpu.uuid, "energy") in self._counted:
            return {}
        joules = self._joules.get(gpu.uuid, 0.0) + gpu.power * seconds
        self._joules[gpu.uuid] = joules
        return {"integrated": joules}

    def _throttle(self, gpu: GpuReading, seconds: float) -> dict[str, float]:
        totals = dict(gpu.throttle_seconds)
        self._counted.update((gpu.uuid, reason) for reason in totals)
        ours = self._throttled[gpu.uuid]
        for reason, active in gpu.throttle.items():
            if (gpu.uuid, reason) not in self._counted:
                ours[reason] = ours.get(reason, 0.0) + seconds * active
                totals[reason] = ours[reason]
        return totals
