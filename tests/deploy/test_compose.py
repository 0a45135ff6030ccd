"""compose.yaml: as its specification has it, as an engine reads it, and as a newcomer needs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.responses import Response

from service.edge.host_guard import HostGuard
from service.settings_sources import load

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "compose.yaml", *sorted((ROOT / "deploy/compose").glob("[ck]*.yaml"))]
COMPOSE: dict[str, Any] = yaml.safe_load(FILES[0].read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BY_NAME = pytest.mark.parametrize("name", SERVICES)


def default(text: str) -> str:
    """What `${NAME:-default}` is for who sets nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_is_as_the_specification_has_it(file: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file],
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout


def config(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The files resolved by podman-compose, which only wants to know that there is a podman."""
    podman = folder / "podman"
    podman.write_text("#!/bin/sh\necho podman version 5.0.0\n")
    podman.chmod(0o755)
    return subprocess.run(
        [sys.executable, "-m", "podman_compose", *arguments, "config"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("profiles", "services"),
    [
        ([], {"llm", "exporter", "prometheus", "alertmanager", "grafana"}),
        (["lb"], {"llm-b", "haproxy"}),
        (["tracing"], {"tempo"}),
    ],
)
def test_a_profile_only_adds(tmp_path: Path, profiles: list[str], services: set[str]) -> None:
    found = {n for n, s in SERVICES.items() if s.get("profiles", []) == profiles}
    result = config(tmp_path, *(word for each in profiles for word in ("--profile", each)))

    assert found == services
    assert result.returncode == 0, result.stderr
    assert services <= yaml.safe_load(result.stdout)["services"].keys()


def test_on_gpus_the_same_services_have_them(tmp_path: Path) -> None:
    result = config(tmp_path, "-f", "compose.yaml", "-f", "deploy/compose/cuda.yaml")

    assert result.returncode == 0, result.stderr
    found = yaml.safe_load(result.stdout)["services"]
    with_gpus = {name for name, service in found.items() if "deploy" in service}
    assert with_gpus == {"llm", "exporter"}
    assert {found[name]["build"]["target"] for name in with_gpus} == {"cuda"}


def test_keys_that_are_missing_are_asked_for_by_name(tmp_path: Path) -> None:
    files = ("-f", "compose.yaml", "-f", "deploy/compose/keys.yaml")
    given = {"API_KEYS_FILE": "/keys", "METRICS_TOKEN_FILE": "/token"}

    refused = config(tmp_path, *files)
    assert refused.returncode != 0
    assert "which llm-inference keys writes" in refused.stderr
    result = config(tmp_path, *files, **given)
    assert result.returncode == 0, result.stderr
    service = yaml.safe_load(result.stdout)["services"]["llm"]
    assert service["environment"]["LLM_INSECURE_NO_AUTH"] == "false"


@BY_NAME
def test_every_service_is_confined_limited_and_watched(name: str) -> None:
    service = SERVICES[name]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["pids_limit"] > 0
    assert "mem_limit" in service
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert not {"privileged", "network_mode", "pid", "cap_add"} & service.keys()


@BY_NAME
def test_every_image_has_a_version(name: str) -> None:
    image = default(SERVICES[name]["image"])

    assert re.fullmatch(r"(docker\.io/[\w/-]+:v?\d+\.\d+\.\d+[\w.-]*|llm-inference:local)", image)


def test_the_images_that_ours_are_made_from_have_versions_too() -> None:
    given = re.findall(r"^ARG \w+_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text(), re.M)

    assert len(given) == 3
    assert [image for image in given if not re.search(r":\d+\.\d+\.\d+[\w.-]*$", image)] == []


@BY_NAME
def test_every_port_is_of_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert default(port).startswith("127.0.0.1:")


@BY_NAME
def test_what_is_mounted_is_in_a_clone(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = default(volume).split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert volume.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_the_secrets_that_nobody_gave_are_in_a_clone() -> None:
    for secret in COMPOSE["secrets"].values():
        assert (ROOT / default(secret["file"])).read_text().strip()


def test_nothing_but_what_is_published_is_reached_from_outside() -> None:
    assert COMPOSE["networks"]["monitoring"] == {"internal": True}


def addresses_of(network: str) -> set[str]:
    found = set()
    for name, service in SERVICES.items():
        networks = service["networks"]
        if network in networks:
            found.add(name)
            if isinstance(networks, dict):
                found |= set((networks[network] or {}).get("aliases", []))
    return found


def prometheus() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    return found


def test_whatever_prometheus_asks_has_that_name_in_its_network() -> None:
    scraped = prometheus()
    configs = [*scraped["scrape_configs"], *scraped["alerting"]["alertmanagers"]]
    targets = [t for c in configs for s in c.get("static_configs", []) for t in s["targets"]]
    looked_up = [n for c in configs for s in c.get("dns_sd_configs", []) for n in s["names"]]
    hosts = {target.partition(":")[0] for target in targets} - {"localhost"}
    hosts |= {name.removesuffix(".") for name in looked_up}

    assert "prometheus" in addresses_of("monitoring")
    assert hosts <= addresses_of("monitoring")


def test_what_a_profile_adds_is_scraped_while_it_is_there_and_else_is_no_target() -> None:
    jobs = {job["job_name"]: job for job in prometheus()["scrape_configs"]}
    names = {
        (name.removesuffix("."), found["port"])
        for job in ("llm-service", "llm-balancer")
        for found in jobs[job]["dns_sd_configs"]
        for name in found["names"]
    }

    assert names == {("llm-b", 11436), ("haproxy", 8405)}
    assert {SERVICES[name]["profiles"][0] for name, _ in names} == {"lb"}
    assert "static_configs" not in jobs["llm-balancer"]


@pytest.mark.parametrize("host", ["service:11436", "llm:11436", "127.0.0.1:11436", "haproxy:11436"])
def test_the_service_answers_to_the_names_that_it_has_there(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guard_of(monkeypatch)

    assert guard.admits({"type": "http", "headers": [(b"host", host.encode())]})
    assert not guard.admits({"type": "http", "headers": [(b"host", b"evil.example:11436")]})


async def nobody(*_: Any) -> None: ...


def guard_of(monkeypatch: pytest.MonkeyPatch) -> HostGuard:
    for key, value in SERVICES["llm"]["environment"].items():
        monkeypatch.setenv(key, default(value))
    settings = load({})
    return HostGuard(nobody, lambda: settings, lambda _: Response())
