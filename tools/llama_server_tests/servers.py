"""What a test asks of llama-server on its command line, as settings of this service; and the one
process that runs at a time, kept while the next test asks for the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx

from bench.paths import ROOT
from tools.llama_server_tests.standins import BUILT_IN, STANDINS, Standin, made

BUILD = ROOT / "build" / "llama-server-tests"
PREFIX = "/llama-server"
START_SECONDS = 120
STOP_SECONDS = 30
REQUEST_SECONDS = 120

# Options that have no counterpart here, with what they are for.
NOT_SERVED = {
    "api_key": "keys",
    "backend_sampling": "sampling on the GPU",
    "cors_origins": "kinds of origins",
    "enable_ctx_shift": "context shift",
    "gcp_compat": "Google's Vertex AI",
    "lora_files": "adapters",
    "mcp_servers_config": "tools that the server runs",
    "mcp_servers_json": "tools that the server runs",
    "media_path": "images",
    "model_draft": "speculative decoding",
    "model_tags": "tags of models",
    "models_max": "a number of models",
    "models_preset": "preset files",
    "no_models_autoload": "loading only when told to",
    "no_ui": "a web page",
    "server_tools": "tools that the server runs",
    "slot_save_path": "saved slots",
    "spec_type": "speculative decoding",
    "ui_mcp_proxy": "a proxy",
}
# In the folder of a server that was given no model, as their names are written there.
ROUTED = {
    "ggml-org/tinygemma3-GGUF-Q8_0": "ggml-org/test-model-stories260K",
    "ggml-org/test-model-stories260K-F32": "ggml-org/test-model-stories260K",
    "ggml-org/test-model-stories260K-infill-F32": "ggml-org/test-model-stories260K-infill",
}


class NotServed(Exception):
    """The test needs what this service does not have."""


class NeedsDownload(Exception):
    """The test needs a file from the network."""


@dataclass(frozen=True)
class Wanted:
    """A service, as two tests may share it. `models`: (name, what stands in for it)."""

    models: tuple[tuple[str, Standin], ...]
    default: str | None
    settings: tuple[tuple[str, str], ...]


def wanted(asked: Any, names: tuple[str, ...], tests: Path) -> Wanted:
    """`asked`: the tests' ServerProcess. `names`: those by which the test asks for models.

    Raises NotServed, NeedsDownload.
    """
    for option, what in NOT_SERVED.items():
        if getattr(asked, option):
            raise NotServed(f"{what} ({option})")
    if asked.reasoning in ("on", "off"):
        raise NotServed("thoughts switched on or off for all requests (reasoning)")
    if "," in asked.server_host:
        raise NotServed("several addresses (server_host)")
    if asked.model_hf_repo is None and asked.model_file is None:
        return Wanted(tuple((n, STANDINS[r]) for n, r in ROUTED.items()), None, settings(asked))
    model = standin(asked, tests)
    default = asked.model_alias or "model"
    return Wanted(
        tuple((name, model) for name in dict.fromkeys((default, *names))), default, settings(asked)
    )


def standin(asked: Any, tests: Path) -> Standin:
    repository = asked.model_hf_repo
    if asked.model_hf_file:
        repository += f":{asked.model_hf_file}"
    if repository not in STANDINS:
        raise NeedsDownload(str(repository))
    model = STANDINS[repository].with_pooling(asked.pooling)
    if asked.chat_template_file:
        template = (tests / asked.chat_template_file).read_text()
    else:
        template = BUILT_IN.get(asked.chat_template, asked.chat_template)
    return model if template is None else replace(model, template=template)


def settings(asked: Any) -> tuple[tuple[str, str], ...]:
    given = {
        "default-context-size": asked.n_ctx,
        "parallel-slots": asked.n_slots,
        "batch-size": asked.n_batch and max(asked.n_batch, 32),
        "kv-cache": "unified" if asked.kv_unified else "split",
        "keep-alive": asked.sleep_idle_seconds or -1,
        "threads": asked.n_threads,
    }
    return tuple((key, str(value)) for key, value in given.items() if value is not None)


def names_in(source: str, parameters: dict[str, Any]) -> tuple[str, ...]:
    """The names by which a test asks for its model. llama-server takes any; here each is a file."""
    found = re.findall(r"""model["']?\s*[=:]\s*["']([^"'/]+)["']""", source)
    named = parameters.get("model")
    return tuple(dict.fromkeys([*found, *([named] if isinstance(named, str) else [])]))


class Running:
    """One service at a time."""

    def __init__(self, vocabularies: Path) -> None:
        self.vocabularies = vocabularies
        self.wanted: Wanted | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def serve(self, wanted: Wanted) -> int:
        """The port of a service that has computed nothing yet, with its default model loaded."""
        if self.process is None or self.process.poll() is not None or wanted != self.wanted:
            self.stop()
            self.start(wanted)
        else:
            self.post("/api/models/unload", {})
        if wanted.default:
            self.post("/models/load", {"model": wanted.default})
        return self.port

    def start(self, wanted: Wanted) -> None:
        folder = BUILD / "models"
        rmtree(folder, ignore_errors=True)
        for name, model in wanted.models:
            link = folder / f"{name}.gguf"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(made(model, self.vocabularies, BUILD / "standins"), link)
        self.port, self.wanted = free_port(), wanted
        command = [sys.executable, "-m", "service", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--model-dir", str(folder)]
        command += ["--state-dir", str(BUILD / "state")]
        for key, value in wanted.settings:
            command += [f"--{key}={value}"]
        if wanted.default:
            command += ["--default-model", wanted.default]
        with (BUILD / "service.log").open("ab") as log:
            # Models that the one who runs this has are not looked for.
            environment = {**os.environ, "HOME": str(BUILD)}
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start, see {BUILD / 'service.log'}")
            time.sleep(0.05)

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=10).is_success
        return False

    def post(self, path: str, body: dict[str, Any]) -> None:
        url = f"http://127.0.0.1:{self.port}{PREFIX}{path}"
        httpx.post(url, json=body, timeout=REQUEST_SECONDS).raise_for_status()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
