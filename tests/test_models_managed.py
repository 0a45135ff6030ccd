"""Models pulled, pushed, made, copied and deleted by Ollama's own client, through the service as a
user starts it; the registry is Debian's."""

from __future__ import annotations

import hashlib
import json
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import ollama
import openai
import pytest

from service.catalog.demo import PATH
from tests.catalog.stores import CONFIG, Store, weights
from tests.dialects.serving import wait_until
from tests.engine.adapters import adapter
from tests.registry import PROGRAM, registry
from tests.service_process import Service, service
from tests.test_stores_served import HOSTILE_NAMES

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

needs_registry = pytest.mark.skipif(PROGRAM is None, reason="there is no docker-registry")
ASK = [{"role": "user", "content": "What is 7 plus 5?"}]
EXACT: dict[str, Any] = {"think": False, "options": {"temperature": 0}}
DIGEST = f"sha256:{hashlib.sha256(PATH.read_bytes()).hexdigest()}"
SMALL = ("--default-context-size", "1024", "--parallel-slots", "2")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of Ollama's own, which is not to change."""
    made = Store(tmp_path_factory.mktemp("ollama"))
    demo = made.layer("model", PATH.read_bytes())
    layers = (demo, made.layer("system", "Be brief."), made.layer("license", "MIT"))
    made.model("registry.ollama.ai/library/theirs/latest", *layers, config=CONFIG)
    return made


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if PROGRAM is None:
        yield "127.0.0.1:1"
        return
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "own"


@pytest.fixture(scope="module")
def running(others: Store, host: str, store: Path) -> Iterator[Service]:
    before = contents(others.root)
    arguments = (
        "--store-dir", str(store), "--state-dir", str(store.parent),
        "--pull-from", f"http://{host}", "--aliases", "{gpt-4o: theirs, demo: theirs}",
    )  # fmt: skip
    with service(others.root, *SMALL, *arguments) as running:
        yield running
    assert contents(others.root) == before


@pytest.fixture(scope="module")
def client(running: Service) -> Iterator[ollama.Client]:
    with ollama.Client(host=running.url, timeout=60) as client:
        yield client


def contents(root: Path) -> dict[str, tuple[int, int]]:
    """What changes with any writing, or linking, to a file."""
    stats = {str(path): path.stat() for path in root.rglob("*")}
    return {path: (stat.st_mtime_ns, stat.st_nlink) for path, stat in stats.items()}


def models(client: ollama.Client) -> set[str | None]:
    return {model.model for model in client.list().models}


def blobs(store: Path) -> set[str]:
    return {path.name for path in store.glob("blobs/*")}


@needs_registry
def test_a_model_goes_to_a_registry_and_comes_back_under_another_name(
    host: str, client: ollama.Client, store: Path
) -> None:
    name = f"{host}/library/demo:v1"
    client.copy("theirs", name)
    pushed = [step.status for step in client.push(name, stream=True)]
    client.delete(name)
    assert name not in models(client)
    assert blobs(store) == set()

    steps = list(client.pull(name, stream=True))
    listed = models(client)
    answer = client.chat(name, ASK, **EXACT).message.content

    assert pushed[0] == "retrieving manifest"
    assert pushed[-2:] == ["pushing manifest", "success"]
    assert steps[0].status == "pulling manifest"
    assert [step.status for step in steps][-3:] == [
        "verifying sha256 digest", "writing manifest", "success",
    ]  # fmt: skip
    (last,) = [s for s in steps if s.digest == DIGEST and s.completed == s.total]
    assert last.total == PATH.stat().st_size
    assert name in listed
    assert answer == client.chat("theirs", ASK, **EXACT).message.content
    assert client.show(name).modelfile is not None
    assert "Be brief." in (client.show(name).modelfile or "")

    client.copy(name, "again")
    assert client.chat("again", ASK, **EXACT).message.content == answer
    client.delete(name)
    assert client.chat("again", ASK, **EXACT).message.content == answer
    client.delete("again")
    assert blobs(store) == set()


@needs_registry
def test_a_pull_without_a_stream_is_one_object(
    running: Service, host: str, client: ollama.Client
) -> None:
    name = f"{host}/library/whole:v1"
    client.copy("theirs", name)
    assert client.push(name).status == "success"
    client.delete(name)

    assert client.pull(name).status == "success"
    client.delete(name)
    answer = httpx.post(f"{running.url}/api/pull", json={"name": name, "stream": False}, timeout=60)
    assert answer.json() == {"status": "success"}
    client.delete(name)


