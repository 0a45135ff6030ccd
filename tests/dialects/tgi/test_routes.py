from __future__ import annotations

from typing import Any

import pytest

from service.errors import (
    ContextOverflow,
    Draining,
    EngineFailed,
    InvalidRequest,
    ModelLoadFailed,
    Overloaded,
    ServiceError,
)
from service.events import (
    FinishReason,
    Logprob,
    PromptLogprobs,
    TokenLogprobs,
)
from tests.dialects.fakes import FakeRuntime, Script, end
from tests.dialects.tgi.serving import CHAT, HELLO, client, frames


@pytest.mark.parametrize("path", ["/generate", "/tgi/generate"])
def test_generate_answers_with_an_object(path: str) -> None:
    with client() as http:
        assert http.post(path, json={"inputs": "hi"}).json() == {"generated_text": "Hello"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tgi/v1/chat/completions"])
@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("http://localhost", 200),
        ("http://LOCALHOST/tgi/", 200),
        ("http://elsewhere/tgi", 404),
        ("http://[", 404),
        ("localhost", 404),
    ],
)
def test_the_address_that_was_asked_names_no_model(path: str, model: str, status: int) -> None:
    with client() as http:
        assert http.post(path, json={**CHAT, "model": model}).status_code == status


@pytest.mark.parametrize("path", ["/", "/tgi", "/tgi/", "/hf/v1/completions", "/tgi/invocations"])
def test_the_hosted_apis_paths_answer_with_an_array(path: str) -> None:
    with client() as http:
        response = http.post(path, json={"inputs": "hi"}, follow_redirects=False)

    assert response.json() == [{"generated_text": "Hello"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate_stream", {"inputs": "hi"}),
        ("/", {"inputs": "hi", "stream": True}),
        ("/tgi/", {"inputs": "hi", "stream": True}),
    ],
)
def test_a_stream_ends_without_done(path: str, body: dict[str, Any]) -> None:
    with client() as http:
        response = http.post(path, json=body)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-compute-type"] == "cpu"
    assert response.headers["x-compute-characters"] == "2"
    first, last = frames(response.text)
    assert first["token"]["text"] == "Hello"
    assert last["generated_text"] == "Hello"


def test_the_header_that_names_the_dialect_leads_to_the_same_place() -> None:
    with client() as http:
        response = http.post("/", json={"inputs": "hi"}, headers={"X-LLM-Dialect": "tgi"})

    assert response.json() == [{"generated_text": "Hello"}]


def test_get_at_the_root_is_still_ollamas() -> None:
    with client() as http:
        assert http.get("/").text == "Ollama is running"


def test_where_the_time_went_is_in_the_headers() -> None:
    with client() as http:
        headers = http.post("/generate", json={"inputs": "hi"}).headers

    assert headers["x-queue-time"] == "250"
    assert headers["x-inference-time"] == "750"
    assert headers["x-time-per-token"] == "375"
    assert headers["x-prompt-tokens"] == "7"
    assert headers["x-generated-tokens"] == "2"
    assert headers["x-compute-characters"] == "2"
    assert float(headers["x-compute-time"]) >= 0
    assert int(headers["x-total-time"]) >= 0
    assert int(headers["x-validation-time"]) >= 0


def test_parameters_without_effect_are_named_with_their_place() -> None:
    body = {"inputs": "hi", "frob": 1, "parameters": {"watermark": True, "length_penalty": 1}}
    with client() as http:
        response = http.post("/generate", json=body)

    assert response.headers["x-ignored-params"] == (
        "frob, parameters.length_penalty, parameters.watermark"
    )


@pytest.mark.parametrize("path", ["/generate", "/tgi/v1/chat/completions"])
def test_a_seed_may_be_any_number_of_64_bits(path: str) -> None:
    body = {**CHAT, "inputs": "hi", "seed": 2**64 - 1, "parameters": {"seed": 2**64 - 1}}
    runtime = FakeRuntime()
    with client(runtime) as http:
        assert http.post(path, json=body).status_code == 200

    assert runtime.requests[0].sampling.seed == 2**64 - 1


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/", "/tgi/generate"])
def test_what_is_wrong_with_a_request_is_a_422_in_tgis_shape(path: str) -> None:
    body = {"inputs": "hi", "parameters": {"temperature": 0.0}}
    with client() as http:
        response = http.post(path, json=body)

    assert response.status_code == 422
    assert response.json() == {
        "error": "Input validation error: `temperature` must be strictly positive",
        "error_type": "validation",
    }


