from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.app import create_app
from service.dialects.vllm.pairs import Ends, ends_of, pair, probability, room, sentence
from service.errors import InvalidRequest
from service.generation import Chat, EmbeddingRequest, Infill, Text, Tokens, Truncation
from service.serving.runtime import Embeddings, Tokenized
from service.settings import Settings
from tests.dialects.fakes import FACTS, FakeRuntime

CLS, SEP = 1, 2


class Reranker(FakeRuntime):
    """Its tokens are bytes within [CLS] and [SEP]; a pair's score is how few tokens it has."""

    def __init__(self) -> None:
        super().__init__(able_to=frozenset({"rerank"}))

    async def tokenize(self, model: str, input: Chat | Text | Infill) -> Tokenized:
        found = await super().tokenize(model, input)
        if not (isinstance(input, Text) and input.add_special_tokens):
            return found
        tokens, pieces = [CLS, *found.tokens, SEP], [b"[CLS]", *found.pieces, b"[SEP]"]
        return Tokenized(found.prompt, tokens, pieces, found.card, found.facts)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        made = await super().embed(request)
        lengths = [len(each.ids) for each in request.inputs if isinstance(each, Tokens)]
        return replace(made, vectors=[struct.pack("<f", -float(length)) for length in lengths])


class Judge(Reranker):
    """Reads both texts in a sentence of its file; its score is the share of small letters."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = msgspec.structs.replace(
            FACTS, rerank_template="Q {query} D {document}?", scores_are_probabilities=True
        )

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        made = await super().embed(request)
        texts = [each.prompt for each in request.inputs if isinstance(each, Text)]
        shares = [sum(map(str.islower, text)) / len(text) for text in texts]
        return replace(made, vectors=[struct.pack("<f", share) for share in shares])


def client(runtime: FakeRuntime) -> TestClient:
    app = create_app(Settings(), runtime.make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


BODY = {"query": "q", "documents": ["long one", {"text": "b"}]}


@pytest.mark.parametrize(
    "path",
    ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/vllm/rerank"],
)
def test_documents_come_back_in_the_order_of_their_fitness(path: str) -> None:
    runtime = Reranker()
    with client(runtime) as http:
        answer = http.post(path, json=BODY).json()

    assert answer["id"].startswith("rerank-")
    assert answer["model"] == "demo:latest"
    assert [result["index"] for result in answer["results"]] == [1, 0]
    assert answer["results"][0]["document"] == {"text": "b"}
    first, second = (result["relevance_score"] for result in answer["results"])
    assert first == pytest.approx(probability(-5.0))
    assert 0 < second < first < 1
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"]
    (request,) = runtime.embedded
    assert request.inputs[1] == Tokens((CLS, ord("q"), SEP, ord("b"), SEP))
    assert not request.normalize


def test_only_the_first_few_may_be_wanted_without_their_text() -> None:
    with client(Reranker()) as http:
        body = {**BODY, "top_n": 1, "return_documents": False}
        (result,) = http.post("/rerank", json=body).json()["results"]

    assert result.keys() == {"index", "relevance_score"}


def test_teis_form_is_answered_with_an_array() -> None:
    body = {"query": "q", "texts": ["long one", "b"], "return_text": True}
    with client(Reranker()) as http:
        rows = http.post("/rerank", json=body).json()
        raw = http.post("/rerank", json={**body, "raw_scores": True}).json()

    assert [(row["index"], row["text"]) for row in rows] == [(1, "b"), (0, "long one")]
    assert raw[0]["score"] == -5.0


def test_a_model_with_a_sentence_of_its_own_is_asked_in_it_and_its_score_stays() -> None:
    runtime = Judge()
    with client(runtime) as http:
        answer = http.post("/rerank", json={"query": "q", "documents": ["AB", "ab"]}).json()
        (row,) = http.post("/score", json={"text_1": "q", "text_2": "ab"}).json()["data"]

    assert runtime.embedded[0].inputs == (
        Text("Q q D AB?", add_special_tokens=False),
        Text("Q q D ab?", add_special_tokens=False),
    )
    first, second = answer["results"]
    assert (first["index"], second["index"]) == (1, 0)
    assert first["relevance_score"] == row["score"] == pytest.approx(3 / 9)


def test_of_a_sentence_only_the_document_is_cut() -> None:
    runtime = Judge()
    with client(runtime) as http:
        body = {"query": "query", "documents": ["a long document", "b"]}
        response = http.post("/rerank", json=body | {"truncate_prompt_tokens": 16})
        http.post("/rerank", json=body | {"max_tokens_per_doc": 6})
        http.post("/rerank", json=body | {"truncate_prompt_tokens": 3})

    texts = [[text.prompt for text in made.inputs] for made in runtime.embedded]  # type: ignore[union-attr]
    assert texts[0] == ["Q query D a lon?", "Q query D b?"]
    assert response.headers["x-prompt-truncated"] == "10"
    assert texts[1] == ["Q query D a long?", "Q query D b?"]
    assert texts[2] == ["Q query D ?", "Q query D ?"]


def test_texts_that_look_like_places_in_the_sentence_are_texts() -> None:
    assert sentence("{query} and {document}", "{document}", "{query}") == "{document} and {query}"


def test_what_was_cut_of_documents_is_told() -> None:
    runtime = Reranker()
    with client(runtime) as http:
        response = http.post("/rerank", json={**BODY, "max_tokens_per_doc": 3})
        http.post("/rerank", json={**BODY, "truncate_prompt_tokens": 6})

    assert response.headers["x-prompt-truncated"] == "5"
    assert len(runtime.embedded[0].inputs[0].ids) == 7  # type: ignore[union-attr]
    assert len(runtime.embedded[1].inputs[0].ids) == 6  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/vllm/rerank"])
def test_a_model_that_ranks_nothing_is_not_made_to(path: str) -> None:
    with client(FakeRuntime()) as http:
        response = http.post(path, json=BODY)

    assert response.status_code == 501
    assert response.json()["error"]["message"].startswith("This server does not support reranking")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": 1, "documents": ["a"]}, "query"),
        ({"query": "q"}, "documents"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": "a"}, "documents"),
        ({"query": "q", "documents": [1]}, "documents.0"),
        ({"query": "q", "documents": [{"text": 1}]}, "documents.0"),
        ({"query": "q", "documents": ["a"] * 1025}, "documents"),
        ({**BODY, "top_n": -1}, "top_n"),
        ({**BODY, "return_documents": "yes"}, "return_documents"),
        ({**BODY, "instruction": "be kind"}, "instruction"),
        ({**BODY, "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({**BODY, "max_tokens_per_doc": "x"}, "max_tokens_per_doc"),
        ({**BODY, "model": 1}, "model"),
    ],
)
def test_what_cannot_be_ranked_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with client(Reranker()) as http:
        response = http.post("/rerank", json=body)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        {"text_1": "q", "text_2": ["long one", "b"]},
        {"queries": "q", "documents": ["long one", "b"]},
        {"queries": ["q", "q"], "items": ["long one", "b"]},
        {"data_1": ["q"], "data_2": [{"text": "long one"}, "b"]},
    ],
)
@pytest.mark.parametrize("path", ["/score", "/v1/score", "/vllm/score"])
def test_pairs_have_a_score_each(path: str, body: dict[str, Any]) -> None:
    with client(Reranker()) as http:
        answer = http.post(path, json=body).json()

    first, second = answer["data"]
    assert (first["index"], first["object"]) == (0, "score")
    assert second["score"] == pytest.approx(probability(-5.0))
    assert first["score"] < second["score"]


def test_a_model_that_embeds_scores_by_the_angle() -> None:
    runtime = FakeRuntime(able_to=frozenset({"embedding"}))
    with client(runtime) as http:
        answer = http.post("/score", json={"text_1": "ab", "text_2": ["ab", "cd"]}).json()

    # The fake's vectors are (characters, words), and it does not normalize.
    assert [row["score"] for row in answer["data"]] == [5.0, 5.0]
    assert runtime.embedded[0].normalize
    assert runtime.embedded[0].inputs == (Text("ab"), Text("cd"))


@pytest.mark.parametrize(("limit", "most"), [(7, 7), (-1, None)])
def test_texts_that_are_embedded_may_be_cut_at_their_end(limit: int, most: int | None) -> None:
    runtime = FakeRuntime(able_to=frozenset({"embedding"}))
    with client(runtime) as http:
        body = {"text_1": "ab", "text_2": "cd", "truncate_prompt_tokens": limit}
        http.post("/score", json=body)
        refused = http.post("/vllm/score", json={**body, "max_tokens_per_doc": 3})

    assert runtime.embedded[0].truncation == Truncation(most, side="right")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens_per_doc")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text_1": "a"},
        {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]},
        {"text_1": 1, "text_2": "a"},
        {"text_1": [], "text_2": "a"},
    ],
)
def test_texts_that_are_no_pairs_are_refused(body: dict[str, Any]) -> None:
    with client(Reranker()) as http:
        response = http.post("/vllm/score", json=body)

    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("text_")


def test_two_families_put_their_separator_once_or_twice() -> None:
    bert = ends_of([CLS, SEP], [b"[CLS]", b"[SEP]"])
    roberta = ends_of([0, 2], [b"<s>", b"</s>"])

    assert pair(bert, [7], [8]) == (CLS, 7, SEP, 8, SEP)
    assert pair(roberta, [7], [8]) == (0, 7, 2, 2, 8, 2)


@pytest.mark.parametrize("tokens", [[], [1], [1, 2, 3]])
def test_a_model_whose_way_is_not_known_is_not_guessed_at(tokens: list[int]) -> None:
    with pytest.raises(InvalidRequest):
        ends_of(tokens, [b"x"] * len(tokens))


@given(st.lists(st.integers(3, 99), max_size=9), st.lists(st.integers(3, 99)), st.integers(0, 40))
def test_what_is_kept_of_a_document_fits(query: list[int], document: list[int], limit: int) -> None:
    ends = Ends((CLS,), (SEP,), (SEP,))
    kept = document[: room(ends, query, limit)]

    assert len(pair(ends, query, kept)) <= max(limit, len(query) + 3)


@given(st.floats(-1e6, 1e6))
def test_a_score_becomes_a_share_of_one(score: float) -> None:
    assert 0 <= probability(score) <= 1
    assert probability(score) + probability(-score) == pytest.approx(1)
