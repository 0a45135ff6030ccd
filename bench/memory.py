"""python -m bench.memory: what loads take, against what was predicted; writes docs/memory.md.

Each configuration is loaded by an engine's own code in a process of its own. Taken are the sizes of
llama.cpp's buffers, in its own words; beside them how much anonymous memory the process has gained
after a full batch, as the kernel counts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bench.paths import ROOT
from bench.shapes import SHAPES, model
from service.catalog import demo

PAGE = ROOT / "docs" / "memory.md"
MARK = "<!-- python -m bench.memory writes what follows -->\n"
MIB = 1 << 20
SLOTS = (1, 8)
# Keys, values, flash attention: values in blocks need it.
KINDS = (("f16", "f16", "on"), ("f16", "f16", "off"), ("q8_0", "q8_0", "on"))


@dataclass(frozen=True)
class Load:
    model: str
    n_ctx: int
    n_seq: int
    cache_type_k: str
    cache_type_v: str
    flash_attention: str

    @property
    def path(self) -> Path:
        return demo.PATH if self.model == "demo" else model(self.model)


@dataclass(frozen=True)
class Sums:
    """In bytes. `copied` are weights that are kept a second time in another order."""

    weights: int
    cache: int
    compute: int
    copied: int = 0
    anonymous: int = 0


def loads(names: tuple[str, ...] = ("demo", "15M", "0.5B", "1.1B")) -> Iterator[Load]:
    for name, n_ctx, n_seq, kind in product(names, (4096, 16384), SLOTS, KINDS):
        # A head of 48 is no whole number of blocks of 32.
        if name != "15M" or kind[0] == "f16":
            yield Load(name, n_ctx, n_seq, *kind)


def predicted(load: Load) -> Sums:
    from service.fleet.memory import (
        ContextShape,
        cache_bytes,
        layer_compute,
        logits_bytes,
        output_compute,
    )
    from service.fleet.model_layers import read_memory

    memory = read_memory([load.path])
    unified = load.n_seq > 1 and load.n_ctx // load.n_seq < memory.n_ctx_train
    shape = ContextShape(
        load.n_ctx,
        load.n_seq,
        unified or load.n_seq == 1,
        n_outputs=load.n_seq + 32,
        type_k=load.cache_type_k,
        type_v=load.cache_type_v,
        flash_attention=load.flash_attention == "on",
    )
    compute = max(layer_compute(memory, shape), output_compute(memory, shape))
    cache = sum(cache_bytes(memory, layer, shape) for layer in memory.layers)
    return Sums(memory.weights, cache, compute + logits_bytes(memory, shape))


def taken(load: Load) -> Sums:
    ran = subprocess.run(
        (sys.executable, "-m", "bench.memory", "--load", json.dumps(asdict(load))),
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return Sums(**json.loads(ran.stdout))


def _take(load: Load) -> Sums:
    import numpy as np

    from service.engine.batch import Batch
    from service.engine.llama import LlamaModel
    from service.engine.wire import EngineParams

    settings = {k: v for k, v in asdict(load).items() if k != "model"}
    path = str(load.path)
    before = _anonymous()
    engine = LlamaModel(EngineParams(path, **settings), lambda fraction: None)
    batch = Batch(engine.facts.n_batch)
    tokens = np.ones(min(batch.capacity, engine.facts.n_ctx_seq), np.int32)
    batch.add_prompt(tokens, 0, 0, last=True, every=False)
    engine.decode(batch)
    sums: dict[str, int] = {}
    for buffer in engine.facts.buffers:
        kind = "copied" if buffer.device == "CPU_REPACK" else buffer.kind
        sums[kind] = sums.get(kind, 0) + buffer.bytes
    return Sums(
        weights=sums["weights"],
        cache=sums.get("cells", 0) + sums.get("states", 0),
        compute=sums["compute"] + sums.get("output", 0),
        copied=sums.get("copied", 0),
        anonymous=_anonymous() - before,
    )


def _anonymous() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    return 0


def rows() -> Iterator[str]:
    yield "| model | context | slots | cells | flash | cache | compute | whole | copied | anonymous |"
    yield "|---|---:|---:|---|---|---:|---:|---:|---:|---:|"
    for load in loads():
        guess, real = predicted(load), taken(load)
        whole = [s.weights + s.cache + s.compute for s in (guess, real)]
        pairs = [(guess.cache, real.cache), (guess.compute, real.compute), (whole[0], whole[1])]
        yield (
            f"| {load.model} | {load.n_ctx} | {load.n_seq} | {load.cache_type_k} "
            f"| {load.flash_attention} | "
            + " | ".join(_pair(a, b) for a, b in pairs)
            + f" | {real.copied / MIB:.1f} | {real.anonymous / MIB:.1f} |"
        )


def _pair(guess: int, real: int) -> str:
    return f"{guess / MIB:.1f} / {real / MIB:.1f} ({guess / real - 1:+.1%})"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--load"]:
        given: dict[str, Any] = json.loads(arguments[1])
        sys.stdout.write(json.dumps(asdict(_take(Load(**given)))))
        return
    head, _, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(head + MARK + "\n" + "\n".join(rows()) + "\n")


if __name__ == "__main__":
    assert {"15M", "0.5B", "1.1B"} <= SHAPES.keys()
    main(sys.argv[1:])