@needs_registry
def test_many_who_pull_one_model_share_the_transfer(
    running: Service, host: str, client: ollama.Client
) -> None:
    name = f"{host}/library/shared:v1"
    client.copy("theirs", name)
    client.push(name)
    client.delete(name)
    answers: list[list[Any]] = []

    def pull() -> None:
        with ollama.Client(host=running.url, timeout=60) as own:
            answers.append(list(own.pull(name, stream=True)))

    threads = [threading.Thread(target=pull) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [steps[-1].status for steps in answers] == ["success"] * 6
    client.delete(name)


@needs_registry
def test_what_a_registry_does_not_have_is_not_found(running: Service, host: str) -> None:
    body = {"model": f"{host}/library/nothing"}
    whole = httpx.post(f"{running.url}/api/pull", json={**body, "stream": False})
    streamed = httpx.post(f"{running.url}/api/pull", json=body)

    assert whole.status_code == 404
    assert whole.json() == {"error": "pull model manifest: file does not exist"}
    assert streamed.status_code == 200
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in streamed.text.splitlines()] == [
        {"status": "pulling manifest"},
        {"error": "pull model manifest: file does not exist"},
    ]


@pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
@pytest.mark.parametrize(
    "name",
    ["llama3", "hf.co/user/repo:Q4_K_M", "127.0.0.1:9/x/y", "localhost:11434/x/y",
     "http://169.254.169.254/x/y", "https://127.0.0.1:5000/x/y", "registry.ollama.ai:80/x/y"],
)  # fmt: skip
def test_registries_that_nobody_named_are_refused_by_the_settings_name(
    running: Service, path: str, name: str
) -> None:
    answer = httpx.post(running.url + path, json={"model": name, "insecure": True})

    assert answer.status_code == 403
    assert list(answer.json()) == ["error"]
    assert "`pull_from`" in answer.json()["error"]


def test_a_model_is_made_of_files_that_were_sent(client: ollama.Client, store: Path) -> None:
    digest = client.create_blob(PATH)
    assert client.create_blob(PATH) == digest == DIGEST
    steps = list(
        client.create(
            "made",
            files={"demo.gguf": digest},
            system="Be brief.",
            parameters={"temperature": 0, "stop": ["<end>"]},
            messages=[{"role": "user", "content": "Hello"}],
            license=["MIT", "Terms"],
            stream=True,
        )
    )
    shown = client.show("made")
    (listed,) = [model for model in client.list().models if model.model == "made:latest"]

    assert steps[0].status == "parsing GGUF"
    assert steps[1].status == f"using existing layer {digest}"
    assert [step.status for step in steps][-2:] == ["writing manifest", "success"]
    assert "Be brief." in (shown.modelfile or "")
    assert "Terms" in (shown.license or "")
    assert "stop" in (shown.parameters or "")
    assert listed.details is not None
    assert (listed.details.format, listed.details.quantization_level) == ("gguf", "F16")
    assert client.chat("made", ASK, **EXACT).message.content == "7 + 5 = 12."

    client.create("remade", from_="made", system="Be long.", parameters={"top_k": 3})
    remade = client.show("remade")
    assert "Be long." in (remade.modelfile or "")
    assert {"temperature", "top_k", "stop"} <= set((remade.parameters or "").split())
    client.delete("made")
    assert client.chat("remade", ASK, **EXACT).message.content
    client.delete("remade")
    assert blobs(store) == set()


def test_a_model_is_quantized_by_llama_cpp(client: ollama.Client, store: Path) -> None:
    steps = [
        step.status for step in client.create("q8", from_="theirs", quantize="q8_0", stream=True)
    ]
    shown, (listed,) = (
        client.show("q8"),
        [m for m in client.list().models if m.model == "q8:latest"],
    )

    assert "quantizing F16 model to Q8_0" in steps
    assert shown.details is not None
    assert shown.details.quantization_level == "Q8_0"
    assert (listed.size or 0) < 0.6 * PATH.stat().st_size
    assert "12" in (client.chat("q8", ASK, **EXACT).message.content or "")
    assert DIGEST.replace(":", "-") not in blobs(store)
    with pytest.raises(ollama.ResponseError, match="only supported for F16, BF16 and F32"):
        client.create("q4", from_="q8", quantize="q4_0")
    client.delete("q8")
    assert blobs(store) == set()


def test_a_model_is_made_with_an_adapter(
    client: ollama.Client, store: Path, tmp_path: Path
) -> None:
    digest = client.create_blob(adapter(tmp_path / "tuned.gguf"))
    client.create("tuned", from_="theirs", adapters={"tuned.gguf": digest})
    plain = client.chat("theirs", ASK, **EXACT).message.content

    assert client.chat("tuned", ASK, **EXACT).message.content != plain
    odd = client.create_blob(adapter(tmp_path / "odd.gguf", 1, {"general.architecture": "qwen2"}))
    with pytest.raises(ollama.ResponseError, match="does not fit"):
        client.create("odd", from_="theirs", adapters={"odd.gguf": odd})
    client.delete("tuned")
    (store / "blobs" / odd.replace(":", "-")).unlink()
    assert blobs(store) == set()


