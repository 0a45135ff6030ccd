from __future__ import annotations

from pathlib import Path

from bench.reference import PINNED, pinned, version_of

LOCK = """\
# made by a tool
httpx==0.28.1 \\
    --hash=sha256:aa
llama-cpp-python==0.9.9 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via the service
msgspec==0.22.0
"""


def test_the_pinned_release_is_read_with_its_hashes(tmp_path: Path) -> None:
    (tmp_path / "runtime.txt").write_text(LOCK)

    requirement = pinned(tmp_path)

    assert requirement == "llama-cpp-python==0.9.9 --hash=sha256:bb --hash=sha256:cc"
    assert version_of(requirement) == "0.9.9"


def test_without_a_lock_there_is_a_release_all_the_same(tmp_path: Path) -> None:
    assert pinned(tmp_path) == PINNED
    assert version_of("llama-cpp-python==0.9.9 ; python_version > '3'") == "0.9.9"
