"""A request at the engine's door: tokenized, cut where that is allowed, measured, or refused.

Everything here runs on the reading thread, and touches nothing of the engine but the vocabulary.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np

from service.engine.bad_words import spellings
from service.engine.bans import bans, few_left
from service.engine.embedding import EmbeddingJob
from service.engine.model import Ids, InvalidPrompt, Model
from service.engine.sequence import Sequence
from service.engine.wire import (
    MAX_FRAME_BYTES,
    Admitted,
    Detokenize,
    Detokenized,
    Embed,
    Refused,
    Submit,
    Tokenize,
    Tokenized,
)
from service.generation import SamplingParams, Selection, Text, Tokens, Truncation

Prepared = tuple[Admitted, list[Sequence] | EmbeddingJob]

# What one frame can hold: bytes of tokens' pieces, and log-probabilities of a prompt's tokens. Each
# of those takes about 20 bytes, and more where pieces are long.
MOST_BYTES: Final = MAX_FRAME_BYTES - 1024
MOST_SCORES: Final = MAX_FRAME_BYTES // 64
# Beside the piece: its length, and the token's id.
TOKEN_BYTES: Final = 10


class _TooLong(Exception):
    """`tokens` are more than `longest`."""

    def __init__(self, tokens: int, longest: int) -> None:
        self.tokens = tokens
        self.longest = longest


def prepare(model: Model, submit: Submit, now: float) -> Prepared | Refused:
    """The request's sequences, one for each answer, or why it cannot have any."""
    facts, sampling = model.facts, submit.sampling
    try:
        if not facts.can_generate:
            raise InvalidPrompt("the model makes embeddings and cannot generate text", "model")
        # One cell is needed for the first token of the answer.
        prompt, cut = _fitted(model, submit.prompt, submit.truncation, facts.n_ctx_seq - 1)
        if not len(prompt):
            raise InvalidPrompt("the prompt is empty", "prompt")
        _check_scores(submit, len(prompt))
        adapters = _selection(model, submit.adapters)
        _check_ids(model, list(sampling.logit_bias), "logit_bias")
        _check_ids(model, sampling.allowed_token_ids, "allowed_token_ids")
        _check_ids(model, sampling.stop_token_ids, "stop_token_ids")
        _check_left(model, sampling)
        limit = facts.n_ctx_seq
        if sampling.max_tokens is not None:
            if sampling.must_fit and len(prompt) + sampling.max_tokens > limit:
                raise _TooLong(len(prompt), limit)
            limit = min(limit, len(prompt) + sampling.max_tokens)
        sequences = [
            Sequence(
                submit.id,
                index,
                prompt,
                sampling,
                model.sampler(sampling, submit.grammar, prompt, index),
                limit,
                now,
                salt=submit.cache_salt,
                priority=submit.priority,
                adapters=adapters,
            )
            for index in range(submit.n)
        ]
    except InvalidPrompt as error:
        return Refused(submit.id, str(error), error.param)
    except _TooLong as error:
        overflow = (error.tokens, facts.n_ctx_seq)
        return Refused(submit.id, "the prompt does not fit the context", overflow=overflow)
    ids = tuple(prompt.tolist()) if sampling.token_ids else ()
    return Admitted(submit.id, len(prompt), cut, ids), sequences


def prepare_embedding(model: Model, embed: Embed, now: float) -> Prepared | Refused:
    longest = model.facts.n_embed_input
    try:
        fitted = [_fitted_input(model, text, embed.truncation, longest) for text in embed.inputs]
        if any(not len(ids) for ids, _ in fitted):
            raise InvalidPrompt("an input has no tokens", "input")
        if (embed.dimensions or 0) > model.facts.n_embd:
            raise InvalidPrompt(f"the model's vectors have {model.facts.n_embd}", "dimensions")
        adapters = _selection(model, embed.adapters)
    except InvalidPrompt as error:
        return Refused(embed.id, str(error), error.param)
    except _TooLong as error:
        return Refused(embed.id, "an input is too long", overflow=(error.tokens, longest))
    inputs = [ids for ids, _ in fitted]
    job = EmbeddingJob(
        embed.id, inputs, embed.normalize, embed.dimensions, now, adapters, embed.priority
    )
    return Admitted(embed.id, job.tokens, sum(cut for _, cut in fitted)), job


def tokenized(model: Model, question: Tokenize) -> Tokenized | Refused:
    try:
        ids = _ids(model, question.text).tolist()
        pieces = [model.piece(token, special=True) for token in ids]
        _check_bytes(TOKEN_BYTES * len(ids) + sum(map(len, pieces)), "prompt")
    except InvalidPrompt as error:
        return Refused(question.id, str(error), error.param)
    return Tokenized(question.id, ids, pieces)


