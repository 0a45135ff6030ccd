"""`llm-inference plan`: sums for large models on small machines, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.cli import main
from service.commands.plan import cards_of, shards_of
from tests.fleet.model_headers import SHAPES, write

MIB = 1 << 20
GIB = 1 << 30

# Bytes, from the published shapes; Q4_K takes 144 bytes for 256 weights, Q6_K 210. A layer is
# attention (q, o: width², k, v: width x 1024) and feed-forward (3 x width x inner), in Q4_K, with
# two norms in f32; in some layers v and ffn_down are Q6_K. For 70B:
#   (2·8192² + 2·8192·1024 + 3·8192·28672)·144/256 + 2·8192·4, and (8192·1024 + 28672·8192)·66/256
PLAIN = {"7B": 122_716_160, "70B": 481_361_920, "405B": 1_793_196_032}
EXTRA = {"7B": 16_220_160, "70B": 62_717_952, "405B": 229_244_928}
# vocabulary · width, in Q6_K with a norm, and in Q4_K
OUTPUT = {"7B": 110_116_864, "70B": 861_913_088, "405B": 1_723_826_176}
INPUT = {"7B": 75_497_472, "70B": 591_003_648, "405B": 1_182_007_296}
LAYERS = {"7B": 32, "70B": 80, "405B": 126}
# 512 tokens · (3·inner + 4·width) · 4 bytes
WIDEST = {"7B": 116 * MIB, "70B": 232 * MIB, "405B": 440 * MIB}
# 512 tokens · width · 4 bytes
HIDDEN = {"7B": 8 * MIB, "70B": 16 * MIB, "405B": 32 * MIB}
# ffn_down in Q6_K: width · inner · 210/256
LARGEST = {"7B": 48_168_960, "70B": 192_675_840, "405B": 715_653_120}

MACHINES = {"4x8": 4 * [8], "2x24": 2 * [24], "24+8": [24, 8], "none": []}
# Layers on GPUs, the output counted: each GPU keeps 512 MiB for its driver.
PLACED = {
    ("7B", "4x8"): [33, 0, 0, 0],
    ("7B", "2x24"): [33, 0],
    ("7B", "24+8"): [0, 33],
    ("70B", "4x8"): [14, 14, 14, 13],
    ("70B", "2x24"): [41, 40],
    ("70B", "24+8"): [46, 13],
    ("405B", "4x8"): [3, 3, 3, 3],
    ("405B", "2x24"): [11, 12],
    ("405B", "24+8"): [11, 3],
}


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("headers")
    for name in PLAIN:
        write(folder / f"{name}.gguf", SHAPES[name])
    return folder


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def weights(name: str, first: int, count: int) -> int:
    """Of `count` blocks from `first` on; llama-quantize gives the first eighth, the last, and
    every third between more bits."""
    eighth = LAYERS[name] // 8
    better = [
        i < eighth or i >= 7 * eighth or (i - eighth) % 3 == 2 for i in range(first, first + count)
    ]
    return count * PLAIN[name] + sum(better) * EXTRA[name]


@pytest.mark.parametrize(("name", "machine"), PLACED)
def test_every_device_gets_what_was_worked_out(
    name: str, machine: str, headers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(
        capsys,
        str(headers / f"{name}.gguf"),
        "--gpus",
        machine,
        "--context",
        "8192",
        "--slots",
        "4",
    )
    counts = PLACED[name, machine]
    mask = 8192 * 512 * 2
    first = LAYERS[name] + 1 - sum(counts)
    whole, alone = first == 0, sum(count > 0 for count in counts) == 1
    copies = 4 if whole and not alone else 1

    *cards, host = plan["devices"]
    visited = False
    at = first
    for card, count, size in zip(cards, counts, MACHINES[machine], strict=True):
        output = count > 0 and at + count == LAYERS[name] + 1
        blocks = count - output
        taken = 0
        if count:
            taken = WIDEST[name] + mask + copies * (HIDDEN[name] + mask)
            taken += 0 if visited or whole else LARGEST[name]
            visited = True
        assert card["layers"] == blocks
        assert card["output"] is output
        assert card["weights_bytes"] == weights(name, at, blocks) + output * OUTPUT[name]
        assert card["cache_bytes"] == blocks * 8192 * 2 * 1024 * 2
        assert card["compute_bytes"] == taken
        left = size * GIB - card["weights_bytes"] - card["cache_bytes"] - taken
        assert card["free_after_bytes"] == left
        assert left >= 512 * MIB
        at += count

    assert host["layers"] == first
    assert host["weights_bytes"] == INPUT[name] + weights(name, 0, first)
    assert host["cache_bytes"] == first * 8192 * 2 * 1024 * 2


@pytest.mark.parametrize("name", PLAIN)
def test_without_a_gpu_the_host_has_it_all(
    name: str, headers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(headers / f"{name}.gguf")
    plan = planned(capsys, path, "--gpus", "none", "--host-memory", "400", "--context", "8192")

    (host,) = plan["devices"]
    assert (host["layers"], host["output"], plan["gpu_layers"]) == (LAYERS[name], True, 0)
    assert host["weights_bytes"] == plan["weights_bytes"]
    assert host["weights_bytes"] == (INPUT[name] + weights(name, 0, LAYERS[name]) + OUTPUT[name])


def test_a_table_is_for_people(headers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(headers / "70B.gguf"), "--gpus", "24+24 GiB"]) == 0

    shown = capsys.readouterr().out
    assert ["GPU", "1", "(24", "GiB)", "39+out"] in [
        line.split()[:5] for line in shown.splitlines()
    ]
    assert "split_mode layer, tensor_split 41,40" in shown


def test_the_catalogues_names_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, "demo", "--gpus", "0", "--slots", "2", "--cache-type-k", "q8_0")

    assert plan["model"] == "demo:latest"
    assert (plan["context"]["slots"], plan["context"]["cache_type_k"]) == (2, "q8_0")


def test_a_models_own_settings_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("parallel_slots: 3\nmodels:\n  demo:\n    context_size: 1024\n")
    plan = planned(capsys, "demo", "--gpus", "0", "--config", str(config))

    assert (plan["context"]["tokens"], plan["context"]["slots"]) == (1024, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nosuch"], 2, "nosuch"),
        (["demo", "--config", "/nowhere.yaml"], 2, "config"),
        (["demo", "--gpus", "8", "--tensor-split", "1,1"], 1, "tensor_split: 2 shares for 1 GPUs"),
        (["demo", "--gpus", "8", "--tensor-split", "0"], 1, "tensor_split: at least one"),
        (["demo", "--slots", "0"], 1, "slots"),
        (["demo", "--cache-type-v", "q8_0", "--flash-attention", "off"], 1, "cache_type_v"),
        (["demo", "--context", "1000000000", "--host-memory", "1"], 1, "context_size: 1000000000"),
    ],
)
def test_what_cannot_be_is_said(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x", "8,,8", "-8", "8;8", "99x8"])
def test_a_list_of_gpus_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "demo", "--gpus", text])


def test_gpus_are_written_in_several_ways() -> None:
    for text in ("8,8,8,8", "4x8", "8+8,2x8", "8GiB, 8 GiB, 8gb, 8G"):
        assert [card.free for card in cards_of(text)] == 4 * [8 * GIB]
    assert cards_of("0") == cards_of("none") == ()


def test_a_shard_stands_for_all() -> None:
    first = Path("/m/big-00001-of-00003.gguf")

    assert [path.name for path in shards_of(first)] == [
        f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)
    ]
