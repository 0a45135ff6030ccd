"""Each model's part of the energy that GPUs use, for the joules and the cost of a token.

What a GPU used between two scrapes goes to the models whose engines have memory on it, in shares of
the time that they computed meanwhile; so what it draws while it waits between their steps is theirs
too. Where none computed, it is nobody's. Without the energy of a GPU, or where it is not known
whose memory is on it, nothing is counted. What it costs is counted at the price of that moment: a
price that changes says nothing of what was used before.

Lives on the event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

from exporters.readings import GpusReading

JOULES_PER_KWH: Final = 3_600_000


class EnergyLedger:
    """`joules`: of each model, since the service began; of those that were ever seen on a GPU.
    `cost`: of what they used while there was a price, in its currency."""

    def __init__(self) -> None:
        self.joules: dict[str, float] = {}
        self.cost: dict[str, float] = {}
        # Of each GPU's counter, the last reading that was another than the one before, and what had
        # been computed by then: scrapes may come faster than readings.
        self._last: dict[tuple[str, str], tuple[float, Mapping[str, float]]] = {}

    def add(
        self,
        gpus: GpusReading | None,
        engines: Mapping[str, Collection[str]],
        computed: Mapping[str, float],
        price_per_kwh: Decimal | None = None,
    ) -> None:
        """`engines`: the models whose engines are on a GPU, by its UUID; `computed`: seconds that
        each model has computed, since the service began."""
        computed = dict(computed)
        price = None if price_per_kwh is None else float(price_per_kwh) / JOULES_PER_KWH
        for gpu in gpus.gpus if gpus is not None else ():
            for source, joules in gpu.energy.items():
                counter, present = (gpu.uuid, source), engines.get(gpu.uuid, ())
                for model, part in self._spent(counter, joules, present, computed).items():
                    self.joules[model] = self.joules.get(model, 0.0) + part
                    if price is not None:
                        self.cost[model] = self.cost.get(model, 0.0) + part * price

    def _spent(
        self,
        counter: tuple[str, str],
        joules: float,
        present: Collection[str],
        computed: Mapping[str, float],
    ) -> dict[str, float]:
        """Of each model, since the reading before; empty where this is the same one."""
        before, earlier = self._last.get(counter, (joules, computed))
        if joules == before and counter in self._last:
            return {}
        self._last[counter] = joules, computed
        worked = {model: computed.get(model, 0.0) - earlier.get(model, 0.0) for model in present}
        # A driver that was loaded anew counts from the beginning.
        used = max(0.0, joules - before)
        return {model: used * share for model, share in shares(present, worked).items()}


def shares(models: Collection[str], spent: Mapping[str, float]) -> dict[str, float]:
    """Of each model in what they used together; 0 of each where none computed."""
    total = sum(spent.get(model, 0.0) for model in models)
    return {model: spent.get(model, 0.0) / total if total else 0.0 for model in models}
