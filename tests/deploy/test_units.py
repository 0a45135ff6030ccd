"""The units as install.sh writes them, before systemd's own judge."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT, Installed
from tests.programs import program

SERVICES = ("llm-inference.service", "llm-inference-exporters.service")


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = program("systemd-analyze", "systemd")
    libraries = Path(command).parents[1] / "lib/x86_64-linux-gnu"
    return subprocess.run(
        [command, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": f"{libraries}/systemd:{libraries}",
            "XDG_RUNTIME_DIR": str(folder),
        },
        capture_output=True,
        text=True,
    )


@pytest.fixture
def units(installed: Installed, tmp_path: Path) -> Path:
    """As installed, with their commands where they lie, since each must be there."""
    for unit in installed.units.iterdir():
        text = unit.read_text().replace("/opt/llm-inference", str(installed.prefix))
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_has_nothing_to_say_about_them(units: Path) -> None:
    names = sorted(path.name for path in units.iterdir())
    result = analyze(units, "verify", "--man=no", *(f"./{name}" for name in names))

    assert len(names) == 3
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_they_are_confined(units: Path, name: str) -> None:
    result = analyze(units, "security", "--offline=yes", "--threshold=20", f"./{name}")

    # The exit code says whether it is above the threshold, in tenths.
    assert result.returncode == 0, result.stdout
    exposure = re.search(r"Overall exposure level for \S+ ([\d.]+)", result.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


def test_no_mark_of_the_template_is_left(installed: Installed) -> None:
    for unit in installed.units.iterdir():
        assert re.findall(r"@\w+@", unit.read_text()) == []


@pytest.mark.parametrize("folder", ["", "user"])
def test_the_manager_waits_for_the_service_watches_it_and_leaves_it_be_after_five_failures(
    folder: str,
) -> None:
    unit = read(ROOT / "deploy/systemd" / folder / "llm-inference.service")
    service = unit["Service"]

    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert service["Restart"] == "on-failure"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (unit["Unit"]["StartLimitBurst"], unit["Unit"]["StartLimitIntervalSec"]) == ("5", "300")
    # Longer than the default drain, and what is around it.
    assert int(service["TimeoutStopSec"]) >= 85


def test_the_address_is_of_this_machine_only() -> None:
    for folder in ("", "user"):
        socket = read(ROOT / "deploy/systemd" / folder / "llm-inference.socket")["Socket"]
        assert socket["ListenStream"] == "127.0.0.1:11436"


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_the_groups_are_those_that_the_machine_has(installed: Installed) -> None:
    groups = {line.split(":")[0] for line in Path("/etc/group").read_text().splitlines()}
    service = read(installed.units / "llm-inference.service")["Service"]

    assert set(service["SupplementaryGroups"].split()) == groups & {"video", "render", "ollama"}
