"""A release: an environment of its own with what the service runs on, and nothing of its tests.

    release.py name        its name: the version, and a digest of everything in it
    release.py make DIR    makes it

The packages are taken from the environment of the clone, file by file as their RECORD lists them:
they were compared with the hashes of the lock when they were installed there, llama.cpp is compiled
already, with the flags that were asked for, and no network is needed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements/runtime.txt"
OWN: Final = ("service", "exporters")
# Names no path, so that the directory can be moved; -P: what lies where it is started is not imported.
COMMAND: Final = """\
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -P -m service "$@"
"""


def locked() -> Iterator[Distribution]:
    """Those of the lock's packages that this platform has."""
    for name, version, marker in re.findall(
        r"^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", LOCK.read_text(), re.M
    ):
        if marker and not holds(marker):
            continue
        found = distribution(name)
        if found.version != version:
            sys.exit(f"{name} is {found.version}, and the lock says {version}: run make run")
        yield found


def holds(marker: str) -> bool:
    from packaging.markers import Marker

    return Marker(marker).evaluate()


def name() -> str:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    digest = hashlib.sha256(LOCK.read_bytes())
    digest.update((ROOT / ".venv/.flags").read_bytes())
    for file in own_files():
        digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return f"{version}-{digest.hexdigest()[:12]}"


def own_files() -> list[Path]:
    found = (file for folder in OWN for file in (ROOT / folder).rglob("*"))
    return sorted(file for file in found if file.is_file() and "__pycache__" not in file.parts)


def make(target: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True)
    python = target / "bin/python"
    site = site_of(python)
    for package in locked():
        for file in package.files or []:
            # Commands, headers and the second copy of llama.cpp's libraries are nothing that it loads.
            if file.parts[0] in ("..", "bin", "include", "lib") or "__pycache__" in file.parts:
                continue
            copy(Path(str(package.locate_file(file))), site / file)
    for source in own_files():
        copy(source, site / source.relative_to(ROOT))
    # What tells the service its version.
    own = distribution("llm-inference-service")
    for file in own.files or []:
        if file.parts[0].endswith(".dist-info") and file.name == "METADATA":
            copy(Path(str(own.locate_file(file))), site / file)
    command = target / "bin/llm-inference"
    command.write_text(COMMAND)
    command.chmod(0o755)
    for script in (target / "bin").glob("[Aa]ctivate*"):
        script.unlink()
    subprocess.run([python, "-m", "compileall", "-q", "-j", "0", site], check=True)


def site_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", code], text=True).strip())


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["name"]:
            sys.stdout.write(name() + "\n")
        case ["make", target]:
            make(Path(target).absolute())
        case _:
            sys.exit(__doc__)
