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
