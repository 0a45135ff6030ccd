"""The whole service under what it must survive: a process, real engines, the demo model."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import hostile_models
from tests.dialects.serving import wait_until
from tests.service_process import Service, service

CHAT = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0}
ENDLESS = {
    "messages": [{"role": "user", "content": "Count from 1 to 60"}],
    "stream": True,
    "max_tokens": 3000,
    "ignore_eos": True,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("models")) as running:
        yield running


def ask(running: Service, **body: Any) -> httpx.Response:
    return httpx.post(running.url + "/v1/chat/completions", json={**CHAT, **body}, timeout=60)


def complete(running: Service, **body: Any) -> httpx.Response:
    return httpx.post(running.url + "/v1/completions", json=body, timeout=60)


# What kills a process that hands it to llama.cpp unlooked at, or keeps it busy for ever.
HOSTILE_REQUESTS: dict[str, dict[str, Any]] = {
    "a token outside the vocabulary": {"prompt": [10**6]},
    "a negative token": {"prompt": [-1]},
    "an empty list of tokens": {"prompt": []},
    "a bias for a token that is not there": {"prompt": "a", "logit_bias": {"99999999": 1}},
    "NUL in a grammar": {"prompt": "a", "grammar": 'root ::= "\\x00"+'},
    "30 000 parentheses": {"prompt": "a", "grammar": "root ::= " + "(" * 30_000 + ")" * 30_000},
    "a chain of 100 000 rules": {
        "prompt": "a",
        "grammar": "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1}" for i in range(100_000)),
    },
    "20 000 alternatives": {"prompt": "a", "grammar": "root ::= " + "|".join(['"a"'] * 20_000)},
    "a class of 30 000 ranges": {
        "prompt": "a",
        "grammar": "root ::= [" + "".join(f"\\u{i:04x}-\\u{i:04x}" for i in range(30_000)) + "]",
    },
    "left recursion": {"prompt": "a", "grammar": 'root ::= root "a"'},
    "a rule that is not there": {"prompt": "a", "grammar": "root ::= nowhere"},
    "a schema that no grammar can say": {"prompt": "a", "guided_json": {"not": {}}},
    "too many answers": {"prompt": "a", "n": 10_000},
    "a temperature of the wrong sign": {"prompt": "a", "temperature": -1},
    "a prompt of a million tokens": {"prompt": "a " * 1_000_000},
}


@pytest.mark.parametrize("name", HOSTILE_REQUESTS)
def test_a_hostile_request_is_refused_in_under_a_second(running: Service, name: str) -> None:
    (engine,) = running.engines()
    started = time.monotonic()
    answer = complete(running, **HOSTILE_REQUESTS[name])

    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert time.monotonic() - started < 1
    assert [process.pid for process in running.engines()] == [engine.pid]


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 1e-30},
        {"repeat_penalty": 1.1, "repeat_last_n": 2**31 - 1},
        {"dry_multiplier": 1, "dry_penalty_last_n": 2**31 - 1, "dry_allowed_length": 2**31 - 1},
        {"mirostat": 1, "mirostat_tau": 0, "mirostat_eta": 0},
        {"top_k": 2**31 - 1, "top_p": 0, "min_p": 1, "typical_p": 0},
        {"min_tokens": 20, "max_tokens": 20},
        {"logit_bias": {str(token): -100 for token in range(1000)}},
        {"max_tokens": 2**31 - 1, "stop": ["."]},
    ],
    ids=lambda body: ",".join(body),
)
def test_extreme_values_are_honoured_without_harm(running: Service, body: dict[str, Any]) -> None:
    (engine,) = running.engines()

    assert ask(running, **{"max_tokens": 20, **body}).status_code == 200
    assert [process.pid for process in running.engines()] == [engine.pid]


def test_a_model_that_kills_its_loader_leaves_the_others_alone(tmp_path: Path) -> None:
    """R2: twenty-one files that loaders fall over, each asked for, while another model answers."""
    hostile_models.write(tmp_path)
    shutil.copy(hostile_models.DEMO, tmp_path / "good.gguf")
    with service(tmp_path, "--default-model", "good") as running:
        answers = {}
        for name in hostile_models.HOSTILE:
            answers[name] = ask(running, model=name, max_tokens=4)
            assert ask(running, model="good", max_tokens=4).status_code == 200
        health = httpx.get(running.url + "/health/models/too-many-blocks").json()

        # Two are odd, and can be answered from all the same.
        odd = {name for name, answer in answers.items() if answer.status_code == 200}
        assert odd <= {"eos-outside", "noise-in-tokens"}
        for name, answer in answers.items():
            assert name in odd or answer.status_code in (404, 422, 500, 503), name
            assert name in odd or answer.json()["error"]["message"]
            assert str(tmp_path) not in answer.text
        assert health["state"] == "failed"
        assert health["reason"]


def test_a_file_cut_short_under_a_running_engine_costs_that_engine_only(tmp_path: Path) -> None:
    """Its pages are gone: the next to touch one gets SIGBUS."""
    shutil.copy(hostile_models.DEMO, tmp_path / "victim.gguf")
    shutil.copy(hostile_models.DEMO, tmp_path / "other.gguf")
    with service(tmp_path, "--default-model", "other") as running:
        assert ask(running, model="victim", max_tokens=2).status_code == 200
        assert ask(running, model="other", max_tokens=2).status_code == 200
        (tmp_path / "victim.gguf").write_bytes(b"")
        answer = ask(running, model="victim", max_tokens=50)

        assert answer.status_code in (404, 500, 503)
        assert ask(running, model="other", max_tokens=2).status_code == 200


async def test_a_killed_engine_ends_streams_with_an_error_and_answers_the_queued(
    running: Service,
) -> None:
    """R1: eight streams and eight that wait behind them; scrapes and health go on all the time."""
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        begun: asyncio.Semaphore = asyncio.Semaphore(0)

        async def stream() -> str:
            lines = []
            request = client.stream("POST", "/v1/chat/completions", json=ENDLESS)
            async with request as response:
                async for line in response.aiter_lines():
                    lines.append(line)
                    if len(lines) == 6:
                        begun.release()
            return "\n".join(lines)

        streams = [asyncio.create_task(stream()) for _ in range(4)]
        for _ in streams:
            await begun.acquire()
        body = {**CHAT, "max_tokens": 8}
        queued = [
            asyncio.create_task(client.post("/v1/chat/completions", json=body)) for _ in range(8)
        ]
        await asyncio.sleep(0.3)
        before = running.metric("llm_generated_tokens_total")
        (engine,) = running.engines()
        engine.send_signal(signal.SIGKILL)
        texts = await asyncio.wait_for(asyncio.gather(*streams), 5)
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        answers = await asyncio.wait_for(asyncio.gather(*queued), 30)

    for text in texts:
        assert '"code":"engine_crashed"' in text
        assert text.rstrip().endswith("data: [DONE]")
        assert '"finish_reason":"stop"' not in text
    assert [answer.status_code for answer in answers] == [200] * 8
    assert running.metric("llm_generated_tokens_total") >= before


def test_what_is_reported_adds_up_after_a_thousand_mixed_requests(running: Service) -> None:
    """Streamed, whole, refused, left in the middle: every one is in the figures, once."""
    wait_until(running.at_rest, 30)
    names = {
        "finished": "llm_requests_finished_total",
        "rejected": "llm_requests_rejected_total",
        "answered": "llm_requests_total",
    }
    before = {key: running.metric(name) for key, name in names.items()}
    asyncio.run(_mixed(running.url, 1000))
    wait_until(running.at_rest, 30)
    after = {key: running.metric(name) - before[key] for key, name in names.items()}

    assert after["answered"] == 1000
    assert after["finished"] + after["rejected"] == 1000
    assert running.metric("llm_kv_cache_tokens") <= running.metric("llm_kv_cache_capacity_tokens")
    assert running.metric("llm_engine_slots_busy") == 0
    assert running.metric("llm_requests_running") == running.metric("llm_requests_waiting") == 0
    prompt = running.metric("llm_request_prompt_tokens_sum")
    assert prompt == running.metric("llm_prompt_tokens_total")
    assert running.metric("llm_generated_tokens_total") == running.metric(
        "llm_request_output_tokens_sum"
    )
    ttft = running.metric("llm_time_to_first_token_seconds_sum")
    assert 0 < ttft <= running.metric("llm_request_duration_seconds_sum")


async def _mixed(url: str, count: int) -> None:
    draw = random.Random(7)
    window = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def one(kind: str, question: str) -> None:
            body: dict[str, Any] = {
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 12,
            }
            async with window:
                if kind == "whole":
                    assert (await client.post("/v1/chat/completions", json=body)).is_success
                elif kind == "unknown":
                    body["model"] = "nobody"
                    answer = await client.post("/v1/chat/completions", json=body)
                    assert answer.status_code == 404
                elif kind == "invalid":
                    body["temperature"] = 9
                    answer = await client.post("/v1/chat/completions", json=body)
                    assert answer.status_code == 400
                else:
                    body |= {"stream": True, "max_tokens": 200, "ignore_eos": kind == "left"}
                    request = client.stream("POST", "/v1/chat/completions", json=body)
                    async with request as response:
                        async for line in response.aiter_lines():
                            if kind == "left" and draw.random() < 0.3:
                                break
                            assert "error" not in line

        kinds = draw.choices(
            ["whole", "streamed", "left", "unknown", "invalid"], [5, 3, 2, 1, 1], k=count
        )
        await asyncio.gather(*(one(kind, f"What is {n % 90} + 7?") for n, kind in enumerate(kinds)))


def test_promtool_accepts_the_metrics_under_load(running: Service) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: it comes with Debian's package `prometheus`")
    with httpx.stream("POST", running.url + "/v1/chat/completions", json=ENDLESS) as response:
        lines = response.iter_lines()
        next(lines)
        text = running.metrics()
    check = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )

    assert (check.returncode, check.stdout + check.stderr) == (0, "")
    assert 'llm_requests_running{api="openai",model="demo:latest"} 1.0' in text


def test_sigterm_lets_streams_finish_and_then_exits(tmp_path: Path) -> None:
    """R8: twelve streams on four slots, all finished; exit code 0, no engine left."""
    with service(tmp_path) as running:
        engines = running.engines()

        async def drain() -> list[str]:
            async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
                body = {**CHAT, "stream": True, "max_tokens": 60, "ignore_eos": True}
                first = asyncio.Event()

                async def stream() -> str:
                    text = ""
                    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                        assert response.status_code == 200
                        async for line in response.aiter_lines():
                            text += line
                            first.set()
                    return text

                tasks = [asyncio.create_task(stream()) for _ in range(12)]
                await first.wait()
                await asyncio.sleep(0.2)
                os.kill(running.process.pid, signal.SIGTERM)
                return await asyncio.gather(*tasks)

        texts = asyncio.run(drain())

        assert all('"finish_reason":"length"' in text for text in texts)
        assert running.process.wait(20) == 0
        assert not any(psutil.pid_exists(engine.pid) for engine in engines)


def test_no_log_line_holds_a_prompt_or_an_answer(tmp_path: Path) -> None:
    canary = "xylophone-canary-7391"
    with service(tmp_path, "--log-level", "debug") as running:
        ask(running, messages=[{"role": "user", "content": canary}])
        ask(running, messages=[{"role": "user", "content": canary}], temperature=9)
        complete(running, prompt=canary, grammar=f'root ::= "{canary}"', max_tokens=30)
        complete(running, prompt=canary * 5000)
        assert canary not in running.metrics()
        log = running.log

    assert len(log) > 4
    assert canary not in json.dumps(log)
