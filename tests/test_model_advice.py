"""A model file that says what to sample with, against the service as a user starts it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.catalog.gguf_files import text, value
from tests.engine.child import DEMO
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

CHAT = {"messages": [{"role": "user", "content": "Count from 1 to 9."}], "max_tokens": 24}


def advised(data: bytes, temperature: float) -> bytes:
    """The same model with the advice in front of its metadata. Its tensors have to begin at a
    multiple of 32 again: a key of the right length sees to that."""
    magic, version, tensors, keys = struct.unpack_from("<4sIQQ", data)
    entry = text("general.sampling.temp") + value(temperature)
    filler = text("general.filler") + value("")
    filler = text("general.filler") + value("x" * (-len(entry + filler) % 32))
    head = struct.pack("<4sIQQ", magic, version, tensors, keys + 2)
    return head + entry + filler + data[24:]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("models")
    (folder / "advised.gguf").write_bytes(advised(DEMO.read_bytes(), 0.0))
    with service(folder, "--default-context-size", "1024", "--no-discover-models") as running:
        yield running


def test_the_advice_is_followed_shown_and_overruled(running: Service) -> None:
    def told(**more: object) -> str:
        answer = httpx.post(running.url + "/v1/chat/completions", json={**CHAT, **more}, timeout=60)
        content: str = answer.json()["choices"][0]["message"]["content"]
        return content

    greedy = told(temperature=0)
    assert {told(), told(seed=1), told(seed=2)} == {greedy}
    assert len({greedy, *(told(temperature=2, seed=seed) for seed in range(4))}) > 1
    shown = httpx.post(running.url + "/api/show", json={"model": "advised"}).json()
    assert shown["parameters"].split() == ["temperature", "0.0"]
    props = httpx.get(running.url + "/props").json()
    assert props["default_generation_settings"]["params"]["temperature"] == 0.0
