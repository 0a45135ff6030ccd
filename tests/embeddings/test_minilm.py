"""A real embedding model, served, against the vectors of its own implementation (`reference.py`)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.embeddings import minilm
from tests.embeddings.texts import CUT_OTHERWISE, SENTENCES, TEXTS, TOO_LONG, words
from tests.service_process import Service, service

Vector = NDArray[np.float32]
POSITIONS, USUAL, WIDTH = 512, 256, 384
# Of a cosine: what float16 weights and another order of sums leave of 1.
LEAST = 0.9999


@dataclass(frozen=True)
class Reference:
    """What the model's own implementation makes of a text; see `reference.entry`."""

    text: str
    tokens: list[int]
    vector: Vector
    length: float
    usual: Vector | None

    @property
    def read(self) -> int:
        """How many tokens the model reads of it."""
        return min(len(self.tokens), POSITIONS)


def decoded(text: str) -> Vector:
    return np.frombuffer(base64.b64decode(text), "<f4")


def references() -> dict[str, Reference]:
    content = json.loads(Path(__file__).with_name("minilm.json").read_text())
    return {
        entry["text"]: Reference(
            entry["text"],
            entry["tokens"],
            decoded(entry["vector"]),
            entry["length"],
            decoded(entry["usual"]) if "usual" in entry else None,
        )
        for entry in content["texts"]
    }


OWN = references()
LONGER_THAN_USUAL = [text for text in (*TEXTS, *TOO_LONG) if OWN[text].usual is not None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("minilm")
    minilm.write(folder / "minilm.gguf")
    with service(folder) as running:
        yield running


def post(running: Service, path: str, **body: Any) -> httpx.Response:
    return httpx.post(running.url + path, json={"model": "minilm"} | body, timeout=60)


def floats(running: Service, texts: Sequence[str], **body: Any) -> list[Vector]:
    answer = post(running, "/v1/embeddings", input=texts, **body).json()
    return [np.array(row["embedding"], np.float32) for row in answer["data"]]


def in_base64(running: Service, texts: Sequence[str], **body: Any) -> list[Vector]:
    body["encoding_format"] = "base64"
    answer = post(running, "/v1/embeddings", input=texts, **body).json()
    return [decoded(row["embedding"]) for row in answer["data"]]


def ollamas(running: Service, texts: Sequence[str]) -> list[Vector]:
    answer = post(running, "/api/embed", input=texts).json()
    return [np.array(vector, np.float32) for vector in answer["embeddings"]]


def llama_servers(running: Service, texts: Sequence[str]) -> list[Vector]:
    answer = post(running, "/embedding", input=texts).json()
    return [np.array(row["embedding"][0], np.float32) for row in answer]


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("way", [floats, in_base64, ollamas, llama_servers])
def test_every_text_gets_its_models_own_vector_beside_all_others(
    running: Service, way: Any
) -> None:
    vectors = way(running, TEXTS)

    assert len(vectors) == len(TEXTS) >= 50
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert cosine(vector, OWN[text].vector) >= LEAST, text
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_alone_a_text_gets_the_same_vector(running: Service) -> None:
    for text in TEXTS:
        (vector,) = floats(running, [text])
        assert cosine(vector, OWN[text].vector) >= LEAST, text


def test_texts_are_cut_into_their_models_own_tokens(running: Service) -> None:
    for text in (*TEXTS, *TOO_LONG):
        answer = post(running, "/tokenize", prompt=text).json()
        assert answer["tokens"] == OWN[text].tokens, text


def test_it_is_known_which_texts_llama_cpp_cuts_otherwise(running: Service) -> None:
    for text in CUT_OTHERWISE:
        answer = post(running, "/tokenize", prompt=text).json()
        assert answer["tokens"] != OWN[text].tokens, f"{text}: belongs to the others now"


def test_ids_give_the_vector_of_the_text_that_they_are(running: Service) -> None:
    ids = [OWN[text].tokens for text in SENTENCES]
    answer = post(running, "/v1/embeddings", input=ids).json()

    for text, row in zip(SENTENCES, answer["data"], strict=True):
        assert cosine(np.array(row["embedding"]), OWN[text].vector) >= LEAST


def test_usage_counts_every_token_that_is_read(running: Service) -> None:
    read = sum(OWN[text].read for text in TEXTS)
    openai = post(running, "/v1/embeddings", input=TEXTS).json()["usage"]
    ollama = post(running, "/api/embed", input=TEXTS).json()["prompt_eval_count"]

    assert openai == {"prompt_tokens": read, "total_tokens": read}
    assert ollama == read


@pytest.mark.parametrize("text", TOO_LONG)
def test_more_than_the_model_reads_is_refused_unless_it_may_be_cut(
    running: Service, text: str
) -> None:
    whole = len(OWN[text].tokens)
    refused = [
        post(running, "/v1/embeddings", input=text),
        post(running, "/vllm/v1/embeddings", input=text),
        post(running, "/embedding", input=text),
        post(running, "/api/embed", input=text, truncate=False),
    ]
    cut = [
        post(running, "/v1/embeddings", input=text, truncate_prompt_tokens=-1),
        post(running, "/v1/embeddings", input=text, truncate_prompt_tokens=POSITIONS),
        post(running, "/api/embed", input=text),
    ]

    assert [answer.status_code for answer in refused] == [400] * 4
    assert f"{POSITIONS} tokens" in refused[0].json()["error"]["message"]
    assert f"{whole} tokens" in refused[0].json()["error"]["message"]
    assert [int(answer.headers["x-prompt-truncated"]) for answer in cut] == [whole - 512] * 3
    vectors = [
        *(np.array(answer.json()["data"][0]["embedding"]) for answer in cut[:2]),
        np.array(cut[2].json()["embeddings"][0]),
    ]
    for vector in vectors:
        assert cosine(vector, OWN[text].vector) >= LEAST


@pytest.mark.parametrize("text", LONGER_THAN_USUAL)
def test_cut_to_its_packages_own_limit_it_gets_the_packages_own_vector(
    running: Service, text: str
) -> None:
    (vector,) = floats(running, [text], truncate_prompt_tokens=USUAL)

    usual = OWN[text].usual
    assert usual is not None
    assert cosine(vector, usual) >= LEAST


def test_what_is_left_of_a_text_is_its_end_where_that_is_wanted(running: Service) -> None:
    tail = words(400, 2).rsplit(maxsplit=98)
    (cut,) = floats(running, [words(400, 2)], truncate_prompt_tokens=100, truncation_side="left")
    (whole,) = floats(running, [" ".join(tail[1:])])

    assert cosine(cut, whole) >= LEAST


@pytest.mark.parametrize("dimensions", [1, 64, WIDTH])
def test_fewer_dimensions_are_the_first_ones_brought_to_length_one(
    running: Service, dimensions: int
) -> None:
    openai = floats(running, SENTENCES, dimensions=dimensions)
    body = post(running, "/api/embed", input=SENTENCES, dimensions=dimensions).json()

    for text, one, other in zip(SENTENCES, openai, body["embeddings"], strict=True):
        first = OWN[text].vector[:dimensions]
        assert len(one) == len(other) == dimensions
        assert cosine(one, first) >= LEAST
        assert cosine(np.array(other), first) >= LEAST
        assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)


