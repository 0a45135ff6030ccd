"""The manifests: against the service's own settings, routes and metrics. No cluster is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.responses import Response

from service import admin
from service.access.routes import PUBLIC
from service.cli import unknown_variables
from service.edge.host_guard import HostGuard
from service.server import CLOSE_SECONDS, FLUSH_SECONDS, HANDOVER_SECONDS
from service.settings import Settings
from service.settings_sources import load
from service.telemetry.compat import COPIES
from tests.deploy.conftest import ROOT
from tests.programs import promtool
from tests.prometheus.rules import names
from tests.telemetry.test_catalogue import PRESENT, catalogue

FOLDER = ROOT / "deploy/k8s"
FILES = sorted(FOLDER.glob("*.yaml"))
OBJECTS: list[dict[str, Any]] = [
    document for path in FILES for document in yaml.safe_load_all(path.read_text())
]


def one(kind: str) -> dict[str, Any]:
    (found,) = [each for each in OBJECTS if each["kind"] == kind]
    return found


POD: dict[str, Any] = one("Deployment")["spec"]["template"]
CONTAINER: dict[str, Any] = POD["spec"]["containers"][0]
ENVIRONMENT = {each["name"]: each["value"] for each in CONTAINER["env"]}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return load({})


def test_the_files_are_the_ones_that_are_told_of() -> None:
    assert [path.stem for path in FILES] == [
        "deployment",
        "epp-config",
        "inferencepool",
        "keda",
        "service",
    ]
    for each in OBJECTS:
        assert {"apiVersion", "kind", "metadata"} <= each.keys()
        assert re.fullmatch(r"[a-z][a-z0-9-]*", each["metadata"]["name"])


def test_what_is_set_are_settings_that_can_be_honoured(settings: Settings) -> None:
    assert unknown_variables(ENVIRONMENT) == []
    assert settings.port == CONTAINER["ports"][0]["containerPort"]
    mounted = {each["mountPath"]: each.get("readOnly", False) for each in CONTAINER["volumeMounts"]}
    assert {str(path): True for path in settings.model_dir}.items() <= mounted.items()
    assert mounted[str(settings.state_dir)] is False
    assert settings.pinned_models == (settings.default_model,)


@pytest.mark.parametrize(
    ("probe", "path"),
    [
        ("startupProbe", "/health/live"),
        ("livenessProbe", "/health/live"),
        ("readinessProbe", "/health/ready"),
    ],
)
def test_a_probe_asks_a_route_that_is_there(probe: str, path: str) -> None:
    asked = CONTAINER[probe]["httpGet"]

    assert asked == {"path": path, "port": "http"}
    assert path in {route.path for route in admin.routes}
    # Whether it lives is told to all; whether it is ready asks for no key, as nothing does here.
    assert PUBLIC == "GET /health/live"
    assert ENVIRONMENT["LLM_INSECURE_NO_AUTH"] == "true"


def test_a_pod_may_take_the_time_that_it_needs_to_end(settings: Settings) -> None:
    word, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    ending = HANDOVER_SECONDS + FLUSH_SECONDS + CLOSE_SECONDS
    needed = float(seconds) + settings.drain_delay + settings.drain_timeout + ending

    assert word == "sleep"
    grace = POD["spec"]["terminationGracePeriodSeconds"]
    assert grace >= needed
    assert grace >= float(seconds) + settings.drain_timeout + 10
    # It goes on serving for as long as others may not know yet.
    readiness = CONTAINER["readinessProbe"]
    assert float(seconds) > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_a_pod_is_confined() -> None:
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    image = (ROOT / "Dockerfile").read_text()
    assert f"USER {POD['spec']['securityContext']['runAsUser']}:" in image
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {each["name"] for each in CONTAINER["volumeMounts"]} == {
        each["name"] for each in POD["spec"]["volumes"]
    }
    assert re.fullmatch(r"llm-inference:\d+\.\d+\.\d+", CONTAINER["image"])


def test_everything_that_selects_pods_finds_them() -> None:
    labels = POD["metadata"]["labels"]
    selectors = [
        one("Deployment")["spec"]["selector"]["matchLabels"],
        one("Service")["spec"]["selector"],
        one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        one("InferencePool")["spec"]["selector"]["matchLabels"],
    ]

    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    assert (
        one("ScaledObject")["spec"]["scaleTargetRef"]["name"]
        == (one("Deployment")["metadata"]["name"])
    )


def test_every_port_is_the_one_that_is_listened_on(settings: Settings) -> None:
    (port,) = one("Service")["spec"]["ports"]
    (named,) = CONTAINER["ports"]
    (allowed,) = one("NetworkPolicy")["spec"]["ingress"][0]["ports"]

    assert port["targetPort"] == named["name"]
    assert port["port"] == allowed["port"] == settings.port
    assert one("InferencePool")["spec"]["targetPorts"] == [{"number": settings.port}]


def test_the_service_answers_to_the_names_that_it_has_there(settings: Settings) -> None:
    async def nobody(*_: Any) -> None: ...

    guard = HostGuard(nobody, lambda: settings, lambda _: Response())
    name = one("Service")["metadata"]["name"]
    for host in (name, f"{name}.default.svc.cluster.local", "10.1.2.3"):
        assert guard.admits({"type": "http", "headers": [(b"host", f"{host}:11436".encode())]})
    assert not guard.admits({"type": "http", "headers": [(b"host", b"evil.example")]})


def test_the_endpoint_picker_reads_gauges_that_there_are() -> None:
    config = yaml.safe_load(one("ConfigMap")["data"]["config.yaml"])
    plugins = {each.get("name", each["type"]): each for each in config["plugins"]}
    (engine,) = plugins["meaning"]["parameters"]["engineConfigs"]
    copied = {copy.name: copy.of for copy in COPIES}
    kinds = {
        line.split()[0]: line.split()[1]
        for line in (ROOT / "tests/telemetry/families.txt").read_text().splitlines()
    }

    assert plugins["metrics"]["parameters"]["path"] in {route.path for route in admin.routes}
    specs = [value for key, value in engine.items() if key.endswith("Spec")]
    assert len(specs) == 3
    assert {kinds[copied[spec]] for spec in specs} == {"gauge"}
    assert engine["name"] == POD["metadata"]["labels"]["llm-d.ai/engine-type"]
    used = [each["pluginRef"] for each in config["schedulingProfiles"][0]["plugins"]]
    (source,) = config["dataLayer"]["sources"]
    used += [source["pluginRef"], *(each["pluginRef"] for each in source["extractors"])]
    assert set(used) == plugins.keys()


def test_what_is_scaled_by_is_measured(tmp_path: Path) -> None:
    (trigger,) = one("ScaledObject")["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    present = {name for name, state in catalogue().items() if state == PRESENT}

    assert names(query) <= present | {"up"}
    assert f'model="{ENVIRONMENT["LLM_DEFAULT_MODEL"]}"' in query
    rules = tmp_path / "rules.yml"
    rules.write_text(
        yaml.safe_dump({"groups": [{"name": "k8s", "rules": [{"record": "x", "expr": query}]}]})
    )
    promtool("check", "rules", rules)
