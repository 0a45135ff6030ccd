"""An Ollama store behind the service as a user starts it, read by Ollama's own client."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from service.catalog.demo import PATH
from tests.catalog.gguf_files import METADATA, TENSORS, gguf
from tests.catalog.stores import CONFIG, GO_TEMPLATE, Store, damage, populate, weights
from tests.dialects.serving import wait_until
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

ASK = [{"role": "user", "content": "What is 7 plus 5?"}]
INCOMPATIBLE = gguf({**METADATA, "general.architecture": "gemma3"}, {**TENSORS, "v.a": ((32,), 0)})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("store"))
    populate(made)
    demo = made.layer("model", PATH.read_bytes())
    for name in ("one", "two"):
        layers = (demo, made.layer("system", "Be brief."), made.layer("template", GO_TEMPLATE))
        path = f"registry.ollama.ai/library/{name}/latest"
        made.model(path, *layers, config=CONFIG, name=f"{name}:latest")
    said = [{"role": "user", "content": "Ahoy"}, {"role": "assistant", "content": "Aye."}]
    told = (demo, made.layer("system", "Be a pirate."), made.layer("messages", json.dumps(said)))
    path = "registry.ollama.ai/library/told/latest"
    made.model(path, *told, config=CONFIG, name="told:latest")
    made.model("registry.ollama.ai/library/gemma3/4b", made.layer("model", INCOMPATIBLE))
    damage(made, made.root.parent / "outside")
    return made


@pytest.fixture(scope="module")
def running(store: Store) -> Iterator[Service]:
    arguments = ("--default-model", "one", "--parallel-slots", "2", "--keep-alive", "-1")
    with service(store.root, "--default-context-size", "1024", *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def client(running: Service) -> Iterator[ollama.Client]:
    with ollama.Client(host=running.url) as client:
        yield client


def test_ollamas_own_client_lists_what_ollama_would(store: Store, client: ollama.Client) -> None:
    models = {model.model: model for model in client.list().models}
    expected = {listed.name: (listed.size, listed.digest) for listed in store.listed}

    assert len(expected) == 55
    listed = {name: (model.size, model.digest) for name, model in models.items()}
    assert {name: listed[name] for name in expected} == expected
    assert listed.keys() - expected.keys() == {"gemma3:4b", "demo:latest"}
    for model in models.values():
        assert model.modified_at is not None
        assert model.details is not None
        assert None not in model.details.model_dump().values()


def test_it_shows_every_model_that_it_lists(store: Store, client: ollama.Client) -> None:
    for listed in store.listed:
        shown = client.show(listed.name)
        assert shown.modelinfo is not None
        assert shown.modelinfo["llama.context_length"] > 0
        assert shown.details is not None
        assert shown.details.parameter_size == "8.0B"
        assert shown.modelfile
    one = client.show("ONE")
    assert "SYSTEM" in (one.modelfile or "")
    assert "tools" in (one.template or "")
    assert "completion" in (one.capabilities or ())


def test_two_names_of_one_blob_share_an_engine(running: Service, client: ollama.Client) -> None:
    answers: list[Any] = []

    def chat(model: str) -> None:
        answers.append(client.chat(model, ASK, options={"temperature": 0, "num_predict": 20}))

    threads = [threading.Thread(target=chat, args=(name,)) for name in ("one", "two") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(answers) == 6
    assert {answer.message.content for answer in answers} == {answers[0].message.content}
    assert len(running.engines()) == 1
    loaded = {model.model: model for model in client.ps().models}
    listed = {model.model: model for model in client.list().models}
    assert loaded["one:latest"].digest == listed["one:latest"].digest
    assert loaded["one:latest"].context_length


SYSTEM = [{"role": "system", "content": "Be kind."}]
OPENING = "<|im_start|>user\nAhoy<|im_end|>\n<|im_start|>assistant\nAye.<|im_end|>\n"
PIRATE = "<|im_start|>system\nBe a pirate.<|im_end|>\n"
KIND = "<|im_start|>system\nBe kind.<|im_end|>\n"


@pytest.mark.parametrize(
    ("path", "body", "begins", "without"),
    [
        ("/api/chat", {"messages": ASK}, PIRATE + OPENING, "kind"),
        ("/api/chat", {"messages": SYSTEM + ASK}, KIND + OPENING, "pirate"),
        ("/api/generate", {"prompt": "7?"}, PIRATE + OPENING, "kind"),
        ("/api/generate", {"prompt": "7?", "system": "Be kind."}, KIND + OPENING, "pirate"),
        ("/api/generate", {"prompt": "7?", "raw": True}, "7?", "pirate"),
        ("/api/generate", {"prompt": "7?", "template": "{{ .System }}/{{ .Prompt }}"},
         "Be a pirate./7?", "kind"),
    ],
)  # fmt: skip
def test_what_a_modelfile_says_comes_before_what_is_asked(
    running: Service, path: str, body: dict[str, Any], begins: str, without: str
) -> None:
    asked = {"model": "told", **body, "stream": False, "_debug_render_only": True}
    answer = httpx.post(running.url + path, json=asked, timeout=60).json()
    prompt = answer["_debug_info"]["rendered_template"]

    assert prompt.removeprefix("<s>").startswith(begins)
    assert without not in prompt


def test_who_goes_on_from_a_context_is_not_told_the_messages_again(running: Service) -> None:
    def prompt(**more: Any) -> str:
        asked = {"model": "told", "prompt": "7?", **more, "_debug_render_only": True}
        answer = httpx.post(running.url + "/api/generate", json=asked, timeout=60).json()
        return str(answer["_debug_info"]["rendered_template"])

    assert ("Ahoy" in prompt(), "pirate" in prompt()) == (True, True)
    assert ("Ahoy" in prompt(context=[5]), "pirate" in prompt(context=[5])) == (False, True)


def test_every_dialect_has_what_the_modelfile_says(running: Service) -> None:
    """As Ollama's own OpenAI and Anthropic routes do: by the length of the same question's prompt."""

    def tokens(path: str, model: str, *counts: str, **more: Any) -> int:
        body = {"model": model, "messages": ASK, "max_tokens": 1, **more}
        found: Any = httpx.post(running.url + path, json=body, timeout=60).json()
        for key in counts:
            found = found[key]
        return int(found)

    for path, *counts in (
        ("/v1/chat/completions", "usage", "prompt_tokens"),
        ("/vllm/v1/chat/completions", "usage", "prompt_tokens"),
        ("/tgi/v1/chat/completions", "usage", "prompt_tokens"),
        ("/v1/messages/count_tokens", "input_tokens"),
    ):
        plain, told = (tokens(path, model, *counts) for model in ("demo", "told"))
        assert told > plain + 10, path
        if "chat" in path:
            own = tokens(path, "told", *counts, messages=SYSTEM + ASK)
            bare = tokens(path, "demo", *counts, messages=SYSTEM + ASK)
            # The request's own system message goes in the place of the model's.
            assert own - bare < told - plain, path


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": ASK}),
        ("/api/generate", {"prompt": "x"}),
        ("/v1/chat/completions", {"messages": ASK}),
        ("/anthropic/v1/messages", {"messages": ASK, "max_tokens": 5}),
        ("/vllm/v1/completions", {"prompt": "x"}),
    ],
)
@pytest.mark.parametrize(
    ("model", "why"), [("gemma3:4b", "converted by Ollama"), ("bad:zeros", "not a GGUF file")]
)
def test_a_model_that_cannot_be_used_is_refused_with_the_reason_and_not_loaded(
    running: Service, path: str, body: dict[str, Any], model: str, why: str
) -> None:
    before = {engine.pid for engine in running.engines()}
    answer = httpx.post(running.url + path, json={"model": model, **body})

    assert 400 <= answer.status_code < 500
    assert why in answer.text
    assert {engine.pid for engine in running.engines()} == before


def test_an_unusable_model_is_listed_and_shown_with_its_status(
    running: Service, client: ollama.Client
) -> None:
    models = httpx.get(running.url + "/api/tags").json()["models"]
    (listed,) = [model for model in models if model["name"] == "gemma3:4b"]
    shown = httpx.post(running.url + "/api/show", json={"model": "gemma3:4b"}).json()

    assert listed["status"] == shown["status"] == "incompatible: ollama-format"
    assert models[-1] == listed
    assert shown["model_info"]["general.architecture"] == "gemma3"
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("bad:zeros")
    assert (caught.value.status_code, "not a GGUF file" in caught.value.error) == (422, True)


def test_health_tells_every_damaged_entry_with_its_reason(running: Service) -> None:
    body = httpx.get(running.url + "/health/models").json()
    bad = [m for m in body["models"] if m["model"].startswith("bad:")]

    assert len(bad) == 22
    assert len({model["reason"] for model in bad}) == 22
    assert all(model["code"] and model["state"] == "failed" for model in bad)
    (root,) = [root for root in body["roots"] if root["named"]]
    assert (root["kind"], root["models"], root["unusable"]) == ("ollama", 55, 23)


def names(client: ollama.Client) -> set[str | None]:
    return {model.model for model in client.list().models}


def test_what_changes_on_disk_is_seen_and_what_runs_goes_on(
    store: Store, running: Service, client: ollama.Client
) -> None:
    layer = store.layer("model", weights(500))
    added = store.model("registry.ollama.ai/library/added/latest", layer)
    wait_until(lambda: "added:latest" in names(client), 5)

    pieces = client.generate("two", "Count from 1 to 40.", stream=True, options={"num_predict": 60})
    first = next(pieces)
    blob = store.blob_path(store.layer("model", PATH.read_bytes())["digest"])
    kept = blob.with_name("kept")
    os.link(blob, kept)
    blob.unlink()
    added.unlink()
    wait_until(lambda: names(client).isdisjoint({"added:latest", "one:latest", "two:latest"}), 5)
    rest = list(pieces)
    assert first.done is False
    assert rest[-1].done_reason in ("stop", "length")

    os.rename(kept, blob)
    wait_until(lambda: {"one:latest", "two:latest"} <= names(client), 5)
    assert client.chat("two", ASK, options={"num_predict": 3}).done


def test_a_model_that_is_replaced_is_the_new_one_at_the_next_load(
    store: Store, running: Service, client: ollama.Client
) -> None:
    path = "registry.ollama.ai/library/swapped/latest"
    store.model(path, store.layer("model", PATH.read_bytes()))
    wait_until(lambda: "swapped:latest" in {m.model for m in client.list().models}, 5)
    assert client.chat("swapped", ASK, options={"num_predict": 3}).done

    store.model(path, store.layer("model", INCOMPATIBLE))
    answer = httpx.Response(200)

    def refused() -> bool:
        nonlocal answer
        body = {"model": "swapped", "messages": ASK, "options": {"num_predict": 3}}
        answer = httpx.post(running.url + "/api/chat", json={**body, "stream": False}, timeout=60)
        return answer.status_code == 422

    wait_until(refused, 8)
    assert "converted by Ollama" in answer.text


HOSTILE_NAMES = [
    "../../../etc/passwd", "/etc/passwd", "..", ".", "a/../../b", "%2e%2e/%2e%2e", "a\\..\\b",
    "one\0", "registry.ollama.ai/../../x", "x" * 300, "sha256-../../etc/passwd", "bad/blob-out:x",
    "one:../two", "file:///etc/passwd", "http://evil.example/a/b:c", "blobs/sha256-" + "a" * 64,
    "~/.ssh/id_rsa", "one;ls", "$(id)", "library/../library/one",
    "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "%252e%252e%252f", "..\\..\\etc\\passwd", "....//....//etc",
    "./one", "one/.", "one/..", "one/", "/one", "//one", "one//two", "one:..", "one:.", "one:/etc/passwd",
    "one:%2e%2e", "one:" + "t" * 300, "a/b/c/d/e", "\0", "one\r\nX: y", "one\ttwo", " one/..", "\u202eone",
    "\uff0e\uff0e/x", "\u2025/x", "o\u0338ne/..", "..;/one", "..\0/one", "one@../two", "sha256:" + "../" * 8,
    "sha256:" + "g" * 64, "sha256-" + "a" * 63, "manifests/registry.ollama.ai/library/one/latest",
    "blobs/..", "C:\\Windows\\win.ini", "\\\\host\\share", "/proc/self/environ", "/dev/zero", "/dev/stdin",
    "file:one", "hf.co/../../x", "hf.co/a/b:../c", "`id`", "|cat", "${jndi:ldap://x}", "{{7*7}}",
]  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/api/chat", "/api/show", "/v1/chat/completions", "/tgi/generate"]
)
def test_names_that_lead_out_of_the_store_lead_nowhere(running: Service, path: str) -> None:
    for name in HOSTILE_NAMES:
        body = {"model": name, "messages": ASK, "inputs": "x"}
        if path == "/api/show":
            body = {"model": name}
        answer = httpx.post(running.url + path, json=body, timeout=30)
        assert answer.status_code in (400, 404, 422), name


def test_the_index_is_kept_where_it_was_asked_to_be(store: Store, running: Service) -> None:
    assert (Path(store.root) / "model-index.json").stat().st_size > 1000