def test_a_prompt_and_answer_that_do_not_fit_together_are_refused() -> None:
    runtime = FakeRuntime(script=HELLO)
    with client(runtime) as http:
        body = {"inputs": "hi", "parameters": {"max_new_tokens": 10_000_000}}
        response = http.post("/generate", json=body)

    assert response.status_code == 422
    assert response.json()["error"] == (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. "
        "Given: 7 `inputs` tokens and 10000000 `max_new_tokens`"
    )
    assert runtime.open == set()


def test_what_the_engine_refuses_for_its_length_is_refused_in_tgis_words() -> None:
    runtime = FakeRuntime(script=ContextOverflow(2040, 2048, 9))
    with client(runtime) as http:
        body = {"inputs": "hi", "parameters": {"max_new_tokens": 9}}
        response = http.post("/generate", json=body)

    assert response.status_code == 422
    assert response.json()["error"] == (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. "
        "Given: 2040 `inputs` tokens and 9 `max_new_tokens`"
    )
    assert runtime.requests[0].sampling.must_fit


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (Overloaded("full"), 429, ("Model is overloaded", "overloaded")),
        (
            ContextOverflow(3000, 2048, None),
            422,
            (
                "Input validation error: `inputs` must have less than 2048 tokens. Given: 3000",
                "validation",
            ),
        ),
        (EngineFailed("it died"), 424, ("Request failed during generation: it died", "generation")),
        (
            ModelLoadFailed("too big"),
            424,
            ("Request failed during generation: too big", "generation"),
        ),
        (Draining("going down"), 503, ("going down", "healthcheck")),
        (
            InvalidRequest("The model's chat template cannot do it", param="messages"),
            422,
            ("Template error: The model's chat template cannot do it", "template_error"),
        ),
    ],
)
def test_each_failure_has_tgis_status_and_words(
    error: ServiceError, status: int, body: tuple[str, str]
) -> None:
    with client(FakeRuntime(script=error)) as http:
        response = http.post("/generate", json={"inputs": "hi"})

    assert response.status_code == status
    assert response.json() == {"error": body[0], "error_type": body[1]}
    assert ("retry-after" in response.headers) == (status in (429, 503))


def test_an_answer_that_breaks_before_it_is_sent_is_a_424() -> None:
    script: Script = [[end(reason=FinishReason.ERROR, error="it died", code="engine_crashed")]]
    with client(FakeRuntime(script=script)) as http:
        response = http.post("/generate", json={"inputs": "hi"})

    assert response.status_code == 424


def test_a_body_of_the_old_demo_server_gets_a_hint() -> None:
    with client() as http:
        response = http.post("/generate", json={"prompt": "hi"})

    assert response.status_code == 422
    assert "`prompt` is for /v1/completions" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/tgi/nothing", 404, "not_found"),
        ("GET", "/generate", 405, "method_not_allowed"),
        ("GET", "/tgi/generate", 405, "method_not_allowed"),
    ],
)
def test_what_there_is_not_is_said_in_tgis_shape(
    method: str, path: str, status: int, kind: str
) -> None:
    with client() as http:
        response = http.request(method, path)

    assert response.status_code == status
    assert response.json()["error_type"] == kind


def test_info_says_what_is_known() -> None:
    with client() as http:
        body = http.get("/info").json()
        assert http.get("/tgi/info?model=demo").json() == body

    assert body["model_id"] == "demo:latest"
    assert body["max_total_tokens"] == 2048
    assert body["max_input_tokens"] == 2047
    assert body["max_concurrent_requests"] == 20
    assert body["model_dtype"] == "Q8_0"
    assert body["model_device_type"] == "cpu"
    assert body["version"] == "3.3.6"


