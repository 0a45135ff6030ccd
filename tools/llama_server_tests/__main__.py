"""python -m tools.llama_server_tests [--reference] [pytest's arguments, tests as test_file.py::name]

Takes llama.cpp's server tests from the source that the service pins, and runs them against it.
--reference runs them against llama-server itself, which is built first if need be, with the same
models: to compare with. What it does not pass either says nothing of this service.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bench import reference
from bench.paths import ROOT
from tools.llama_server_tests.servers import free_port


def main(arguments: list[str]) -> int:
    tests = reference.source(reference.pinned()) / "tools" / "server" / "tests"
    environment = {
        **os.environ,
        "LLAMA_SERVER_TESTS": str(tests),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PORT": str(free_port()),
        # Nothing is downloaded, where there is a network too.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "127.0.0.1,localhost,::1",
        # Those that are slow are so for their downloads.
        "SLOW_TESTS": "1",
    }
    if "--reference" in arguments:
        arguments.remove("--reference")
        environment["LLAMA_SERVER_BIN_PATH"] = str(reference.programs().server)
    named = [f"unit/{each}" if each.startswith("test_") else each for each in arguments]
    if not any(each.startswith("test_") for each in arguments):
        named.append("unit")
    command = [sys.executable, "-m", "pytest", "-p", "tools.llama_server_tests.plugin"]
    # Theirs, and not this project's: their warnings are no errors.
    command += ["-c", "pytest.ini", "-p", "no:cacheprovider", "-p", "no:anyio", "-q", "--tb=short"]
    command += ["-o", "timeout=600", *named]
    return subprocess.call(command, cwd=tests, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
