from __future__ import annotations

import contextlib
import random
import resource
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.catalog.gguf import read_header
from service.catalog.gguf_header import (
    TO_SHOW,
    TO_SHOW_ALL,
    GgufError,
    Header,
    Keeping,
    Omitted,
    Tensor,
)
from tests.catalog.gguf_files import ARRAY, F32, METADATA, STRING, TENSORS, UINT64, gguf, text

ROOT = Path(__file__).parents[2]


def read(folder: Path, data: bytes, keeping: Keeping | None = None) -> Header:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return read_header(path) if keeping is None else read_header(path, keeping)


def refused(folder: Path, data: bytes) -> str:
    with pytest.raises(GgufError) as caught:
        read(folder, data)
    return str(caught.value)


def test_a_header_tells_what_a_card_needs(tmp_path: Path) -> None:
    header = read(tmp_path, gguf())

    assert header.architecture == "llama"
    assert header.context_length == 8192
    assert header.quantization == "Q4_K_M"
    assert header.parameter_count == 64 * 4 + 64 * 64
    assert header.tensor_count == 2
    assert header.missing_bytes == 0
    assert header.metadata["tokenizer.chat_template"] == "{{ messages }}"


def test_vocabularies_are_stepped_over_and_small_arrays_of_numbers_kept(tmp_path: Path) -> None:
    metadata = {**METADATA, "llama.attention.head_count_kv": [8, 4]}

    header = read(tmp_path, gguf(metadata))

    assert header.metadata["tokenizer.ggml.tokens"] == Omitted(STRING, 4)
    assert header.metadata["llama.attention.head_count_kv"] == [8, 4]


def test_who_wants_to_show_a_file_gets_its_lists_and_at_most_all_of_it(tmp_path: Path) -> None:
    words = [f"token {number}" for number in range(1000)]
    data = gguf({**METADATA, "general.languages": ["en", "de"], "tokenizer.ggml.tokens": words})
    some, everything = read(tmp_path, data, TO_SHOW), read(tmp_path, data, TO_SHOW_ALL)

    assert some.metadata["general.languages"] == ["en", "de"]
    assert some.metadata["tokenizer.ggml.tokens"] == Omitted(STRING, 1000)
    assert some.tensors == ()
    assert everything.metadata["tokenizer.ggml.tokens"] == words
    assert len(everything.tensors) == everything.tensor_count
    assert {type(tensor) for tensor in everything.tensors} == {Tensor}


def test_all_of_a_file_is_still_bounded(tmp_path: Path) -> None:
    data = gguf({**METADATA, "words": ["x" * 1000] * 2000})
    read(tmp_path, data, TO_SHOW_ALL)

    with pytest.raises(GgufError, match="bytes of"):
        read(tmp_path, data, Keeping(strings=2000, bytes=1_000_000))


@given(st.binary(max_size=200), st.integers(0, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutation_of_what_is_shown_raises_anything_else(
    tmp_path: Path, noise: bytes, at: int
) -> None:
    data = gguf({**METADATA, "general.languages": ["en", "de"]})
    with contextlib.suppress(GgufError):
        read(tmp_path, data[:at] + noise + data[at + len(noise) :], TO_SHOW_ALL)


def test_a_version_2_header_reads_the_same(tmp_path: Path) -> None:
    assert read(tmp_path, gguf(version=2)).metadata == read(tmp_path, gguf()).metadata


def test_what_a_file_does_not_say_is_none(tmp_path: Path) -> None:
    header = read(tmp_path, gguf({"general.architecture": "mamba"}, {}))

    assert header.context_length is None
    assert header.quantization is None
    assert header.parameter_count == 0


def test_without_a_file_type_the_most_common_tensor_type_is_the_quantization(
    tmp_path: Path,
) -> None:
    assert read(tmp_path, gguf({"general.architecture": "llama"})).quantization == "Q4_0"


def test_a_download_cut_off_is_so_many_bytes_short(tmp_path: Path) -> None:
    assert read(tmp_path, gguf(cut=100)).missing_bytes == 100


def test_a_string_longer_than_the_reading_window_is_read_whole(tmp_path: Path) -> None:
    template = "x" * 700_000
    header = read(tmp_path, gguf({**METADATA, "tokenizer.chat_template": template}))

    assert header.metadata["tokenizer.chat_template"] == template


def test_a_vocabulary_of_a_quarter_million_takes_less_than_half_a_second(tmp_path: Path) -> None:
    data = gguf({**METADATA, "tokenizer.ggml.tokens": [f"token {i}" for i in range(262_144)]})

    before = time.process_time()
    read(tmp_path, data)

    assert time.process_time() - before < 0.5


def key(name: str, data: bytes) -> dict[str, Any]:
    return {**METADATA, name: data}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a GGUF file"),
        (b"GGUF", "not a GGUF file"),
        (b"GGML" + bytes(64), "not a GGUF file"),
        (gguf(version=1), "version 1 is not supported"),
        (gguf(version=0x03000000), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 1), "tensors, at most"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**40), "metadata keys, at most"),
        (gguf()[:200], "ends within its header"),
        (gguf({"llama.block_count": 2}), "general.architecture is missing"),
        (gguf({**METADATA, "llama.block_count": 0}), "block_count is 0"),
        (gguf({**METADATA, "llama.block_count": 513}), "block_count is 513"),
        (gguf({**METADATA, "llama.block_count": "2"}), "block_count is '2'"),
        (gguf({**METADATA, "general.alignment": 0}), "alignment is 0"),
        (gguf({**METADATA, "general.alignment": 3}), "alignment is 3"),
        (gguf({**METADATA, "general.alignment": 2**30}), "alignment is"),
        (gguf(key("odd", struct.pack("<II", 13, 0))), "unknown type 13"),
        (gguf(key("odd", struct.pack("<IIQ", ARRAY, ARRAY, 1))), "unknown type 9"),
        (gguf(key("odd", struct.pack("<IIQ", ARRAY, UINT64, 2**61))), "array elements, at most"),
        (gguf(key("odd", struct.pack("<IQ", STRING, 2**62))), "bytes in a string, at most"),
        (gguf(key("odd", struct.pack("<IIQQ", ARRAY, STRING, 2, 2**50))), "a string of"),
        (gguf(tensors={"a": ((1,) * 5, F32)}), "dimensions of a tensor, at most"),
        (gguf(tensors={"a" * 64: ((1,), F32)}), "bytes in a string, at most 63"),
        (gguf(tensors={"a": ((8, 2), 99)}), "unknown type 99"),
        (gguf(tensors={"a": ((33,), 2)}), "whole blocks"),
    ],
)
def test_a_header_that_is_wrong_is_refused_with_the_reason(
    tmp_path: Path, data: bytes, why: str
) -> None:
    assert why in refused(tmp_path, data)


