"""Models that score pairs, in the real service, against llama.cpp asked directly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.dialects.vllm.pairs import probability, sentence
from tests import pair_models
from tests.service_process import Service, service

# One text at a time, in a process of its own, since llama.cpp may abort.
DIRECT = """
import ctypes, json, sys
import llama_cpp as llama

model = llama.llama_model_load_from_file(sys.argv[1].encode(), llama.llama_model_default_params())
vocab = llama.llama_model_get_vocab(model)
params = llama.llama_context_default_params()
params.n_ctx = params.n_batch = params.n_ubatch = 256
params.embeddings = True
params.pooling_type = llama.LLAMA_POOLING_TYPE_RANK
out = []
for text, special in json.load(sys.stdin):
    context = llama.llama_init_from_model(model, params)
    data = text.encode()
    tokens = (llama.llama_token * 512)()
    n = llama.llama_tokenize(vocab, data, len(data), tokens, 512, special, True)
    batch = llama.llama_batch_get_one(tokens, n)
    assert (llama.llama_decode if sys.argv[2] == "decoder" else llama.llama_encode)(context, batch) == 0
    out.append([llama.llama_get_embeddings_seq(context, 0)[0], n])
    llama.llama_free(context)
print(json.dumps(out))
"""
# llama.cpp's attention rounds to float16 on its way, in another order in another batch.
ROUNDING = 0.002
QUERY = "which river is it?"
DOCUMENTS = ["a river", "the mill stands by the water", "b", "an apple a day " * 6, "RIVER? river!"]


def direct(path: Path, kind: str, texts: list[tuple[str, bool]]) -> list[tuple[float, int]]:
    """llama.cpp's score of each text, and its number of tokens."""
    done = subprocess.run(
        [sys.executable, "-c", DIRECT, str(path), kind],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [(score, tokens) for score, tokens in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    pair_models.cross_encoder(folder / "cross.gguf")
    pair_models.judge(folder / "judge.gguf")
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    with service(folder) as running:
        yield running


@pytest.fixture(scope="module")
def logits(folder: Path) -> list[tuple[float, int]]:
    # A control token in a text is read as such: so the pair is one text here.
    texts = [(f"{QUERY}[SEP]{document}", True) for document in DOCUMENTS]
    return direct(folder / "cross.gguf", "encoder", texts)


@pytest.fixture(scope="module")
def yes(folder: Path) -> list[tuple[float, int]]:
    texts = [(sentence(pair_models.SENTENCE, QUERY, each), False) for each in DOCUMENTS]
    return direct(folder / "judge.gguf", "decoder", texts)


def post(running: Service, path: str, **body: Any) -> Any:
    answer = httpx.post(running.url + path, json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def by_index(rows: list[dict[str, Any]], key: str) -> list[float]:
    return [row[key] for row in sorted(rows, key=lambda row: row["index"])]


def test_the_models_tell_texts_apart(
    logits: list[tuple[float, int]], yes: list[tuple[float, int]]
) -> None:
    for scores in (logits, yes):
        values = sorted(score for score, _ in scores)
        assert min(b - a for a, b in zip(values, values[1:], strict=False)) > 2 * ROUNDING


@pytest.mark.parametrize(
    "path", ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/vllm/rerank"]
)
def test_documents_are_ordered_by_llama_cpps_own_scores(
    running: Service, logits: list[tuple[float, int]], path: str
) -> None:
    answer = post(running, path, model="cross", query=QUERY, documents=DOCUMENTS)

    scores = by_index(answer["results"], "relevance_score")
    assert scores == pytest.approx([probability(score) for score, _ in logits], abs=ROUNDING)
    found = [result["relevance_score"] for result in answer["results"]]
    assert found == sorted(found, reverse=True)
    assert answer["usage"]["prompt_tokens"] == sum(tokens for _, tokens in logits)


def test_teis_raw_scores_are_the_logits(running: Service, logits: list[tuple[float, int]]) -> None:
    rows = post(running, "/rerank", model="cross", query=QUERY, texts=DOCUMENTS, raw_scores=True)

    assert by_index(rows, "score") == pytest.approx([score for score, _ in logits], abs=ROUNDING)


@pytest.mark.parametrize("path", ["/score", "/v1/score", "/vllm/score"])
def test_scores_are_llama_cpps_own(
    running: Service, logits: list[tuple[float, int]], path: str
) -> None:
    answer = post(running, path, model="cross", text_1=QUERY, text_2=DOCUMENTS)

    expected = [probability(score) for score, _ in logits]
    assert by_index(answer["data"], "score") == pytest.approx(expected, abs=ROUNDING)


def test_sagemakers_path_ranks_as_well(running: Service, logits: list[tuple[float, int]]) -> None:
    answer = post(running, "/invocations", model="cross", query=QUERY, documents=DOCUMENTS)

    scores = by_index(answer["results"], "relevance_score")
    assert scores == pytest.approx([probability(score) for score, _ in logits], abs=ROUNDING)


def test_a_pair_does_not_depend_on_what_it_is_computed_beside(
    running: Service, logits: list[tuple[float, int]]
) -> None:
    many = [*DOCUMENTS, *("filler " * n for n in range(1, 12)), *DOCUMENTS]
    answer = post(running, "/rerank", model="cross", query=QUERY, documents=many)

    scores = by_index(answer["results"], "relevance_score")
    assert scores[:5] == pytest.approx(scores[-5:], abs=ROUNDING)
    assert scores[:5] == pytest.approx([probability(score) for score, _ in logits], abs=ROUNDING)


def test_a_pair_longer_than_the_model_reads_is_refused_or_cut(running: Service) -> None:
    body = {"model": "cross", "query": QUERY, "documents": ["abc " * 100, "a"]}
    refused = httpx.post(running.url + "/rerank", json=body, timeout=30)
    cut = httpx.post(running.url + "/rerank", json=body | {"truncate": True}, timeout=30)

    assert refused.status_code == 400
    assert cut.status_code == 200
    assert int(cut.headers["x-prompt-truncated"]) > 0
    assert cut.json()["usage"]["prompt_tokens"] > pair_models.CONTEXT


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_a_model_with_a_sentence_is_asked_in_it_and_gives_probabilities(
    running: Service, yes: list[tuple[float, int]], path: str
) -> None:
    answer = post(running, path, model="judge", query=QUERY, documents=DOCUMENTS)

    expected = [score for score, _ in yes]
    assert all(0 < score < 1 for score in expected)
    assert by_index(answer["results"], "relevance_score") == pytest.approx(expected, abs=ROUNDING)
    assert answer["usage"]["prompt_tokens"] == sum(tokens for _, tokens in yes)


def test_a_sentence_that_is_too_long_loses_the_end_of_its_document(running: Service) -> None:
    body = {
        "model": "judge",
        "query": QUERY,
        "documents": ["this and that " * 60],
        "truncate": True,
    }
    answer = httpx.post(running.url + "/v1/rerank", json=body, timeout=30)

    assert answer.status_code == 200
    assert int(answer.headers["x-prompt-truncated"]) > 0
    assert 200 < answer.json()["usage"]["prompt_tokens"] <= pair_models.CONTEXT
