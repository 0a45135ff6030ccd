"""The files that a newcomer's two commands rest on: the lock, the preflight, the list of targets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ROOT / "requirements"
LOCKED = {
    str(path.relative_to(LOCKS).with_suffix("")): path.read_text() for path in LOCKS.rglob("*.txt")
}


def wanted() -> dict[str, list[str]]:
    """What each group asks for, where it says so by hand."""
    by_hand = {
        "bench": ROOT / "bench/requirements.in",
        "demo_model": ROOT / "tools/demo_model/requirements.in",
        "minilm": ROOT / "tests/embeddings/model.in",
        "llama_server_tests": ROOT / "tools/llama_server_tests/requirements.in",
        "pictures": ROOT / "tools/pictures/requirements.in",
        "ray": ROOT / "deploy/ray/requirements.in",
        "minilm_reference": ROOT / "tests/embeddings/reference.in",
        **{f"clients/{path.stem}": path for path in ROOT.glob("tests/clients/environments/*.in")},
    }
    lines = {
        group: path.read_text().splitlines() for group, path in by_hand.items() if path.exists()
    }
    runtime = PROJECT["project"]["dependencies"]
    # What the images have: an extra has to come with all the rest.
    tracing = [*runtime, *PROJECT["project"]["optional-dependencies"]["tracing"]]
    return {"runtime": runtime, "tracing": tracing, **PROJECT["dependency-groups"], **lines}


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"\w[\w.-]*", line) for line in requirements)
    return {match[0].lower().replace("_", "-") for match in found if match}


def pins(lock: str) -> dict[str, str]:
    """name → the rest of its entry: version, marker and hashes."""
    entries = re.findall(r"^([\w.-]+)(==.*(?:\n    --hash=.*)*)", lock, re.M)
    return dict(entries)


def test_every_group_has_a_lock_that_holds_what_it_asks_for() -> None:
    assert wanted().keys() == LOCKED.keys()
    for group, requirements in wanted().items():
        assert names(requirements) - pins(LOCKED[group]).keys() == set(), f"{group}: make lock"


@pytest.mark.parametrize("group", LOCKED)
def test_a_lock_names_versions_and_hashes_and_no_address(group: str) -> None:
    packages = pins(LOCKED[group])
    stated = [line for line in LOCKED[group].splitlines() if line[:1] not in ("#", " ")]

    assert len(stated) == len(packages) > 0
    assert [name for name, entry in packages.items() if "--hash=sha256:" not in entry] == []
    assert re.findall(r"://| @ |--\w*index|--find-links|--trusted", LOCKED[group]) == []


@pytest.mark.parametrize("group", ["test", "lint", "build", "bench"])
def test_groups_that_share_an_environment_agree_on_versions(group: str) -> None:
    runtime, other = pins(LOCKED["runtime"]), pins(LOCKED.get(group, ""))

    shared = runtime.keys() & other.keys()
    assert {n: runtime[n].split()[0] for n in shared} == {n: other[n].split()[0] for n in shared}


@pytest.mark.parametrize("target", ["run", "test", "test-clients", "lint", "bench", "wheel"])
def test_make_explains_each_target(target: str) -> None:
    shown = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True)

    assert re.search(rf"^  make {target} +\S.{{10,}}$", shown.stdout, re.M)


# ---- the preflight, on machines that lack things: a PATH with only what the test puts there

TOOLS = ["sed", "cat", "id", "df", "make"]


def preflight(folder: Path, *commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it where `commands` do nothing successfully, beside the tools that every machine has."""
    folder.mkdir(exist_ok=True)
    for tool in TOOLS:
        if not (folder / tool).exists():
            (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    for command in commands:
        script(folder / command, "exit 0")
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools/preflight.sh")],
        env={"PATH": str(folder), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def script(path: Path, body: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def install_line(result: subprocess.CompletedProcess[str]) -> str:
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("Install it with: ")]
    return line.removeprefix("Install it with: ").replace("sudo ", "")


APT = "apt-get update && apt-get install -y "


def test_a_bare_machine_is_told_everything_in_one_line_and_in_under_a_second(
    tmp_path: Path,
) -> None:
    started = time.monotonic()
    result = preflight(tmp_path)

    assert time.monotonic() - started < 1
    assert result.returncode == 2
    assert result.stdout == ""
    assert install_line(result) == APT + "python3 python3-venv build-essential"


def test_a_machine_with_a_compiler_and_uv_is_ready(tmp_path: Path) -> None:
    result = preflight(tmp_path, "cc", "c++", "uv")

    assert (result.returncode, result.stdout, result.stderr) == (0, "uv\n", "")


def test_without_uv_the_first_recent_python_is_chosen(tmp_path: Path) -> None:
    script(tmp_path / "python3", "exit 1")  # as an old one answers
    (tmp_path / "python3.13").symlink_to(sys.executable)

    result = preflight(tmp_path, "cc", "c++")

    assert (result.returncode, result.stdout) == (0, "python3.13\n")


def test_a_python_that_is_asked_for_is_taken_even_where_uv_is(tmp_path: Path) -> None:
    result = preflight(tmp_path, "cc", "c++", "uv", PYTHON=sys.executable)

    assert result.stdout == f"{sys.executable}\n"


def test_an_old_python_alone_is_not_enough(tmp_path: Path) -> None:
    script(tmp_path / "python3", "exit 1")

    result = preflight(tmp_path, "cc", "c++")

    assert result.returncode == 2
    assert install_line(result) == APT + "python3.11 python3.11-venv"


def test_debians_python_without_its_venv_package_is_named(tmp_path: Path) -> None:
    script(
        tmp_path / "python3",
        f'case "$2" in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac',
    )

    result = preflight(tmp_path, "cc", "c++")

    assert result.returncode == 2
    assert install_line(result) == APT + f"python3.{sys.version_info.minor}-venv"


def test_a_c_compiler_alone_is_not_enough(tmp_path: Path) -> None:
    assert install_line(preflight(tmp_path, "uv", "cc")) == APT + "build-essential"


def test_a_cuda_build_needs_its_compiler(tmp_path: Path) -> None:
    result = preflight(tmp_path, "uv", "cc", "c++", CUDA="1")

    assert install_line(result) == APT + "nvidia-cuda-toolkit"


def test_fedora_is_told_its_own_line(tmp_path: Path) -> None:
    result = preflight(tmp_path, "dnf")

    assert install_line(result) == "dnf install -y python3 gcc gcc-c++ make"


def test_too_little_memory_is_said_with_the_amount(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        1024000 kB\n")

    result = preflight(tmp_path / "bin", "uv", "cc", "c++", MEMINFO=str(meminfo))

    assert result.returncode == 2
    assert "1000 MB of memory" in result.stderr


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{512 << 20}\n")

    result = preflight(tmp_path / "bin", "uv", "cc", "c++", MEMORY_MAX=str(limit))

    assert "512 MB of memory" in result.stderr


def test_too_little_disk_is_said_with_the_amount(tmp_path: Path) -> None:
    script(tmp_path / "df", "echo header; echo /dev/sda1 9000 8000 1000 89% /")

    result = preflight(tmp_path, "uv", "cc", "c++")

    assert result.returncode == 2
    assert "1000 MB of disk" in result.stderr


# ---- what a skip means


@pytest.mark.parametrize(("ci", "outcome"), [("true", "failed"), ("", "skipped")])
def test_a_skip_fails_where_ci_is_set(tmp_path: Path, ci: str, outcome: str) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text("import pytest\ndef test(): pytest.skip('no promtool')\n")

    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            tmp_path,
        ],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
    )

    assert f"1 {outcome}" in result.stdout
    assert "no promtool" in result.stdout or not ci
