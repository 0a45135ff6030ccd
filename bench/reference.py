"""llama.cpp's own programs, built from the sdist of llama-cpp-python that the service pins.

The same source and the same flags as the engine's library, so that a ratio compares servers and
not compilers. `python -m bench.reference` builds them, about ten minutes on two cores.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from bench.paths import BUILD, LLAMA_CPP, ROOT

PINNED = "llama-cpp-python==0.3.36"  # where no requirements file says otherwise

# The wheel's defaults (release, shared, this processor's instructions, OpenMP), less the web
# page, whose assets are fetched from a model hub while building, and less TLS.
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=ON "
    "-DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON "
    "-DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF "
    "-DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
).split()
TARGETS = ("llama-server", "llama-batched-bench")


@dataclass(frozen=True)
class Programs:
    server: Path
    batched_bench: Path
    version: str


def pinned(requirements: Path = ROOT / "requirements") -> str:
    """The requirement with its hashes, as pip reads it: one logical line."""
    for file in sorted(requirements.glob("*.txt")):
        text = file.read_text().replace("\\\n", " ")
        if found := re.search(r"^llama-cpp-python==.*$", text, re.MULTILINE):
            return " ".join(found[0].split(" #")[0].split())
    return PINNED


def version_of(requirement: str) -> str:
    return requirement.split("==")[1].split()[0].rstrip(";")


def source(requirement: str) -> Path:
    """llama.cpp's source tree; downloaded once, and checked by pip where hashes are pinned."""
    version = version_of(requirement)
    tree = BUILD / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    if not tree.is_dir():
        BUILD.mkdir(parents=True, exist_ok=True)
        wanted = BUILD / "sdist.txt"
        wanted.write_text(requirement + "\n")
        options = ["--no-deps", "--no-binary", "llama-cpp-python", "--dest", str(BUILD)]
        run(pip(), "-m", "pip", "download", *options, "-r", str(wanted))
        with tarfile.open(BUILD / f"llama_cpp_python-{version}.tar.gz") as archive:
            archive.extractall(BUILD, filter="data")
    return tree


def programs() -> Programs:
    requirement = pinned()
    version, tree, flags = version_of(requirement), source(requirement), FLAGS + engine_flags()
    stamp, made_of = LLAMA_CPP / "made-of", " ".join((version, *flags))
    if not stamp.is_file() or stamp.read_text() != made_of:
        configure = ["-S", str(tree), "-B", str(LLAMA_CPP), "-G", "Ninja"]
        configure.append(f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}")
        run(tool("cmake"), *configure, *flags)
        jobs = str(os.cpu_count() or 2)
        run(tool("cmake"), "--build", str(LLAMA_CPP), "-j", jobs, "-t", *TARGETS)
        stamp.write_text(made_of)
    server, batched_bench = (LLAMA_CPP / "bin" / target for target in TARGETS)
    return Programs(server, batched_bench, version)


def pip() -> str:
    """A Python that has pip: uv makes environments without, and cannot download a sdist itself."""
    if find_spec("pip"):
        return sys.executable
    environment = BUILD / "pip"
    if not environment.is_dir():
        venv.create(environment, with_pip=True)
    return str(environment / "bin" / "python")


def engine_flags() -> list[str]:
    """What the engine's own library was compiled with beside the defaults (CUDA, say)."""
    kept = Path(sys.prefix) / ".flags"
    return shlex.split(kept.read_text()) if kept.is_file() else []


def tool(name: str) -> str:
    """From this environment if it has one, else from the system."""
    return which(name, path=str(Path(sys.executable).parent)) or which(name) or name


def run(*command: str) -> None:
    sys.stderr.write(f"bench: {' '.join(command)}\n")
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    built = programs()
    sys.stdout.write(f"{built.server}\n{built.batched_bench}\n")
