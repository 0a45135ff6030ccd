"""The demo model within this process: what two threads may ask of it at once."""

from __future__ import annotations

import threading
from typing import Any

import llama_cpp as llama
import pytest

from service.engine.llama import LlamaModel
from service.engine.wire import EngineParams
from tests.engine.child import DEMO


def test_a_token_keeps_its_own_text_when_two_threads_ask_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = LlamaModel(EngineParams(str(DEMO), n_ctx=256, n_seq=1), lambda fraction: None)
    one, other = (next(iter(model.tokenize(text, add_special=False).tolist())) for text in "ab")
    read = llama.llama_token_to_piece

    def interrupted(vocab: Any, token: int, *rest: Any) -> int:
        """After the text is written and before it is read, another thread asks."""
        size: int = read(vocab, token, *rest)
        if token == one:
            asking = threading.Thread(target=model.piece, args=(other,))
            asking.start()
            asking.join()
        return size

    monkeypatch.setattr(llama, "llama_token_to_piece", interrupted)
    assert one != other
    assert model.piece(one) != model.piece(other)


def test_among_many_engines_each_computes_with_its_part_and_tells_what_it_has_alone() -> None:
    params = EngineParams(str(DEMO), n_ctx=256, n_seq=1, threads=2)
    model = LlamaModel(params, lambda fraction: None)

    assert model.set_threads(2, engines=1000) == model.facts.threads == 2
    model.embed([model.tokenize("hello", add_special=False)])
    assert model._embedding is not None
    contexts = (model._context, model._embedding.context)
    assert [llama.llama_n_threads(context) for context in contexts] == [1, 1]

    model.set_threads(2)
    assert [llama.llama_n_threads(context) for context in contexts] == [2, 2]
