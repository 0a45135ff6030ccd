from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# Ray has an environment of its own, which `make test-ray` makes.
collect_ignore = [] if os.environ.get("WITH_RAY") else ["test_ray_serve.py"]


def script(name: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "deploy" / name), *(str(each) for each in arguments)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True)


@dataclass(frozen=True)
class Installed:
    root: Path
    release: str

    @property
    def prefix(self) -> Path:
        return self.root / "opt/llm-inference"

    @property
    def units(self) -> Path:
        return self.root / "etc/systemd/system"

    def files(self) -> dict[str, int]:
        """What is there, and when it was last written."""
        return {
            str(path.relative_to(self.root)): path.lstat().st_mtime_ns
            for path in self.root.rglob("*")
            if not path.is_dir() or path.is_symlink()
        }


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """For the machine, in a root of its own. Who changes it puts it right again."""
    root = tmp_path_factory.mktemp("machine")
    result = script("install.sh", "--system", "--root", root)
    assert result.returncode == 0, result.stderr
    (release,) = (root / "opt/llm-inference/releases").iterdir()
    yield Installed(root, release.name)
    assert script("uninstall.sh", "--system", "--root", root).returncode == 0
    assert list(root.iterdir()) == []
