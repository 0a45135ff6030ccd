"""What can be known of the images without building one; `make image-test` builds it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service import probe

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM \S+ AS ([\w-]+)$", DOCKERFILE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run(
        [hadolint, "--config", ROOT / "deploy/image/hadolint.yaml", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
    )

    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_runs_as_nobody_else_stops_in_order_and_says_how_it_is(target: str) -> None:
    stage = stages()[target]

    assert "\nUSER 10001:10001\n" in stage
    assert "\nSTOPSIGNAL SIGTERM\n" in stage
    assert "HEALTHCHECK" in stage
    assert '"service.probe"' in stage
    assert "build-essential" not in stage


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_runs_on_other_cpus_than_it_was_built_on(target: str) -> None:
    flags = stages()[f"build-{target}"]

    assert "-DGGML_NATIVE=OFF" in flags
    assert "-DGGML_AVX512=OFF" in flags


def test_the_engine_that_an_image_names_is_the_one_of_the_lock() -> None:
    version = re.search(r"^llama-cpp-python==(\S+)", lock("runtime"), re.M)
    assert version is not None

    assert set(re.findall(r"llama-cpp-python ([\d.]+)", DOCKERFILE)) == {version[1]}


def lock(name: str) -> str:
    return (ROOT / f"requirements/{name}.txt").read_text()


def test_all_that_is_copied_is_let_in_and_nothing_large_is() -> None:
    let_in = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M)
        for word in line.split()
    }

    assert {word for word in copied if not any(word.startswith(each) for each in let_in)} == set()
    files = [f for each in let_in for f in [ROOT / each, *(ROOT / each).rglob("*")] if f.is_file()]
    assert sum(f.stat().st_size for f in files if f.suffix != ".pyc") < 11_000_000


def test_the_scripts_are_scripts() -> None:
    for script in ["deploy/image/install.sh", "tools/image/try.sh"]:
        assert subprocess.run([shutil.which("sh") or "sh", "-n", ROOT / script]).returncode == 0


def test_the_probe_is_no_success_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PORT", "1")

    assert probe.own() == "http://127.0.0.1:1/health/live"
    assert probe.main([]) == 1
    assert probe.main(["nonsense"]) == 1


def test_the_probe_shows_the_key_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_API_KEY", raising=False)
    assert not probe.asked("http://localhost/health/ready").has_header("Authorization")

    monkeypatch.setenv("LLM_API_KEY", "llm-x")
    asked = probe.asked("http://localhost/health/ready")
    assert asked.get_header("Authorization") == "Bearer llm-x"
