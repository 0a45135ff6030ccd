"""What llama.cpp itself would take for a model, without taking it: a process of its own.

    python -m tests.fleet.llama_buffers FILE    reads a JSON list of contexts, writes one of figures

`no_alloc` makes it lay everything out and allocate nothing; the sizes are in its log.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.fleet.memory import ContextShape

MIB = 1 << 20
_CELLS = re.compile(r"llama_kv_cache\w*: size = +([\d.]+) MiB")
_STATES = re.compile(r"recurrent: size = +([\d.]+) MiB")
_COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")


def simulate(path: Path, shapes: Sequence[ContextShape]) -> list[dict[str, float]]:
    """Bytes of cells and states (`cache`) and of the compute buffer, for each context."""
    ran = subprocess.run(
        (sys.executable, "-m", "tests.fleet.llama_buffers", str(path)),
        input=json.dumps([asdict(shape) for shape in shapes]),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    figures: list[dict[str, float]] = json.loads(ran.stdout.splitlines()[-1])
    return figures


def _simulate(path: str, shapes: list[dict[str, Any]]) -> list[dict[str, float]]:
    import llama_cpp as llama

    lines: list[str] = []

    @llama.llama_log_callback  # type: ignore[untyped-decorator]
    def log(_: int, text: bytes, __: Any) -> None:
        lines.append(text.decode("utf-8", "replace"))

    llama.llama_log_set(log, None)
    llama.llama_backend_init()
    settings = llama.llama_model_default_params()
    settings.no_alloc = True
    settings.load_mode = llama.LLAMA_LOAD_MODE_NONE
    model = llama.llama_model_load_from_file(path.encode(), settings)
    if not model:
        raise SystemExit("".join(lines[-5:]))
    figures = []
    for shape in shapes:
        lines.clear()
        context = llama.llama_init_from_model(model, _params(llama, shape))
        if not context:
            raise SystemExit("".join(lines[-5:]))
        llama.llama_free(context)
        said = "".join(lines)
        cache = [*_CELLS.findall(said), *_STATES.findall(said)]
        (compute,) = _COMPUTE.findall(said)
        figures.append({"cache": sum(map(float, cache)) * MIB, "compute": float(compute) * MIB})
    return figures


def _params(llama: Any, shape: dict[str, Any]) -> Any:
    types = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0, "q4_0": llama.GGML_TYPE_Q4_0}
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_seq_max = shape["n_ctx"], shape["n_seq"]
    params.n_batch, params.n_ubatch = 2048, shape["n_ubatch"]
    params.n_outputs_max = shape["n_outputs"]
    params.kv_unified = shape["unified"]
    params.flash_attn_type = int(shape["flash_attention"])
    params.type_k, params.type_v = types[shape["type_k"]], types[shape["type_v"]]
    params.swa_full = shape["swa_full"]
    params.no_perf = True
    return params


if __name__ == "__main__":
    print(json.dumps(_simulate(sys.argv[1], json.load(sys.stdin))))  # noqa: T201
