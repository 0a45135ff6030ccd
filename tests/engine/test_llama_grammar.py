"""Which tokens a grammar allows: by prefixes the same as by asking about every one of them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest

from service.engine.llama_candidates import Candidates
from service.engine.llama_grammar import TOKEN_DATA, PrefixTable
from service.text.json_schema import schema_grammar
from tests.engine.child import DEMO

GRAMMARS = {
    "a schema": schema_grammar(
        {"type": "object", "properties": {"née": {"type": "integer"}, "b": {"enum": ["é", "🦙", "x y"]}}}
    ),
    "white space first": 'root ::= [ \\t\\n]+ "end" | " é" [0-9]*',
    "anything": "root ::= .*",
    "bytes within a character": 'root ::= [\\u00e0-\\u00ef🦙]+ "x"',
    "one text": 'root ::= "only"',
}  # fmt: skip


@pytest.fixture(scope="module")
def vocab() -> Iterator[Any]:
    params = llama.llama_model_default_params()
    params.vocab_only = True
    model = llama.llama_model_load_from_file(str(DEMO).encode(), params)
    yield llama.llama_model_get_vocab(model)
    llama.llama_model_free(model)


def asked_about_all(grammar: Any, n_vocab: int) -> list[int]:
    data = np.ones(n_vocab, TOKEN_DATA)
    data["id"] = np.arange(n_vocab)
    pointer = data.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
    array = llama.llama_token_data_array(pointer, n_vocab, -1, False)
    llama.llama_sampler_apply(grammar, ctypes.byref(array))
    return [int(token) for token in np.flatnonzero(data["logit"] > -np.inf)]


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("few", [0, 1024])
def test_prefixes_tell_the_same(vocab: Any, name: str, few: int, monkeypatch: Any) -> None:
    """With `few` 0 the copies of the grammar go as far ahead as they ever do."""
    monkeypatch.setattr("service.engine.llama_grammar._FEW", few)
    table = PrefixTable(vocab)
    random = np.random.default_rng(7)
    n_vocab = llama.llama_vocab_n_tokens(vocab)
    for _ in range(3):
        grammar = llama.llama_sampler_init_grammar(vocab, GRAMMARS[name].encode(), b"root")
        told = 0
        for _ in range(30):
            everything = asked_about_all(grammar, n_vocab)
            by_prefix = table.allowed(grammar)
            if by_prefix is not None:
                told += 1
                assert sorted(by_prefix.tolist()) == everything
            going_on = [t for t in everything if not llama.llama_vocab_is_eog(vocab, t)]
            if not going_on:
                break
            llama.llama_sampler_accept(grammar, int(random.choice(going_on)))
        llama.llama_sampler_free(grammar)
        assert told or name == "anything"


@pytest.mark.parametrize("name", GRAMMARS)
@pytest.mark.parametrize("enough", [None, 3])
@pytest.mark.parametrize("banned", [[], [40, 41, 300]])
def test_what_is_chosen_from_are_the_likeliest_that_are_allowed(
    vocab: Any, name: str, enough: int | None, banned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_vocab = llama.llama_vocab_n_tokens(vocab)
    random = np.random.default_rng(5)
    logits = np.zeros(n_vocab, np.float32)
    pointer = logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    monkeypatch.setattr(llama, "llama_get_logits_ith", lambda context, row: pointer)
    table, candidates = PrefixTable(vocab), Candidates(n_vocab)
    monkeypatch.setattr("service.engine.llama_candidates._MORE", 1)
    also = np.array([7, 8], np.int32)
    grammar = llama.llama_sampler_init_grammar(vocab, GRAMMARS[name].encode(), b"root")
    for _ in range(12):
        logits[:] = random.normal(0, 2, n_vocab)
        allowed = set(asked_about_all(grammar, n_vocab))
        array = candidates.fill_held(
            None, 0, grammar, table, enough=enough, also=also, banned=banned
        )
        found = {array.data[at].id for at in range(array.size) if array.data[at].logit > -np.inf}
        possible = sorted(allowed - set(banned), key=lambda token: -logits[token])
        assert found <= set(possible)
        assert set(possible[:enough]) <= found
        assert bool(array.size) == bool(possible)
        going_on = [t for t in allowed if not llama.llama_vocab_is_eog(vocab, t)]
        if not going_on:
            break
        llama.llama_sampler_accept(grammar, int(random.choice(going_on)))
    llama.llama_sampler_free(grammar)
