"""install.sh, uninstall.sh and status.sh in a root directory of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from service.app import VERSION
from tests.deploy.conftest import Installed, script


def test_a_second_time_changes_nothing(installed: Installed) -> None:
    before = installed.files()
    result = script("install.sh", "--system", "--root", installed.root)

    assert result.returncode == 0
    assert f"release {installed.release} is there" in result.stdout
    assert installed.files() == before


def test_what_is_installed_stands_alone(installed: Installed) -> None:
    command = installed.prefix / "current/bin/llm-inference"
    result = subprocess.run([command, "--version"], cwd="/", capture_output=True, text=True)

    assert result.stdout.strip() == VERSION
    modules = "import service, exporters, llama_cpp; print(service.__file__, llama_cpp.__file__)"
    found = subprocess.check_output(
        [installed.prefix / "current/bin/python", "-c", modules], cwd="/", text=True
    )
    release = installed.prefix / "releases" / installed.release
    outside = [path for path in found.split() if not Path(path).resolve().is_relative_to(release)]
    assert outside == []
    # Of the tests' environment nothing came along.
    assert list(installed.prefix.rglob("pytest")) == []
    assert list(installed.prefix.rglob("cmake")) == []


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    for mode in ("--system", "--user"):
        result = script("install.sh", mode, "--root", tmp_path, "--dry-run")

        assert result.returncode == 0
        assert "would: write" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_removes_nothing(installed: Installed) -> None:
    before = installed.files()
    result = script("uninstall.sh", "--system", "--root", installed.root, "--dry-run")

    assert "would: rm" in result.stdout
    assert installed.files() == before


def test_an_upgrade_is_a_link_that_points_elsewhere_and_the_way_back_stays(
    installed: Installed,
) -> None:
    releases = installed.prefix / "releases"
    for old in ("0.0.1-aaaa", "0.0.2-bbbb"):
        (releases / old).mkdir()
    (installed.prefix / "current").unlink()
    (installed.prefix / "current").symlink_to("releases/0.0.2-bbbb")

    result = script("install.sh", "--system", "--root", installed.root)

    assert result.returncode == 0
    assert os.readlink(installed.prefix / "current") == f"releases/{installed.release}"
    assert {each.name for each in releases.iterdir()} == {"0.0.2-bbbb", installed.release}
    (releases / "0.0.2-bbbb").rmdir()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can enter, which pytest's own are not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_the_directory_that_keeps_the_service_from_the_models_is_named(
    installed: Installed, public: Path
) -> None:
    blocking = public / "private"
    models = blocking / "models"
    models.mkdir(parents=True)
    # Root, who installs it, could enter; the service's account could not.
    blocking.chmod(0o700 if os.geteuid() == 0 else 0)
    before = installed.files()

    result = script("install.sh", "--system", "--root", installed.root, "--models", models)
    blocking.chmod(0o755)

    assert result.returncode == 2
    assert f"{blocking} stands in the way" in result.stderr
    assert installed.files() == before


def test_a_model_that_the_service_cannot_read_is_named(installed: Installed, public: Path) -> None:
    model = public / "mine.gguf"
    model.touch()
    model.chmod(0o600 if os.geteuid() == 0 else 0)

    result = script("install.sh", "--system", "--root", installed.root, "--models", public)

    assert result.returncode == 2
    assert f"{model} stands in the way" in result.stderr


def test_models_that_are_not_there_are_no_surprise_at_the_first_request(
    installed: Installed, public: Path
) -> None:
    nowhere = public / "nowhere"
    result = script("install.sh", "--system", "--root", installed.root, "--models", nowhere)

    assert result.returncode == 2
    assert f"{nowhere} stands in the way" in result.stderr


@pytest.mark.parametrize("name", ["install.sh", "uninstall.sh", "status.sh"])
def test_each_says_what_it_takes_and_refuses_the_rest(name: str) -> None:
    assert script(name, "--help").stdout.startswith(name)
    refused = script(name, "--nonsense")
    assert refused.returncode == 2
    assert "--nonsense is no option" in refused.stderr


def test_models_are_left_where_there_are_any(installed: Installed, tmp_path: Path) -> None:
    root = tmp_path / "machine"
    subprocess.run(["cp", "--archive", "--link", installed.root, root], check=True)
    (root / "opt/llm-inference/models/mine.gguf").touch()

    result = script("uninstall.sh", "--system", "--root", root)

    assert "Left:" in result.stdout
    assert [path for path in root.rglob("*") if path.is_file()] == [
        root / "opt/llm-inference/models/mine.gguf"
    ]
    assert script("status.sh", "--system", "--root", root).returncode == 3