def test_tensors_whose_product_overflows_are_refused(tmp_path: Path) -> None:
    entry = text("a") + struct.pack("<I4QIQ", 4, *[2**32] * 4, F32, 0)
    header = gguf(METADATA, {})
    data = header[:8] + struct.pack("<Q", 1) + header[16:].rstrip(b"\0") + entry

    assert refused(tmp_path, data)


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    data = gguf(METADATA, {})
    count = len(METADATA)
    again = text("llama.block_count") + struct.pack("<II", 4, 1)
    data = data[:16] + struct.pack("<Q", count + 1) + again + data[24:]

    assert "occurs twice" in refused(tmp_path, data)


def test_metadata_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    many = {f"key {i}": "x" * 100_000 for i in range(100)}

    assert "bytes of metadata" in refused(tmp_path, gguf({**METADATA, **many}))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 8), data=st.data())
def test_no_mutation_of_a_header_raises_anything_but_gguf_error(
    tmp_path: Path, seed: int, count: int, data: st.DataObject
) -> None:
    mutated = bytearray(gguf())
    rng = random.Random(seed)
    for _ in range(count):
        at = data.draw(st.integers(0, 900)) % len(mutated)
        match rng.randrange(4):
            case 0:
                mutated[at] ^= 1 << rng.randrange(8)
            case 1:
                mutated[at : at + 8] = struct.pack("<Q", rng.getrandbits(rng.choice([8, 33, 64])))
            case 2:
                del mutated[at : at + rng.randrange(1, 40)]
            case 3:
                mutated[at:at] = rng.randbytes(rng.randrange(1, 40))
    began = time.process_time()
    with contextlib.suppress(GgufError):
        read(tmp_path, bytes(mutated))
    assert time.process_time() - began < 2


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_no_bytes_after_the_magic_raise_anything_but_gguf_error(
    tmp_path: Path, tail: bytes
) -> None:
    with contextlib.suppress(GgufError):
        read(tmp_path, b"GGUF\x03\0\0\0" + tail)


def test_the_worst_file_within_all_limits_takes_bounded_time_and_memory(tmp_path: Path) -> None:
    """4 million empty strings, the most that is stepped over."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 2)
    head += text("general.architecture") + struct.pack("<I", STRING) + text("llama")
    head += text("v") + struct.pack("<IIQ", ARRAY, STRING, 4_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()

    read(tmp_path, head + bytes(8 * 4_000_000))

    assert time.process_time() - began < 3
    # The test's own copy of the file is 64 MB of this.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_every_tensor_of_the_demo_model_is_counted() -> None:
    demo = ROOT / "service/catalog/demo.gguf"
    header = read_header(demo)

    assert header.missing_bytes == 0
    assert header.parameter_count > 1_000_000
    assert header.tensor_bytes < demo.stat().st_size


def test_tensors_declared_by_the_builder_are_what_the_reader_finds(tmp_path: Path) -> None:
    header = read(tmp_path, gguf(METADATA, {**TENSORS, "c": ((32, 3), 2)}))

    assert header.tensor_count == 3
    assert header.main_type == "Q4_0"


def test_advice_for_sampling_is_read_in_the_samplers_own_names(tmp_path: Path) -> None:
    advice = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 20,
        "general.sampling.penalty_repeat": 1.5,
        "general.sampling.penalty_last_n": 32,
        "general.sampling.min_p": "none",
        "general.sampling.mirostat": True,
        "general.sampling.sequence": "kpt",
    }
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf({**METADATA, **advice}))

    assert read_header(path).sampling == {
        "temperature": 0.5,
        "top_k": 20,
        "repeat_penalty": 1.5,
        "repeat_last_n": 32,
    }


def test_a_later_shard_need_not_say_what_it_is(tmp_path: Path) -> None:
    """`llama-gguf-split` writes all metadata into the first one only."""
    marks = {"split.no": 1, "split.count": 3, "split.tensors.count": 9}
    header = read(tmp_path, gguf(marks))

    assert header.architecture is None
    assert header.number("split.count") == 3

    with pytest.raises(GgufError, match="architecture is missing"):
        read(tmp_path, gguf({**marks, "split.no": 0}))
