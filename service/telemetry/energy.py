"""Each model's part of the energy that GPUs use, for the joules and the cost of a token.

What a GPU used between two scrapes goes to the models whose engines have memory on it, in shares of
the time that they computed meanwhile; so what it draws while it waits between their steps is theirs
too. Where none computed, it is nobody's. Without the energy of a GPU, or without the driver's word
on whose memory is whose (in a container that is not the engines' own), nothing is counted.

Lives on the event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from exporters.readings import GpusReading


class EnergyLedger:
    """`joules`: of each model, since the service began; of those that were ever seen on a GPU."""

    def __init__(self) -> None:
        self.joules: dict[str, float] = {}
        # Of each GPU's counter, the last reading that was another than the one before, and what had
        # been computed by then: scrapes may come faster than readings.
        self._last: dict[tuple[str, str], tuple[float, Mapping[str, float]]] = {}

    def add(
        self,
        gpus: GpusReading | None,
        engines: Mapping[int, str],
        computed: Mapping[str, float],
    ) -> None:
        """`engines`: the model of each engine's process; `computed`: seconds that each model has
        computed, since the service began."""
        computed = dict(computed)
        for gpu in gpus.gpus if gpus is not None else ():
            present = {engines[p.pid] for p in gpu.processes or () if p.pid in engines}
            for source, joules in gpu.energy.items():
                self._spend((gpu.uuid, source), joules, present, computed)

    def _spend(
        self,
        counter: tuple[str, str],
        joules: float,
        present: Collection[str],
        computed: Mapping[str, float],
    ) -> None:
        before, earlier = self._last.get(counter, (joules, computed))
        if joules == before and counter in self._last:
            return
        self._last[counter] = joules, computed
        spent = {model: computed.get(model, 0.0) - earlier.get(model, 0.0) for model in present}
        for model, share in shares(present, spent).items():
            # A driver that was loaded anew counts from the beginning.
            part = max(0.0, joules - before) * share
            self.joules[model] = self.joules.get(model, 0.0) + part


def shares(models: Collection[str], spent: Mapping[str, float]) -> dict[str, float]:
    """Of each model in what they used together; 0 of each where none computed."""
    total = sum(spent.get(model, 0.0) for model in models)
    return {model: spent.get(model, 0.0) / total if total else 0.0 for model in models}
