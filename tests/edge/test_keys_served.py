"""The service as a process, behind a key file that changes under it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.control.audit_chain import entries, verified
from tests.dialects.serving import wait_until
from tests.key_files import bearer, key_of, line, put
from tests.service_process import Service, service

CLIENTS = 16
RELOADED = "llm_api_keys_last_reload_successful"
READ_AT = "llm_api_keys_last_reload_success_timestamp_seconds"
CANARY = "Zanzibar-canary-prompt"
# Longer than one that a cache would not bother with.
PROMPT = f"{CANARY} " + "one two three four five six seven eight nine ten " * 8
OPS = line("ops", "admin,read,metrics,inference")
A, B = line("a", "inference"), line("b", "inference")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    keys = put(folder / "api-keys", OPS, A, B)
    with service(
        folder, "--api-keys-file", str(keys), authorization=bearer("ops")["Authorization"]
    ) as running:
        yield running


def chat(running: Service, name: str, text: str, **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 2, **more}
    return httpx.post(
        running.url + "/v1/chat/completions", json=body, headers=bearer(name), timeout=60
    )


def cached(running: Service, name: str) -> int:
    usage = chat(running, name, PROMPT).json()["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_what_was_computed_for_one_key_is_computed_again_for_another(running: Service) -> None:
    first, again, other = (cached(running, name) for name in ("a", "a", "b"))

    assert (first, other) == (0, 0)
    assert again > 0


def test_the_log_has_the_names_of_keys(running: Service) -> None:
    chat(running, "a", "hi")
    wait_until(lambda: any(entry.get("key_name") == "a" for entry in running.log))


def test_keys_change_under_sixteen_clients_and_none_of_them_notices(
    running: Service, folder: Path
) -> None:
    path, over = folder / "api-keys", threading.Event()
    seen: Counter[int | str] = Counter()
    counting = threading.Lock()

    def client() -> None:
        with httpx.Client(base_url=running.url, headers=bearer("ops"), timeout=60) as http:
            while not over.is_set():
                status = http.get("/v1/models").status_code
                with counting:
                    seen[status] += 1

    def status(name: str) -> int:
        return httpx.get(running.url + "/v1/models", headers=bearer(name), timeout=60).status_code

    def read_since(time: float) -> bool:
        return running.metric(READ_AT) > time

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    steps = (
        ([OPS, A, B, line("c", "inference")], "c", 200),
        ([OPS, A, B, line("c", "inference", expires="2020-01-01")], "c", 401),
        ([OPS, A], "b", 401),
        ([OPS, A, B], "b", 200),
    )
    try:
        for lines, name, expected in steps:
            before = running.metric(READ_AT)
            put(path, *lines)
            # Not by trying the key until it is known: ten refusals, and it is throttled.
            wait_until(partial(read_since, before), 60)
            assert (status(name), status("a")) == (expected, 200)
        put(path, "broken")
        wait_until(lambda: running.metric(RELOADED) == 0, 60)
        assert status("a") == 200
        put(path, OPS, A, B)
        wait_until(lambda: running.metric(RELOADED) == 1, 60)
        assert status("b") == 200
    finally:
        over.set()
        for thread in threads:
            thread.join()

    assert seen.keys() == {200}
    assert running.metric("llm_api_keys") == 3
    assert running.metric("llm_auth_failures_total", 'reason="expired"') == 1


def test_administration_without_the_scope_is_refused_and_on_record(
    running: Service, folder: Path
) -> None:
    refused = [
        httpx.post(running.url + path, json={"model": "demo"}, headers=bearer("a"), timeout=60)
        for path in ("/models/unload", "/api/pull", "/v1/load_lora_adapter")
    ]
    done = httpx.post(
        running.url + "/models/unload", json={"model": "demo"}, headers=bearer("ops"), timeout=60
    )

    assert [answer.status_code for answer in (*refused, done)] == [403, 403, 403, 200]
    wait_until(lambda: any(entry["action"] == "unload" for entry in entries(folder)))
    lines = [(entry["key"], entry["action"], entry["result"]) for entry in entries(folder)]
    assert ("a", "POST /models/unload", "refused: the key lacks the scope") in lines
    assert ("ops", "unload", "done") in lines
    assert verified(folder).problems == ()


def test_no_prompt_and_no_key_is_left_anywhere(running: Service, folder: Path) -> None:
    """Last, when all the others have left what they leave."""
    errors = [
        httpx.post(running.url + path, json={"prompt": CANARY}, headers=bearer(name)).text
        for path in ("/v1/completions?x=1", "/nothing", "/api/chat", "/models/unload")
        for name in ("ops", "a", "stranger")
    ]
    written = [
        file.read_bytes().decode("utf-8", "replace") for file in folder.iterdir() if file.is_file()
    ]
    places = [*errors[3:], running.metrics(), *map(str, running.log), *written]
    secrets = [CANARY, *map(key_of, ("ops", "stranger"))]

    assert len(places) > 20
    assert [
        (secret, place[:200]) for place in places for secret in secrets if secret in place
    ] == []
