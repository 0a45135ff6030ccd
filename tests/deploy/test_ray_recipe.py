"""What of deploy/ray needs no Ray: whose request it is, and the service of a replica."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from pydantic import ValidationError

from deploy.ray import routing
from deploy.ray.recipe import Model, Recipe
from deploy.ray.replica_service import ReplicaService, announce
from service.cli import parser
from tests.deploy.conftest import ROOT
from tests.dialects.serving import wait_until

FAKE = (sys.executable, "-m", "tests.serve_fake", "short")


@pytest.mark.parametrize(
    ("headers", "body", "model"),
    [
        ([], b'{"model": "a"}', "a"),
        ([], b'{"messages": [{"model": "b"}], "model": "a:latest"}', "a"),
        ([(b"X-Model", b"b:7b")], b'{"model": "a"}', "b:7b"),
        ([], b'{"model": 7}', None),
        ([], b"[]", None),
        ([], b"{", None),
        ([], b"", None),
        ([], b"\xff", None),
        ([], b"[" * 100_000, None),
    ],
)
def test_the_model_is_what_the_header_says_else_the_body(
    headers: list[tuple[bytes, bytes]], body: bytes, model: str | None
) -> None:
    assert routing.model_of(headers, body) == model


def test_what_is_of_one_connection_is_not_passed_on() -> None:
    given = [(b"Host", b"a"), (b"Connection", b"close"), (b"x-model", b"a"), (b"TE", b"trailers")]

    assert routing.passed_on(given) == [(b"Host", b"a")]


def test_lists_of_several_models_are_one() -> None:
    one = {"object": "list", "data": [{"id": "a"}, {"id": "demo"}]}
    other = {"object": "list", "data": [{"id": "b"}, {"id": "demo"}]}

    assert routing.list_in("GET", "/vllm/v1/models") == "data"
    assert routing.list_in("GET", "/v1/models/a") is None
    assert routing.list_in("POST", "/api/tags") is None
    found = routing.joined([one, other], "data")
    assert found == {"object": "list", "data": [{"id": "a"}, {"id": "demo"}, {"id": "b"}]}


def test_the_recipe_as_it_is_delivered_starts_the_service() -> None:
    (told,) = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())["applications"]
    recipe = Recipe(**told["args"])
    command = recipe.service(recipe.models[0], "/state")

    assert told["import_path"] == "deploy.ray.serve_app:application"
    assert (ROOT / "prometheus/targets").is_dir()
    assert recipe.targets == "prometheus/targets"
    given = vars(parser().parse_args(command[len(recipe.command) :]))
    assert given["default_model"] == given["pinned_models"] == "demo:latest"
    assert (given["parallel_slots"], given["queue_size"]) == ("4", "16")


def test_a_mistake_in_a_recipe_is_named() -> None:
    with pytest.raises(ValidationError, match="replcas"):
        Recipe.model_validate({"models": [{"name": "a", "replcas": 2}]})
    assert Model(name="qwen2.5:7b").slug == "qwen2-5-7b"


def test_the_service_of_a_replica_is_reached_and_its_end_is_told() -> None:
    ended = threading.Event()
    found = ReplicaService("127.0.0.1", FAKE, lambda code: ended.set())
    # Its socket is there at once: whoever connects before it serves waits.
    assert httpx.get(found.url + "/health/live", timeout=60).status_code == 200
    assert not ended.is_set()

    os.kill(found.pid, signal.SIGKILL)
    assert ended.wait(30)


def test_the_service_dies_with_its_replica() -> None:
    replica = f"""
        import sys, threading
        from deploy.ray.replica_service import ReplicaService
        found = ReplicaService("127.0.0.1", {FAKE!r}, lambda code: None)
        print(found.pid, flush=True)
        threading.Event().wait()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(replica)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        service = psutil.Process(int(process.stdout.readline()))
        process.kill()
        process.wait()

    wait_until(lambda: not service.is_running() or service.status() == psutil.STATUS_ZOMBIE, 30)


def test_prometheus_is_told_of_replicas_that_are_there(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    announce(tmp_path, "127.0.0.1:1", gone.pid, "a")
    announce(tmp_path, "127.0.0.1:2", os.getpid(), "a")

    (path,) = tmp_path.iterdir()
    assert path.match("services*.yml")
    assert yaml.safe_load(path.read_text()) == [
        {"targets": ["127.0.0.1:2"], "labels": {"pool": "a"}}
    ]
