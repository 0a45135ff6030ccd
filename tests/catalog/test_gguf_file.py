from __future__ import annotations

import json
import random
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.catalog.card import RopeScaling
from service.catalog.demo import PATH
from service.catalog.gguf_file import GgufFile, describe
from tests.catalog.gguf_files import METADATA, gguf, text, value, write
from tests.catalog.stores import weights

pytest.importorskip("llama_cpp", reason="llama.cpp is asked what it reads")


def demo_with(**more: Any) -> bytes:
    """The demo model with other metadata: keys are `llama.` ones, their dots written as __."""
    data = PATH.read_bytes()
    keys = {"llama." + key.replace("__", "."): thing for key, thing in more.items()}
    if (length := keys.pop("llama.context_length", None)) is not None:
        name = text("llama.context_length")
        at = data.index(name) + len(name) + 4
        data = data[:at] + struct.pack("<I", length) + data[at + 4 :]
    added = b"".join(text(key) + value(thing) for key, thing in keys.items())
    # The tensors' bytes stay aligned as they are.
    frame = len(text("pad") + value(""))
    added += text("pad") + value("x" * (-(len(added) + frame) % 32))
    count = struct.unpack_from("<Q", data, 16)[0] + len(keys) + 1
    return data[:16] + struct.pack("<Q", count) + added + data[24:]


ROPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "long": {"context_length": 131072},
    "short": {"context_length": 32},
    "linear": {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
    "linear-of-2023": {"rope__scale_linear": 4.0},
    "yarn": {
        "context_length": 32768,
        "rope__scaling__type": "yarn",
        "rope__scaling__factor": 4.0,
        "rope__scaling__original_context_length": 8192,
    },
    "yarn-finetuned": {
        "rope__scaling__type": "yarn",
        "rope__scaling__factor": 8.0,
        "rope__scaling__finetuned": True,
    },
    "longrope": {
        "context_length": 131072,
        "rope__scaling__type": "longrope",
        "rope__scaling__original_context_length": 4096,
    },
    "none": {"rope__scaling__type": "none", "rope__scaling__factor": 2.0},
    "window": {"context_length": 8192, "attention__sliding_window": 1024},
    "arrays": {"context_length": 16384, "attention__layer_types": [0, 1, 0, 1]},
    "most": {"context_length": 2**31 - 1},
}

SCRIPT = """
import json, sys
import llama_cpp as llama

lengths = []
for path in sys.argv[1:]:
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    lengths.append(llama.llama_model_n_ctx_train(model))
print(json.dumps(lengths))
"""


def test_the_context_length_is_the_one_that_llama_cpp_reads(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.gguf" for name in ROPES]
    for path, more in zip(paths, ROPES.values(), strict=True):
        path.write_bytes(demo_with(**more))
    command = [sys.executable, "-c", SCRIPT, *map(str, paths)]
    read = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    assert [describe(path).context_length for path in paths] == read
    assert len(read) == 12


def test_a_missing_context_length_is_unknown(tmp_path: Path) -> None:
    metadata = {key: thing for key, thing in METADATA.items() if "context_length" not in key}

    assert describe(write(tmp_path / "a.gguf", metadata=metadata)).context_length is None


@pytest.mark.parametrize(
    ("name", "rope"),
    [
        ("plain", None),
        ("linear", RopeScaling("linear", 4.0)),
        ("linear-of-2023", RopeScaling("linear", 4.0)),
        ("yarn", RopeScaling("yarn", 4.0, 8192)),
        ("yarn-finetuned", RopeScaling("yarn", 8.0, None, True)),
        ("longrope", RopeScaling("longrope", None, 4096)),
    ],
)
def test_how_positions_are_stretched_is_told_and_multiplied_by_nobody(
    tmp_path: Path, name: str, rope: RopeScaling | None
) -> None:
    (tmp_path / "a.gguf").write_bytes(demo_with(**ROPES[name]))

    assert describe(tmp_path / "a.gguf").rope == rope


def test_what_else_a_header_tells(tmp_path: Path) -> None:
    fim = {f"tokenizer.ggml.fim_{part}_token_id": 1 for part in ("pre", "suf", "mid")}
    metadata = {**METADATA, **fim, "llama.attention.sliding_window": 512}
    file = describe(write(tmp_path / "a.gguf", metadata=metadata))

    assert file.can_infill
    assert file.sliding_window == 512
    assert not describe(write(tmp_path / "b.gguf")).can_infill


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 8))
def test_no_mutation_of_a_file_is_more_than_a_problem(
    tmp_path: Path, seed: int, count: int
) -> None:
    mutated, rng = bytearray(weights(seed % 7)), random.Random(seed)
    for _ in range(count):
        at = rng.randrange(min(1200, len(mutated)))
        match rng.randrange(4):
            case 0:
                mutated[at] ^= 1 << rng.randrange(8)
            case 1:
                mutated[at : at + 8] = struct.pack("<Q", rng.getrandbits(rng.choice([8, 33, 64])))
            case 2:
                del mutated[at : at + rng.randrange(1, 40)]
            case 3:
                mutated[at:at] = rng.randbytes(rng.randrange(1, 40))
    path = tmp_path / "mutated.gguf"
    path.write_bytes(mutated)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert isinstance(describe(path), GgufFile)
    # In KiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_a_header_with_all_the_tensors_that_are_allowed_takes_bounded_memory(
    tmp_path: Path,
) -> None:
    tensors = {f"v.blk.{number}": ((32,), 0) for number in range(100_000)}
    path = tmp_path / "many.gguf"
    path.write_bytes(gguf(METADATA, tensors))
    script = (
        "import resource, sys; from pathlib import Path; "
        "from service.catalog.gguf_file import describe; "
        "usage = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "before = usage(); describe(Path(sys.argv[1])); print(usage() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True)

    assert int(grown.stdout) < 50 * 1024
