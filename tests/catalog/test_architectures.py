from __future__ import annotations

from pathlib import Path

from service.catalog.architectures import Architectures, installed


def test_the_library_that_engines_load_is_asked() -> None:
    library = installed()
    architectures = Architectures(library)

    assert library is not None
    for known in ("llama", "qwen3", "gemma3", "bert", "mamba", "t5", "gpt-oss", "granitehybrid"):
        assert architectures.known(known)
    for unknown in ("gptoss", "olmo3", "qwen25vl", "mllama", "llama99", "é" * 64):
        assert not architectures.known(unknown)


def test_another_library_is_asked_anew(tmp_path: Path) -> None:
    library = tmp_path / "libllama.so"
    library.write_bytes(b"\0llama\0")
    architectures = Architectures(library)
    assert not architectures.known("falcon")

    library.write_bytes(b"\0llama\0falcon\0")
    assert architectures.known("falcon")


def test_without_a_library_nothing_speaks_against_any(tmp_path: Path) -> None:
    assert Architectures(None).known("llama99")
    assert Architectures(tmp_path / "gone.so").known("llama99")
