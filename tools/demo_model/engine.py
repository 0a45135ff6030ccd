"""Runs a GGUF file in llama.cpp, greedily or by sampling."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import llama_cpp


@dataclass(frozen=True)
class Answer:
    text: str
    ended: bool


class Engine:
    def __init__(self, path: Path, context: int = 4096) -> None:
        self.model = llama_cpp.Llama(str(path), n_ctx=context, verbose=False, n_threads=2)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self.model.model)

    def tokens(self, text: str) -> list[int]:
        return self.model.tokenize(text.encode(), add_bos=False, special=True)

    def text(self, tokens: list[int]) -> str:
        """Visible tokens as a client gets them; control tokens have no text."""
        data = b""
        piece = ctypes.create_string_buffer(256)
        for token in tokens:
            size = llama_cpp.llama_token_to_piece(self._vocabulary, token, piece, 256, 0, False)
            data += piece.raw[:size]
        return data.decode(errors="replace")

    def answer(self, text: str, limit: int = 400, temperature: float = 0.0) -> Answer:
        prompt, tokens = self.tokens(text), list[int]()
        # Greedy unless a temperature is given; then nothing but the temperature narrows the choice.
        for token in self.model.generate(
            prompt, temp=temperature, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0
        ):
            if llama_cpp.llama_vocab_is_eog(self._vocabulary, token):
                return Answer(self.text(tokens), ended=True)
            tokens.append(token)
            if len(tokens) == limit or len(prompt) + len(tokens) == self.model.n_ctx():
                break
        return Answer(self.text(tokens), ended=False)
