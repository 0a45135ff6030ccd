"""Holds the order of imports: a folder of `service` is a layer, and reaches only for those below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top: a name may import the names of later lines, and inside its own folder.
ORDER = """
    __main__
    cli
    server probe processor
    commands
    app
    observing lifetime
    dialects admin edge
    tuning
    serving
    followed_file
    telemetry
    fleet store control
    text catalog access
    generation events stats facts context errors model_settings registries visible_gpus \
    settings setting_values settings_file settings_errors settings_sources settings_needs \
    settings_table systemd host_memory whole_file
"""
RANK = {name: rank for rank, line in enumerate(ORDER.strip().splitlines()) for name in line.split()}
GROUND = {name for name, rank in RANK.items() if rank == max(RANK.values())}

# Beside the order: the engine is another process, which shares the ground and the pure text layer,
# and of which the parent knows the messages alone.
OF_THE_OPERATOR = {"model_settings", "registries", *(n for n in GROUND if n.startswith("setting"))}
ENGINE_MAY = {"engine", "text", *GROUND - OF_THE_OPERATOR}

IMPORTERS = {
    # It can abort the process that it is loaded into.
    "llama_cpp": {
        "service.engine.llama",
        "service.engine.llama_adapters",
        "service.engine.llama_candidates",
        "service.engine.llama_chain",
        "service.engine.llama_context",
        "service.engine.llama_embedding",
        "service.engine.llama_facts",
        "service.engine.llama_grammar",
        "service.engine.llama_load",
        "service.engine.llama_sampler",
        "service.engine.quantize",
    },
    # It is there only where it was asked for.
    "opentelemetry": {"service.telemetry.spans", "service.telemetry.span_queue"},
    "pynvml": {"exporters.nvml", "exporters.nvml_gpu", "service.fleet.devices"},
}


# Of the exporters, which know nothing of the service, `observing` has the collectors. What was read is
# frozen values without any code that reads, so the layers that show it or judge it may know those.
SHOW_READINGS = {"admin", "control", "dialects", "telemetry", "tuning"}


# And the one reader of control groups tells the ground what memory they allow.
READS_GROUPS = ("service.host_memory", ["cgroup"])


def knows_readings(within: list[str], inner: list[str]) -> bool:
    return inner[:1] == ["readings"] and not SHOW_READINGS.isdisjoint(within[:1])


def allowed(importer: str, imported: str) -> bool:
    """May the module `importer` say `import imported`, or import such a name from its module?"""
    top, *within = importer.split(".")
    target, *inner = imported.split(".")
    if target in IMPORTERS:
        return importer in IMPORTERS[target]
    if target in {"tests", "tools", "bench", "grafana"}:
        return False
    if target == "exporters":
        if (importer, inner[:1]) == READS_GROUPS:
            return True
        return top == "exporters" or within[:1] == ["observing"] or knows_readings(within, inner)
    if target != "service":
        return True
    if top != "service" or not inner:
        return False
    mine, theirs = within[0] if within else "", inner[0]
    if mine == theirs:
        return True
    if mine == "engine":
        return theirs in ENGINE_MAY
    if theirs == "engine":
        return mine == "fleet" and inner[1:2] == ["wire"]
    if {mine, theirs} <= GROUND:
        return True
    return mine in RANK and theirs in RANK and RANK[mine] < RANK[theirs]


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that the module imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            near = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*near, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def violations(source: str, module: str) -> list[str]:
    found = imports(source, module)
    return [f"{module}:{line} imports {name}" for line, name in found if not allowed(module, name)]


def test_every_import_points_downwards() -> None:
    files = [*ROOT.glob("service/**/*.py"), *ROOT.glob("exporters/**/*.py")]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}

    assert "service.events" in modules
    assert [v for m, file in modules.items() for v in violations(file.read_text(), m)] == []


def test_every_name_in_service_has_a_place_in_the_order() -> None:
    names = {path.stem for path in (ROOT / "service").iterdir() if not path.name.startswith("__")}

    assert names - RANK.keys() - {"engine", "py"} == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("service.app", "from service.cli import main"),
        ("service.events", "import service.text.stops"),
        ("service.text.stops", "from service.catalog import card"),
        ("service.text.stops", "def f():\n    from service.serving.runtime import Runtime"),
        ("service.dialects.openai.routes", "from service.admin import routes"),
        ("service.dialects.openai.routes", "from ...fleet.host import Host\nimport service.app"),
        ("service.fleet.host", "from service.engine.scheduler import Scheduler"),
        ("service.fleet.host", "from service.engine import scheduler"),
        ("service.fleet.host", "import llama_cpp"),
        ("service.serving.runtime", "from service.engine.wire import Submit"),
        ("service.engine.engine", "from service.settings import Settings"),
        ("service.engine.engine", "from service.catalog.card import ModelCard"),
        ("service.engine.sampling", "import llama_cpp"),
        ("service.telemetry.recorder", "from exporters.nvml import read"),
        ("service.control.hardware", "from exporters.nvml import Nvml"),
        ("service.dialects.seed.routes", "from exporters.monitors import Monitors"),
        ("service.text.stops", "from exporters.readings import GpuReading"),
        ("service.engine.llama", "from exporters.cgroup import Cgroup"),
        ("service.text.stops", "from tests.fakes import FakeModel"),
        ("exporters.memory", "from service.events import Usage"),
    ],
)
def test_an_import_against_the_order_is_found(module: str, source: str) -> None:
    assert violations(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "service.dialects.vllm.routes",
            "from service.dialects.openai import routes\nfrom .. import respond",
        ),
        ("service.events", "from service.generation import Message"),
        (
            "service.fleet.host",
            "from service.engine.wire import Submit\nfrom service.engine import wire",
        ),
        ("service.engine.llama", "import llama_cpp\nfrom service.text.stops import StopMatcher"),
        ("service.engine.wire", "from service.stats import StepStats"),
        ("service.control.hardware", "from exporters.readings import GpuReading"),
        ("service.observing", "from exporters.monitors import Monitors"),
        ("service.host_memory", "from exporters.cgroup import Cgroup"),
        ("service.engine.llama", "from service.host_memory import host_memory"),
        ("exporters.memory", "from exporters.nvml import Nvml\nimport psutil"),
        ("service.cli", "import argparse\nfrom service.app import create_app"),
    ],
)
def test_an_import_with_the_order_is_allowed(module: str, source: str) -> None:
    assert violations(source, module) == []