def test_a_model_that_is_loaded_is_unloaded_before_it_goes(
    running: Service, client: ollama.Client
) -> None:
    client.copy("theirs", "loaded")
    client.generate("loaded", "", keep_alive=-1)
    before = {engine.pid for engine in running.engines()}
    client.delete("loaded")

    assert "loaded:latest" not in {model.model for model in client.ps().models}
    assert len({engine.pid for engine in running.engines()} & before) == len(before) - 1


def test_what_others_keep_is_neither_deleted_nor_changed(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.delete("theirs")
    assert caught.value.status_code == 403
    with pytest.raises(ollama.ResponseError) as caught:
        client.delete("nothing")
    assert (caught.value.status_code, caught.value.error) == (404, "model 'nothing' not found")
    with pytest.raises(ollama.ResponseError) as caught:
        client.copy("nothing", "x")
    assert caught.value.status_code == 404
    assert "theirs:latest" in models(client)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "neither 'from' or 'files' was specified"),
        ({"files": {"a.gguf": "sha256:" + "0" * 64}}, "not found"),
        ({"files": {"a.gguf": "sha256-../../../etc/passwd"}}, "invalid digest format"),
        ({"files": {"a.safetensors": "sha256:" + "0" * 64}}, "is no GGUF file"),
        ({"from": "nothing"}, "model 'nothing' not found"),
        ({"from": "theirs", "files": {"a": "sha256:" + "0" * 64}}, "cannot be used together"),
        ({"from": "theirs", "quantize": "q99"}, "unsupported quantization type 'q99'"),
        ({"from": "theirs", "parameters": {"stop": {"a": 1}}}, "parameters.stop"),
        ({"from": "theirs", "messages": [{"role": "nobody"}]}, "messages.0.role"),
        ({"from": "theirs", "license": 5}, "license"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    running: Service, store: Path, body: dict[str, Any], sentence: str
) -> None:
    before = blobs(store)
    url = f"{running.url}/api/create"
    answer = httpx.post(url, json={"model": "bad", "stream": False, **body}, timeout=30)

    assert 400 <= answer.status_code < 500
    assert sentence in answer.json()["error"]
    assert blobs(store) == before


def test_what_is_no_gguf_makes_no_model(
    running: Service, client: ollama.Client, store: Path
) -> None:
    data = b"no model at all" * 100
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    url = f"{running.url}/api/blobs/{digest}"
    assert httpx.head(url).status_code == 404
    assert httpx.post(url, content=data).status_code == 201
    assert httpx.post(url, content=data).status_code == 200
    assert httpx.head(url).status_code == 200
    with pytest.raises(ollama.ResponseError, match="not a GGUF file"):
        client.create("bad", files={"a.gguf": digest})
    (store / "blobs" / digest.replace(":", "-")).unlink()


def test_bytes_of_another_digest_are_refused(running: Service, store: Path) -> None:
    before = blobs(store)
    answer = httpx.post(f"{running.url}/api/blobs/sha256:{'0' * 64}", content=b"others")

    assert answer.status_code == 400
    assert "digest mismatch" in answer.json()["error"]
    assert blobs(store) == before


def test_more_than_one_body_long_blobs_are_taken(running: Service, store: Path) -> None:
    """A blob is no request body: `max_body_bytes` is not for it."""
    piece = bytes(range(256)) * 4096
    digest = f"sha256:{hashlib.sha256(piece * 12).hexdigest()}"

    def pieces() -> Iterator[bytes]:
        yield from [piece] * 12

    answer = httpx.post(f"{running.url}/api/blobs/{digest}", content=pieces(), timeout=60)
    assert answer.status_code == 201
    (store / "blobs" / digest.replace(":", "-")).unlink()


def test_pages_of_other_origins_change_nothing(running: Service) -> None:
    foreign = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    own = {"Origin": running.url}
    body = {"source": "theirs", "destination": "csrf"}
    answer = httpx.post(f"{running.url}/api/copy", json=body, headers=foreign)
    assert answer.status_code == 403
    blob = f"{running.url}/api/blobs/{DIGEST}"
    assert httpx.post(blob, content=b"x", headers=foreign).status_code == 403
    assert httpx.post(f"{running.url}/api/copy", json=body, headers=own).status_code == 200
    assert httpx.request("DELETE", f"{running.url}/api/delete", json={"model": "csrf"}).is_success


