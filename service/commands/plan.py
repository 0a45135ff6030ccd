"""llm-inference plan MODEL: how much memory a model would take and what would go where.

A dry run: only headers are read. Settings count as they do when the service loads the model; what
is said here comes before them. Exit codes: 0 it has a place, 1 it has none, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.catalog.configured import catalog_of
from service.catalog.gguf_header import GgufError
from service.errors import ServiceError
from service.fleet.calibration import Learnt
from service.fleet.constraints import PlacementError
from service.fleet.devices import RESERVE, gpus
from service.fleet.memory import ModelMemory
from service.fleet.model_layers import Unmeasurable, read_memory
from service.fleet.parameters import engine_params
from service.fleet.placed import Gpu, Placement, readable
from service.fleet.placement import place
from service.fleet.placer import calibrated, constraints_of
from service.fleet.sums import Need
from service.host_memory import host_memory
from service.model_settings import CacheType
from service.settings import Settings, SettingsError
from service.settings_sources import load

GIB: Final = 1 << 30
_SHARD: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
_CARDS: Final = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)(?:gib|gb|g)?", re.IGNORECASE)


def main(arguments: Sequence[str]) -> int:
    given = parser().parse_args(arguments)
    try:
        settings = load(
            {key: value for key in ("config", "model_dir") if (value := getattr(given, key))}
        )
        card = find(given.model, settings)
        model = read_memory(card.weights)
        params = with_flags(engine_params(card, settings), given)
        cards = gpus() if given.gpus is None else given.gpus
        host = host_memory().available if given.host_memory is None else given.host_memory
        constraints = constraints_of(params)
        learnt = Learnt(settings.state_dir / "calibration.json")
        placement = place(
            model, cards, host, constraints, learnt.ratio(calibrated(card, constraints))
        )
    except PlacementError as error:
        sys.stderr.write(f"llm-inference: {given.model} has no place: {error}\n")
        return 1
    except (SettingsError, ServiceError, GgufError, Unmeasurable, OSError) as error:
        sys.stderr.write(f"llm-inference: {error}\n")
        return 2
    if given.json:
        sys.stdout.write(json.dumps(as_json(card, model, placement), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(table(card, model, placement)) + "\n")
    return 0


def parser() -> argparse.ArgumentParser:
    types = get_args(CacheType)
    parser = argparse.ArgumentParser(
        prog="llm-inference plan",
        description="What a model would take and where it would go; nothing is loaded.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="A name that the catalogue knows, or a *.gguf file.")
    add("--context", type=int, metavar="TOKENS", help="Of all slots together.")
    add("--slots", type=int, metavar="N", help="Sequences at the same time.")
    add(
        "--gpus",
        type=cards_of,
        metavar="GIB,…",
        help="Free GiB of each: 8,8 or 24+8 or 4x8; 0: none.",
    )
    add("--host-memory", type=size_of, metavar="GIB", help="Free on the host.")
    add("--gpu-layers", type=int, metavar="N", help="The output counted as one.")
    add("--tensor-split", type=shares_of, metavar="A,B,…", help="Shares of the GPUs.")
    add("--cache-type-k", choices=types, help="Type of cached keys.")
    add("--cache-type-v", choices=types, help="Type of cached values.")
    add("--flash-attention", choices=("auto", "on", "off"), help="auto counts as on.")
    add("--config", metavar="FILE", help="The service's settings.")
    add("--model-dir", nargs="+", metavar="DIR", help="Where to look for MODEL.")
    add("--json", action="store_true", help="The same as JSON, in bytes.")
    return parser


def with_flags(params: Any, given: argparse.Namespace) -> Any:
    flags = {
        "n_ctx": given.context,
        "n_seq": given.slots,
        "gpu_layers": given.gpu_layers,
        "tensor_split": given.tensor_split,
        "cache_type_k": given.cache_type_k,
        "cache_type_v": given.cache_type_v,
        "flash_attention": given.flash_attention,
    }
    if given.slots is not None and not 1 <= given.slots <= 256:
        raise PlacementError("slots", "must be from 1 to 256")
    return replace(params, **{key: value for key, value in flags.items() if value is not None})


def find(name: str, settings: Settings) -> ModelCard:
    """Raises ServiceError where there is no such model."""
    path = Path(name)
    if path.is_file():
        return ModelCard(
            name=path.stem,
            path=str(path),
            size_bytes=path.stat().st_size,
            modified=path.stat().st_mtime,
            source="directory",
            shards=tuple(map(str, shards_of(path))),
        )
    catalog = catalog_of(settings)
    catalog.refresh()
    return catalog.resolve(name)


def shards_of(path: Path) -> list[Path]:
    shard = _SHARD.fullmatch(path.name)
    if shard is None:
        return [path]
    stem, count = shard.groups()
    return [path.with_name(f"{stem}-{i:05d}-of-{count}.gguf") for i in range(1, int(count) + 1)]


def cards_of(text: str) -> tuple[Gpu, ...]:
    """`8,8`, `24+8 GiB` and `4x8`, in GiB free on each; `0` and `none` for none."""
    sizes: list[float] = []
    for part in re.split(r"[,+]", re.sub(r"\s", "", text).lower()):
        match = _CARDS.fullmatch(part)
        if part == "none":
            continue
        if match is None or int(match[1] or 1) > 64:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of sizes, such as 24,8")
        sizes += [float(match[2])] * int(match[1] or 1)
    return tuple(
        Gpu(index, "", f"{size:g} GiB", int(size * GIB), int(size * GIB), RESERVE)
        for index, size in enumerate(size for size in sizes if size)
    )


def size_of(text: str) -> int:
    match = _CARDS.fullmatch(text.replace(" ", ""))
    if match is None or match[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in GiB")
    return int(float(match[2]) * GIB)


def shares_of(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of shares") from None


def rows(placement: Placement) -> Iterator[tuple[str, Need, int | None]]:
    """(device, what it gets, what is free after)."""
    for gpu, share, left in zip(
        placement.gpus, placement.shares, placement.free_after, strict=True
    ):
        yield f"GPU {gpu.index} ({gpu.name})", share, left
    yield "host", placement.host, placement.host_free_after


def table(card: ModelCard, model: ModelMemory, placement: Placement) -> Iterator[str]:
    shape = placement.shape
    yield (
        f"{card.name}: {model.architecture}, {len(model.layers)} layers, "
        f"{readable(model.weights)} of weights, trained for {model.n_ctx_train} tokens"
    )
    yield (
        f"{placement.context} tokens of context for {shape.n_seq} slots "
        f"({'shared' if shape.unified else 'split'}), keys {shape.type_k}, values {shape.type_v}"
    )
    yield ""
    yield f"{'':22}{'layers':>8}{'weights':>12}{'cache':>12}{'compute':>12}{'free after':>13}"
    for device, need, left in rows(placement):
        layers = f"{len(need.layers)}{'+out' if need.output else ''}"
        sizes = "".join(
            f"{readable(size):>12}" for size in (need.weights, need.cache, need.compute)
        )
        yield f"{device:22}{layers:>8}{sizes}{readable(left) if left is not None else 'unknown':>13}"
    yield ""
    yield (
        f"gpu_layers {placement.gpu_layers}, split_mode {placement.split_mode}"
        + (
            f", tensor_split {','.join(f'{s:g}' for s in placement.tensor_split)}"
            if placement.tensor_split
            else ""
        )
        + (f", main_gpu {placement.main_gpu}" if placement.split_mode == "none" else "")
    )
    for reason in placement.reasons:
        yield f"- {reason}"


def as_json(card: ModelCard, model: ModelMemory, placement: Placement) -> dict[str, Any]:
    shape = placement.shape
    return {
        "model": card.name,
        "architecture": model.architecture,
        "layers": len(model.layers),
        "weights_bytes": model.weights,
        "context": {
            "tokens": placement.context,
            "trained": model.n_ctx_train,
            "slots": shape.n_seq,
            "layout": "unified" if shape.unified else "split",
            "cache_type_k": shape.type_k,
            "cache_type_v": shape.type_v,
            "flash_attention": shape.flash_attention,
        },
        "gpu_layers": placement.gpu_layers,
        "tensor_split": placement.tensor_split,
        "main_gpu": placement.main_gpu,
        "split_mode": placement.split_mode,
        "devices": [
            {
                "device": device,
                "layers": len(need.layers),
                "output": need.output,
                "weights_bytes": need.weights,
                "cache_bytes": need.cache,
                "compute_bytes": need.compute,
                "free_after_bytes": left,
            }
            for device, need, left in rows(placement)
        ],
        "limited_by": placement.limited_by,
        "reasons": placement.reasons,
    }