def detokenized(model: Model, question: Detokenize) -> Detokenized | Refused:
    try:
        _check_ids(model, question.tokens, "tokens")
        pieces = [model.piece(token, special=True) for token in question.tokens]
        _check_bytes(sum(map(len, pieces)), "tokens")
    except InvalidPrompt as error:
        return Refused(question.id, str(error), error.param)
    return Detokenized(question.id, b"".join(pieces))


def cut(ids: Ids, truncation: Truncation, longest: int) -> Ids:
    """At most `longest` of them, or the truncation's own limit; see `Truncation`."""
    limit = _limit(truncation, longest)
    if len(ids) <= limit:
        return ids
    if truncation.side == "right":
        return ids[:limit]
    keep = min(truncation.keep, limit)
    return np.concatenate([ids[:keep], ids[len(ids) - (limit - keep) :]])


def _limit(truncation: Truncation, longest: int) -> int:
    return longest if truncation.limit is None else min(truncation.limit, longest)


def _fitted_input(
    model: Model, text: Text | Tokens, truncation: Truncation | None, longest: int
) -> tuple[Ids, int]:
    """As `_fitted`, but what the tokenizer puts around a text of its own accord stays around it:
    a model that was trained on `[CLS] text [SEP]` gets that of a shorter text, too."""
    try:
        ids = _ids(model, text)
    except InvalidPrompt as error:
        raise InvalidPrompt(str(error), "input") from None
    whole = len(ids)
    if truncation is not None and whole > (limit := _limit(truncation, longest)):
        before, after = _marks(model, text, ids)
        room = limit - before - after
        if room < 0:
            message = f"leaves no room for a text: {before + after} tokens are around each"
            raise InvalidPrompt(message, "truncate_prompt_tokens")
        own = cut(ids[before : whole - after], truncation, room)
        ids = np.concatenate([ids[:before], own, ids[whole - after :]])
    if len(ids) > longest:
        raise _TooLong(whole, longest)
    return ids, whole - len(ids)


def _marks(model: Model, text: Text | Tokens, ids: Ids) -> tuple[int, int]:
    """How many of `ids` the tokenizer put before the text's own, and after them."""
    if not isinstance(text, Text) or not text.add_special_tokens:
        return 0, 0
    own = model.tokenize(text.prompt, add_special=False)
    around = len(ids) - len(own)
    for before in range(around + 1):
        if np.array_equal(ids[before : before + len(own)], own):
            return before, around - before
    return 0, 0


def _fitted(
    model: Model, prompt: Text | Tokens, truncation: Truncation | None, longest: int
) -> tuple[Ids, int]:
    """The prompt's ids, at most `longest`, and how many were cut."""
    ids = _ids(model, prompt)
    whole = len(ids)
    if truncation is not None:
        ids = cut(ids, truncation, longest)
    if len(ids) > longest:
        raise _TooLong(whole, longest)
    return ids, whole - len(ids)


def _ids(model: Model, prompt: Text | Tokens) -> Ids:
    if isinstance(prompt, Text):
        return model.tokenize(prompt.prompt, add_special=prompt.add_special_tokens)
    _check_ids(model, prompt.ids, "prompt")
    return np.asarray(prompt.ids, np.int32)


def _selection(model: Model, adapters: Selection) -> Selection:
    """In the one form that equal ones have."""
    numbers = range(len(model.facts.adapters))
    if any(number not in numbers or not math.isfinite(scale) for number, scale in adapters):
        raise InvalidPrompt(f"the model has {len(numbers)} of them", "adapters")
    return tuple(sorted((number, scale) for number, scale in dict(adapters).items() if scale))


def _check_scores(submit: Submit, n_prompt: int) -> None:
    top = submit.sampling.prompt_logprobs
    scores = 0 if top is None else submit.n * n_prompt * (top + 1)
    if scores > MOST_SCORES:
        message = (
            f"{scores} log-probabilities are too many for one answer, which holds {MOST_SCORES}"
        )
        raise InvalidPrompt(message, "prompt_logprobs")


def _check_bytes(size: int, param: str) -> None:
    if size > MOST_BYTES:
        raise InvalidPrompt("the answer would be too large: ask for less at a time", param)


def _check_left(model: Model, sampling: SamplingParams) -> None:
    """Raises InvalidPrompt where no token is left for an answer to begin with."""
    facts = model.facts
    words = spellings(sampling.bad_words, partial(model.tokenize, add_special=False))
    ever, early = bans(sampling, frozenset(facts.eog_tokens), words)
    if few_left(sampling, ever | early, facts.n_vocab, most=0) is not None:
        raise InvalidPrompt(
            "nothing is left that an answer could begin with: biases, bad words, and ends that"
            " are held back or ignored ban every token",
            "allowed_token_ids" if sampling.allowed_token_ids else "logit_bias",
        )


def _check_ids(model: Model, ids: tuple[int, ...] | list[int], param: str) -> None:
    n_vocab = model.facts.n_vocab
    if ids and not (min(ids) >= 0 and max(ids) < n_vocab):
        raise InvalidPrompt(f"token ids must be in 0..{n_vocab - 1}", param)