def test_names_and_digests_that_climb_lead_nowhere(running: Service, store: Path) -> None:
    tree = {path for path in store.parent.rglob("*") if "model-index" not in path.name}
    for name in HOSTILE_NAMES:
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/api/pull", {"model": name}),
            ("POST", "/api/push", {"model": name}),
            ("POST", "/api/copy", {"source": name, "destination": "x"}),
            ("DELETE", "/api/delete", {"model": name}),
            ("POST", "/api/create", {"model": "x", "from": name}),
            ("POST", "/api/create", {"model": "x", "files": {"a": name}}),
        ]
        for method, path, body in asked:
            answer = httpx.request(method, running.url + path, json=body, timeout=30)
            assert answer.status_code in (400, 403, 404), (path, name)
        for method in ("HEAD", "POST"):
            url = f"{running.url}/api/blobs/{quote(name, safe='')}"
            answer = httpx.request(method, url, content=b"x" if method == "POST" else None)
            # A slash at the end is taken off first.
            assert answer.status_code in (307, 400, 404, 405), name
    assert {path for path in store.parent.rglob("*") if "model-index" not in path.name} == tree
    for destination in ("../../x", "/etc/x", "a/../../b", "..", "x" * 300, "x\0", "a:b:c/d", ""):
        body = {"source": "theirs", "destination": destination}
        answer = httpx.post(f"{running.url}/api/copy", json=body)
        assert answer.status_code == 400, destination
    assert {path for path in store.parent.rglob("*") if "model-index" not in path.name} == tree


def test_an_alias_is_the_model_that_it_stands_for(running: Service) -> None:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="unused", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": ASK[0]["content"]}],
            temperature=0, reasoning_effort="none",
        )  # fmt: skip
        ids = {model.id for model in client.models.list()}
        shown = client.models.retrieve("gpt-4o")
        # A model of that name goes before: it is the bundled one.
        named = httpx.post(f"{running.url}/api/show", json={"model": "demo"}).json()

    assert answer.choices[0].message.content == "7 + 5 = 12."
    assert answer.model == "gpt-4o"
    assert "theirs:latest" in ids
    assert shown.id
    assert "Be brief." not in named["modelfile"]


@needs_registry
def test_a_full_disk_is_said_and_leaves_the_store_as_it_was(
    others: Store, host: str, tmp_path: Path
) -> None:
    big = others.root.parent / "big.gguf"
    data = weights(7) + bytes(3_000_000)
    big.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    name = f"{host}/library/full:v1"
    arguments = ("--store-dir", str(tmp_path / "own"), "--pull-from", f"http://{host}")
    with (
        service(others.root, *SMALL, "--state-dir", str(tmp_path), *arguments) as running,
        ollama.Client(host=running.url, timeout=60) as client,
    ):
        client.copy("theirs", name)
        client.push(name)
        client.delete(name)
        client.create("kept", files={"a.gguf": client.create_blob(_small(tmp_path))})
        before = contents(tmp_path / "own")
        limit = (1_000_000, resource.RLIM_INFINITY)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, limit)
        sent = httpx.post(f"{running.url}/api/blobs/{digest}", content=data, timeout=30)
        lines = httpx.post(f"{running.url}/api/pull", json={"model": name}, timeout=30).text
        copied = httpx.post(
            f"{running.url}/api/copy", json={"source": "theirs", "destination": "x"}, timeout=30
        )
        after = contents(tmp_path / "own")
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        again = client.pull(name)

    text = "the store of models cannot be written: File too large"
    assert (sent.status_code, sent.json()["error"]) == (507, text)
    assert json.loads(lines.splitlines()[-1]) == {"error": text}
    assert (copied.status_code, copied.json()["error"]) == (507, text)
    assert after.keys() == before.keys()
    assert again.status == "success"


def _small(folder: Path) -> Path:
    path = folder / "small.gguf"
    path.write_bytes(weights(8))
    return path


@needs_registry
def test_a_client_that_leaves_ends_its_pull(running: Service, host: str, store: Path) -> None:
    """Unless another has joined: then the transfer goes on, and ends well."""
    name = f"{host}/library/left:v1"
    with ollama.Client(host=running.url, timeout=60) as client:
        client.copy("theirs", name)
        client.push(name)
        client.delete(name)
    with httpx.stream("POST", f"{running.url}/api/pull", json={"model": name}) as leaving:
        next(leaving.iter_bytes())
        with httpx.stream("POST", f"{running.url}/api/pull", json={"model": name}) as staying:
            lines = staying.iter_lines()
            next(lines)
            leaving.close()
            rest = list(lines)
    assert json.loads(rest[-1]) == {"status": "success"}
    wait_until(lambda: name in httpx.get(f"{running.url}/api/tags").text)
    httpx.request("DELETE", f"{running.url}/api/delete", json={"model": name})
    assert not any("partial" in blob for blob in blobs(store))