def test_more_dimensions_than_there_are_are_refused(running: Service) -> None:
    openai = post(running, "/v1/embeddings", input="a", dimensions=WIDTH + 1)
    ollama = post(running, "/api/embed", input="a", dimensions=WIDTH + 1)

    assert (openai.status_code, ollama.status_code) == (400, 400)
    assert openai.json()["error"]["param"] == "dimensions"
    assert str(WIDTH) in ollama.json()["error"]


@pytest.mark.parametrize("text", [*SENTENCES, TOO_LONG[1]])
def test_ollamas_older_path_gives_the_vector_as_the_model_made_it(
    running: Service, text: str
) -> None:
    answer = post(running, "/api/embeddings", prompt=text).json()
    vector = np.array(answer["embedding"])

    assert cosine(vector, OWN[text].vector) >= LEAST
    assert np.linalg.norm(vector) == pytest.approx(OWN[text].length, rel=2e-3)


@pytest.mark.parametrize("path", ["/score", "/v1/score", "/vllm/score"])
def test_scores_are_the_cosines_of_the_models_own_vectors(running: Service, path: str) -> None:
    query, *documents = SENTENCES
    answer = post(running, path, text_1=query, text_2=documents).json()

    expected = [float(OWN[query].vector @ OWN[each].vector) for each in documents]
    assert [row["score"] for row in answer["data"]] == pytest.approx(expected, abs=1e-3)


def test_what_ranks_pairs_is_no_task_for_it(running: Service) -> None:
    answer = post(running, "/v1/rerank", query="a", documents=["b"])

    assert answer.status_code == 501
