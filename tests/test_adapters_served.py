"""LoRA adapters behind the service as a user starts it, in each dialect's own words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from service.catalog.demo import PATH
from tests.engine.adapters import adapter
from tests.engine.child import chat
from tests.service_process import Service, service

PROMPT = chat("What is 40 + 2?")
OWN = {"path": "a.gguf", "name": "sums", "scale": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(PATH, folder / "base.gguf")
    task = {"adapter.lora.task_name": "sums", "adapter.lora.prompt_prefix": "Sum: "}
    adapter(folder / "a.gguf", 13, task)
    adapter(folder / "b.gguf", 20)
    adapter(folder / "other.gguf", metadata={"general.architecture": "qwen2"})
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    own = {**OWN, "path": str(folder / "a.gguf")}
    models = json.dumps({"base": {"adapters": [own]}})
    arguments = ("--default-model", "base", "--default-context-size", "4096", "--models", models)
    with service(folder, *arguments) as running:
        yield running


@pytest.fixture
def http(running: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


def completed(http: httpx.Client, **given: Any) -> str:
    body = {"prompt": PROMPT, "n_predict": 24, "temperature": 0, **given}
    answer = http.post("/completion", json=body)
    assert answer.status_code == 200, answer.text
    assert "X-Ignored-Params" not in answer.headers
    return str(answer.json()["content"])


def test_an_adapter_is_a_model_to_openais_client(running: Service) -> None:
    client = openai.OpenAI(base_url=running.url + "/v1", api_key="-", max_retries=0)
    models = {model.id: model.model_dump() for model in client.models.list()}
    answers = {
        name: client.completions.create(model=name, prompt=PROMPT, max_tokens=24, temperature=0)
        for name in ("base", "sums")
    }

    assert models["sums"]["parent"] == "base:latest"
    assert models["sums"]["root"] == "a.gguf"
    assert models["base:latest"]["parent"] is None
    assert client.models.retrieve("sums").model_dump()["parent"] == "base:latest"
    assert answers["sums"].model == "sums"
    assert answers["sums"].choices[0].text != answers["base"].choices[0].text
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="differences", prompt=PROMPT)


def test_llama_servers_lists_change_requests_and_defaults(http: httpx.Client) -> None:
    base, sums = completed(http), completed(http, model="sums")
    listed = http.get("/lora-adapters").json()

    assert listed == [
        {"id": 0, "path": "a.gguf", "scale": 0, "task_name": "sums", "prompt_prefix": "Sum: "}
    ]
    assert completed(http, lora=[{"id": 0, "scale": 1}]) == sums != base
    set_ = http.post("/lora-adapters", json=[{"id": 0, "scale": 1.0}])
    assert (set_.status_code, set_.json()) == (200, {"success": True})
    assert completed(http) == sums
    assert completed(http, lora=[{"id": 0, "scale": 0}]) == base
    assert http.post("/lora-adapters", json=[]).status_code == 200
    assert completed(http) == base
    wrong: list[Any] = [[{"id": 7, "scale": 1}], {"id": 0}, [[]], [{"id": 0, "scale": "much"}]]
    for bad in wrong:
        assert http.post("/lora-adapters", json=bad).status_code == 400
    unknown = http.post("/completion", json={"prompt": "x", "lora": [{"id": 7, "scale": 1}]})
    assert unknown.status_code == 400
    assert unknown.json()["error"]["type"] == "invalid_request_error"


def test_tgis_adapter_id_names_one_and_an_unknown_one_is_422(http: httpx.Client) -> None:
    def generated(**parameters: Any) -> httpx.Response:
        body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 24, **parameters}}
        return http.post("/generate", json=body)

    sums = completed(http, model="sums").strip()

    assert generated(adapter_id="sums").json()["generated_text"].strip() == sums
    assert generated().json()["generated_text"].strip() != sums
    unknown = generated(adapter_id="differences")
    assert unknown.status_code == 422
    assert unknown.json()["error_type"] == "validation"


def test_vllms_routes_add_and_remove_one_while_others_are_served(http: httpx.Client) -> None:
    base = completed(http)

    def post(path: str, **body: Any) -> httpx.Response:
        return http.post(f"/v1/{path}_lora_adapter", json=body)

    added = post("load", lora_name="new", lora_path="b.gguf")
    assert (added.status_code, added.text) == (
        200,
        "Success: LoRA adapter 'new' added successfully.",
    )
    strict = {model["id"]: model for model in http.get("/vllm/v1/models").json()["data"]}
    assert strict["new"]["parent"] == "base:latest"
    assert completed(http) == base
    assert completed(http, model="new") not in (base, completed(http, model="sums"))
    assert post("load", lora_name="new", lora_path="b.gguf").status_code == 400
    assert post("load", lora_name="new", lora_path="b.gguf", load_inplace=True).status_code == 200
    removed = post("unload", lora_name="new")
    assert (removed.status_code, removed.text) == (
        200,
        "Success: LoRA adapter 'new' removed successfully.",
    )
    assert post("unload", lora_name="new").status_code == 404
    gone = http.post("/v1/completions", json={"model": "new", "prompt": "x"})
    assert gone.status_code == 404
    for bad in ({}, {"lora_name": "x"}, {"lora_name": "x", "lora_path": "/etc/passwd"}):
        assert post("load", **bad).status_code == 400
    other = post("load", lora_name="x", lora_path="other.gguf")
    assert other.status_code == 400
    assert "it is for qwen2, and the model is llama" in other.json()["error"]["message"]
    assert completed(http) == base
