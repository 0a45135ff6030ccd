"""Where a model goes: which layers on which GPU, which on the host, with how much context. Pure.

llama.cpp counts layers so: the n blocks in order, then the output as one more. `gpu_layers` takes
the last of them; `tensor_split` deals those out to the GPUs in order, in contiguous runs. So a
split into counts of layers is exact, and the output is on the last GPU that has any.

(1) Whole on one GPU where it fits, the one that it fills best; so that models spread over GPUs.
(2) Else over several, by layers, so that as much as possible is left free on the fullest.
(3) Else as many layers as fit, the last ones first; the rest is computed by the CPU.
A number of layers that was asked for goes the same ways but for (3): it is placed, or refused with
the numbers. More layers than there are mean all that fit, as 999 does wherever layers are counted.
A context that was asked for is given, or the placement refused with the numbers. One that was not
shrinks for the sake of (1) and (2) to `LEAST_CONTEXT`, no further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from service.context import choose_context, choose_layout, padded
from service.facts import SplitMode
from service.fleet.constraints import (
    Constraints,
    PlacementError,
    check,
    check_cache,
    chosen_layers,
)
from service.fleet.memory import ContextShape, ModelMemory, cell_bytes
from service.fleet.placed import Gpu, Placement, readable
from service.fleet.placement_reasons import limit_of, reasons_of
from service.fleet.sums import Need, counts_of, dealt, needs

LEAST_CONTEXT: Final = 8192
# Of a margin that is searched for.
_STEP: Final = 1 << 24


def place(
    model: ModelMemory,
    gpus: Sequence[Gpu],
    host_memory: int | None,
    constraints: Constraints,
    ratio: float = 1.0,
) -> Placement:
    """`ratio`: what was taken for each byte that was predicted (`calibration`). Raises
    PlacementError."""
    check(constraints, len(gpus))
    check_cache(constraints, model)
    return _Placing(model, tuple(gpus), host_memory, constraints, ratio).place()


@dataclass(frozen=True, slots=True)
class _Placing:
    model: ModelMemory
    gpus: tuple[Gpu, ...]
    host_memory: int | None
    constraints: Constraints
    ratio: float

    @property
    def everything(self) -> int:
        return len(self.model.layers) + 1

    @property
    def chosen(self) -> int | None:
        return chosen_layers(self.model, self.constraints)

    @property
    def wanted(self) -> int:
        return self.everything if self.chosen is None else self.chosen

    def place(self) -> Placement:
        constraints = self.constraints
        if not self.gpus or constraints.gpu_layers == 0:
            return self._on_host()
        if constraints.tensor_split or constraints.split_mode == "row":
            return self._as_constrained()
        found = None
        if constraints.split_mode != "layer":
            found = self._on_one()  # (1)
        if found is None and constraints.split_mode != "none":
            found = self._over_several()  # (2)
        if found is not None:
            return found
        gpus = self._single() if constraints.split_mode == "none" else self.gpus
        return self._partly(gpus) if self.chosen is None else self._refused(gpus)  # (3)

    # -- the three ways, and the user's

    def _on_one(self) -> Placement | None:
        found = []
        for position, gpu in enumerate(self.gpus):
            if self.constraints.main_gpu not in (None, position):
                continue
            counts = self._counts({position: self.wanted})
            for shape in self._shapes(gpu.usable):
                if self._fits(shape, counts, "none"):
                    found.append(self._placement(shape, counts, mode="none", main=position))
                    break
        # The most context; of equals the one with the least left over, then the first.
        return max(
            found,
            key=lambda p: (p.context, -p.free_after[p.main_gpu], -p.main_gpu),
            default=None,
        )

    def _over_several(self) -> Placement | None:
        for shape in self._shapes(sum(gpu.usable for gpu in self.gpus)):
            if counts := self._balanced(shape, self.wanted, self.gpus):
                return self._placement(shape, counts)
        return None

    def _partly(self, gpus: tuple[Gpu, ...]) -> Placement:
        shape = self._least()
        tries = (self._balanced(shape, count, gpus) for count in range(self.everything, 0, -1))
        counts = next(filter(None, tries), self._counts({}))
        used = [position for position, count in enumerate(counts) if count]
        if len(used) == 1 and self.constraints.split_mode != "layer":
            return self._placement(shape, counts, mode="none", main=used[0])
        return self._placement(shape, counts)

    def _on_host(self) -> Placement:
        memory = self.host_memory
        shape = self._least() if memory is None else self._shapes(memory)[0]
        return self._placement(shape, self._counts({}))

    def _as_constrained(self) -> Placement:
        constraints, layers = self.constraints, self.wanted
        mode: SplitMode = constraints.split_mode or "layer"
        main = constraints.main_gpu or 0
        for shape in self._shapes(sum(gpu.usable for gpu in self.gpus)):
            if constraints.tensor_split:
                share = (
                    *constraints.tensor_split,
                    *[0.0] * (len(self.gpus) - len(constraints.tensor_split)),
                )
                counts = counts_of(share, layers)
            else:
                share = ()
                counts = self._balanced(shape, layers, self.gpus) or self._by_free(self.gpus)
            if self._fits(shape, counts, mode, share):
                break
        if not self._fits(shape, counts, mode, share):
            raise self._refusal(shape, counts, mode, share)
        return self._placement(shape, counts, mode=mode, main=main, split=share)

    def _refused(self, gpus: tuple[Gpu, ...]) -> NoReturn:
        shape = self._shapes(sum(gpu.usable for gpu in gpus))[-1]
        raise self._refusal(shape, self._by_free(gpus), "none" if len(gpus) == 1 else "layer", ())

    # -- pieces

    def _single(self) -> tuple[Gpu, ...]:
        if self.constraints.main_gpu is not None:
            return (self.gpus[self.constraints.main_gpu],)
        return (max(self.gpus, key=lambda gpu: (gpu.usable, -gpu.index)),)

    def _counts(self, layers: dict[int, int]) -> tuple[int, ...]:
        return tuple(layers.get(position, 0) for position in range(len(self.gpus)))

    def _balanced(
        self, shape: ContextShape, layers: int, gpus: Sequence[Gpu]
    ) -> tuple[int, ...] | None:
        """The split that leaves the most on the GPU with the least left; None where none fits."""
        chosen = [gpu in gpus for gpu in self.gpus]
        room = [g.usable if c else 0 for g, c in zip(self.gpus, chosen, strict=True)]
        best = dealt(self.model, shape, room, layers, self.ratio)
        low, high = 0, max(room, default=0)
        while best is not None and high - low > _STEP:
            margin = (low + high) // 2
            counts = dealt(self.model, shape, [r - margin for r in room], layers, self.ratio)
            if counts:
                best, low = counts, margin
            else:
                high = margin
        return best

    def _by_free(self, gpus: Sequence[Gpu]) -> tuple[int, ...]:
        """By what is free, also where that does not suffice; alike where nothing is."""
        rooms = [gpu.usable if gpu in gpus else 0 for gpu in self.gpus]
        if not any(rooms):
            rooms = [1 if gpu in gpus else 0 for gpu in self.gpus]
        return counts_of(rooms, self.wanted)

    def _shapes(self, memory: int) -> list[ContextShape]:
        """From the context wanted down to the least; one alone where it was asked for."""
        model, constraints = self.model, self.constraints
        wanted = choose_context(
            constraints.context,
            n_seq=constraints.slots,
            n_ctx_train=model.n_ctx_train,
            bytes_per_token=cell_bytes(model, constraints.type_k, constraints.type_v),
            memory_bytes=memory,
        )
        contexts = [wanted]
        if constraints.context is None and self.gpus:
            least = min(LEAST_CONTEXT, padded(model.n_ctx_train))
            contexts = [max(wanted, least)]
            while contexts[-1] > least:
                contexts.append(max(padded(contexts[-1] // 2), least))
        return [self._shape(context) for context in contexts]

    def _least(self) -> ContextShape:
        least = min(LEAST_CONTEXT, padded(self.model.n_ctx_train))
        return self._shape(self.constraints.context or least)

    def _shape(self, n_ctx: int) -> ContextShape:
        constraints = self.constraints
        layout = choose_layout(
            constraints.kv_layout,
            n_ctx,
            n_seq=constraints.slots,
            n_ctx_train=self.model.n_ctx_train,
            windowed=self.model.window > 0,
        )
        return ContextShape(
            n_ctx=n_ctx,
            n_seq=constraints.slots,
            unified=layout == "unified" or constraints.slots == 1,
            n_ubatch=constraints.n_ubatch,
            n_outputs=constraints.n_outputs,
            type_k=constraints.type_k,
            type_v=constraints.type_v,
            flash_attention=constraints.flash_attention,
            prefix_cache=constraints.prefix_cache,
        )

    def _needs(
        self, shape: ContextShape, counts: Sequence[int], mode: SplitMode, split: Sequence[float]
    ) -> tuple[list[Need], Need]:
        rows = (split or counts) if mode == "row" else ()
        alone = mode == "none"
        return needs(self.model, shape, counts, rows=rows, alone=alone, ratio=self.ratio)

    def _fits(
        self,
        shape: ContextShape,
        counts: Sequence[int],
        mode: SplitMode = "layer",
        split: Sequence[float] = (),
    ) -> bool:
        shares, _ = self._needs(shape, counts, mode, split)
        return all(n.total <= gpu.usable for n, gpu in zip(shares, self.gpus, strict=True))

    def _refusal(
        self, shape: ContextShape, counts: Sequence[int], mode: SplitMode, split: Sequence[float]
    ) -> PlacementError:
        shares, _ = self._needs(shape, counts, mode, split)
        over = [
            f"GPU {gpu.index} would need {readable(need.total)}, and has {readable(gpu.usable)}"
            for need, gpu in zip(shares, self.gpus, strict=True)
            if need.total > gpu.usable
        ]
        field = "tensor_split" if self.constraints.tensor_split else "gpu_layers"
        if self.constraints.gpu_layers is None and not self.constraints.tensor_split:
            field = "split_mode"
        return PlacementError(field, f"with {shape.n_ctx} tokens of context {'; '.join(over)}")

    def _placement(
        self,
        shape: ContextShape,
        counts: Sequence[int],
        *,
        mode: SplitMode = "layer",
        main: int = 0,
        split: Sequence[float] = (),
    ) -> Placement:
        shares, host = self._needs(shape, counts, mode, split)
        layers = sum(counts)
        left = None if self.host_memory is None else self.host_memory - host.total
        self._check_host(shape, host)
        ways = tuple(split) or (tuple(map(float, counts)) if mode != "none" and layers else ())
        return Placement(
            gpu_layers=layers,
            tensor_split=ways if len(self.gpus) > 1 else (),
            main_gpu=main,
            split_mode=mode,
            shape=shape,
            gpus=self.gpus,
            shares=tuple(shares),
            host=host,
            host_free_after=left,
            limited_by=limit_of(self.model, self.constraints, self.gpus, shape, layers),
            reasons=tuple(
                reasons_of(
                    self.model, self.constraints, self.gpus, shape, counts, self.host_memory, host
                )
            ),
        )

    def _check_host(self, shape: ContextShape, host: Need) -> None:
        """Weights are pages of the file, which the kernel can drop; the rest has to be there."""
        needed = host.total - host.weights
        if self.host_memory is not None and needed > self.host_memory:
            raise PlacementError(
                "context_size",
                f"{shape.n_ctx} tokens take {readable(needed)} beside the weights, and "
                f"{readable(self.host_memory)} of the host's memory are free",
            )