def test_what_only_a_loaded_model_has_is_null_before() -> None:
    with client(FakeRuntime(facts=None, state="unloaded")) as http:
        body = http.get("/info").json()

    assert body["max_total_tokens"] is None
    assert body["model_device_type"] is None


def test_health_is_empty_or_says_unhealthy() -> None:
    with client() as http:
        assert [http.get(f"/tgi{path}").content for path in ("/health", "/ping", "/")] == [b""] * 3
    with client(FakeRuntime(able=False)) as http:
        response = http.get("/tgi/health")

    assert response.status_code == 503
    assert response.json() == {"error": "unhealthy", "error_type": "healthcheck"}


def test_models_are_listed() -> None:
    with client() as http:
        (model,) = http.get("/tgi/v1/models").json()["data"]

    assert model == {
        "id": "demo:latest",
        "object": "model",
        "created": 1_760_000_000,
        "owned_by": "demo:latest",
    }


def test_googles_wrapping_has_the_texts_alone() -> None:
    runtime = FakeRuntime(script=HELLO)
    with client(runtime) as http:
        body = {"instances": [{"inputs": "hi", "parameters": {"max_new_tokens": 5}}, CHAT]}
        response = http.post("/vertex", json=body)

    assert response.json() == {"predictions": ["Hello", "Hello"]}
    assert runtime.requests[0].sampling.temperature == 1.0


@pytest.mark.parametrize("instances", [None, [], [1], {}, [{}]])
def test_a_wrapping_around_nothing_is_refused(instances: Any) -> None:
    with client() as http:
        assert http.post("/vertex", json={"instances": instances}).status_code == 422


@pytest.mark.parametrize(
    ("body", "kind"),
    [({"inputs": "x"}, list), (CHAT, dict), ({"prompt": "x"}, dict)],
)
def test_sagemakers_path_takes_whatever_is_in_the_body(body: dict[str, Any], kind: type) -> None:
    with client() as http:
        assert isinstance(http.post("/tgi/invocations", json=body).json(), kind)
        assert http.post("/tgi/invocations", json={"x": 1}).status_code == 422


@pytest.mark.parametrize("path", ["/tgi/tokenize"])
def test_a_prompts_tokens_come_with_the_bytes_that_they_are(path: str) -> None:
    with client() as http:
        response = http.post(path, json={"inputs": "aé"})

    assert response.json() == [
        {"id": 97, "text": "a", "start": 0, "stop": 1},
        {"id": 195, "text": "\ufffd", "start": 1, "stop": 2},
        {"id": 169, "text": "\ufffd", "start": 2, "stop": 3},
    ]


def test_a_chats_tokens_come_with_the_text_that_it_was_rendered_to() -> None:
    with client() as http:
        body = http.post("/chat_tokenize", json=CHAT).json()

    assert body["templated_text"] == "<user>hi"
    assert len(body["tokenize_response"]) == 8


def test_a_prompts_tokens_come_with_their_likelihood() -> None:
    ids = [97, 98, 99, 100, 101, 102, 103]
    scores = (None, *(TokenLogprobs(Logprob(id, bytes([id]), -1.0)) for id in ids[1:]))
    script: Script = [[PromptLogprobs(0, scores)], *HELLO]
    body = {"inputs": "hi", "parameters": {"decoder_input_details": True}}
    with client(FakeRuntime(script=script)) as http:
        details = http.post("/generate", json=body).json()["details"]

    assert [entry["id"] for entry in details["prefill"]] == [0, 1, 2, 3, 4, 5, 6]
    assert [entry["logprob"] for entry in details["prefill"]] == [None, *[-1.0] * 6]
    assert details["tokens"][-1]["special"]


@pytest.mark.parametrize("path", ["/tgi/docs", "/tgi/api-doc/openapi.json"])
def test_whose_document_it_would_be_is_said(path: str) -> None:
    with client() as http:
        response = http.get(path)

    assert response.status_code == 501
    assert response.json()["error_type"] == "not_supported"
    assert "TGI 3.3.6" in response.json()["error"]
