"""llama.cpp's samplers, made of the stages that `sampling` names."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any, Final

import llama_cpp as llama
import numpy as np

from service.engine.llama_candidates import BANNED
from service.engine.model import Ids
from service.engine.sampling import Stage

# Sets of sequence breakers, with their numbers; clients seldom have more than one.
_KEPT: Final = 8


class Samplers:
    """Makes samplers for a vocabulary. Belongs to the one thread that takes requests in.

    Two things are dear, so what came of them is kept and copied: a DRY sampler reads the whole
    vocabulary for each of its breakers, and the answers of one request all see the same prompt.
    """

    def __init__(self, vocab: Any) -> None:
        self._vocab = vocab
        self._n_vocab = llama.llama_vocab_n_tokens(vocab)
        self._dry: dict[Stage, Any] = {}
        self._prompt: Ids | None = None
        self._told: dict[Stage, Any] = {}

    def banned(self, tokens: Iterable[int]) -> Any:
        return _logit_bias(self._n_vocab, tuple((token, BANNED) for token in tokens))

    def only(self, allowed: tuple[int, ...]) -> Any:
        """Bans all other tokens: nearly a whole vocabulary, so not entry by entry."""
        others = np.setdiff1d(np.arange(self._n_vocab), np.asarray(allowed))
        biases = np.empty(len(others), [("token", np.int32), ("bias", np.float32)])
        biases["token"], biases["bias"] = others, BANNED
        pointer = biases.ctypes.data_as(ctypes.POINTER(llama.llama_logit_bias))
        return llama.llama_sampler_init_logit_bias(self._n_vocab, len(biases), pointer)

    def stage(self, stage: Stage, prompt: Ids) -> Any:
        """A sampler that has seen of the prompt what it has to."""
        if not stage.window:
            return self._new(stage)
        if prompt is not self._prompt:
            self._forget_prompt(prompt)
        told = self._told.get(stage)
        if told is None:
            told = self._told[stage] = self._new(stage)
            for token in prompt[-stage.window :].tolist():
                llama.llama_sampler_accept(told, token)
        return llama.llama_sampler_clone(told)

    def _forget_prompt(self, prompt: Ids) -> None:
        for sampler in self._told.values():
            llama.llama_sampler_free(sampler)
        self._prompt, self._told = prompt, {}

    def _new(self, stage: Stage) -> Any:
        """The few whose arguments need the vocabulary; all others are their name and arguments."""
        if stage.name == "logit_bias":
            return _logit_bias(self._n_vocab, stage.arguments[0])
        if stage.name == "penalties":
            return llama.llama_sampler_init_penalties(self._n_vocab, *stage.arguments)
        if stage.name == "dry":
            return llama.llama_sampler_clone(self._blank_dry(stage))
        if stage.name == "mirostat":
            return llama.llama_sampler_init_mirostat(self._n_vocab, *stage.arguments, 100)
        return getattr(llama, f"llama_sampler_init_{stage.name}")(*stage.arguments)

    def _blank_dry(self, stage: Stage) -> Any:
        """One that has seen nothing; the least recently wanted make room."""
        blank = self._dry.pop(stage, None)
        if blank is None:
            *numbers, breakers = stage.arguments
            words = (ctypes.c_char_p * len(breakers))(*(word.encode() for word in breakers))
            blank = llama.llama_sampler_init_dry(self._vocab, *numbers, words, len(breakers))
            if len(self._dry) == _KEPT:
                llama.llama_sampler_free(self._dry.pop(next(iter(self._dry))))
        self._dry[stage] = blank
        return blank


def _logit_bias(n_vocab: int, biases: tuple[tuple[int, float], ...]) -> Any:
    entries = (llama.llama_logit_bias(token, bias) for token, bias in biases)
    array = (llama.llama_logit_bias * len(biases))(*entries)
    return llama.llama_sampler_init_logit_bias(n_vocab, len(biases), array)
