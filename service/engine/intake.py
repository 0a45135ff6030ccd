"""A request at the engine's door: tokenized, cut where that is allowed, measured, or refused.

Everything here runs on the reading thread, and touches nothing of the engine but the vocabulary.
"""

from __future__ import annotations

import numpy as np

from service.engine.embedding import EmbeddingJob
from service.engine.model import Ids, InvalidPrompt, Model
from service.engine.sequence import Sequence
from service.engine.wire import (
    Admitted,
    Detokenize,
    Detokenized,
    Embed,
    Refused,
    Submit,
    Tokenize,
    Tokenized,
)
from service.generation import Text, Tokens, Truncation

Prepared = tuple[Admitted, list[Sequence] | EmbeddingJob]


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
        _check_ids(model, list(sampling.logit_bias), "logit_bias")
        _check_ids(model, sampling.allowed_token_ids, "allowed_token_ids")
        limit = facts.n_ctx_seq
        if sampling.max_tokens is not None:
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
        fitted = [_fitted(model, text, embed.truncation, longest) for text in embed.inputs]
        if any(not len(ids) for ids, _ in fitted):
            raise InvalidPrompt("an input has no tokens", "input")
        if (embed.dimensions or 0) > model.facts.n_embd:
            raise InvalidPrompt(f"the model has {model.facts.n_embd}", "dimensions")
    except InvalidPrompt as error:
        return Refused(embed.id, str(error), error.param)
    except _TooLong as error:
        return Refused(embed.id, "an input is too long", overflow=(error.tokens, longest))
    inputs = [ids for ids, _ in fitted]
    job = EmbeddingJob(embed.id, inputs, embed.normalize, embed.dimensions, now)
    return Admitted(embed.id, job.tokens, sum(cut for _, cut in fitted)), job


def tokenized(model: Model, question: Tokenize) -> Tokenized | Refused:
    try:
        ids = _ids(model, question.text).tolist()
    except InvalidPrompt as error:
        return Refused(question.id, str(error), error.param)
    return Tokenized(question.id, ids, [model.piece(token, special=True) for token in ids])


def detokenized(model: Model, question: Detokenize) -> Detokenized | Refused:
    try:
        _check_ids(model, question.tokens, "tokens")
    except InvalidPrompt as error:
        return Refused(question.id, str(error), error.param)
    pieces = (model.piece(token, special=True) for token in question.tokens)
    return Detokenized(question.id, b"".join(pieces))


def cut(ids: Ids, truncation: Truncation, longest: int) -> Ids:
    """At most `longest` of them, or the truncation's own limit; see `Truncation`."""
    limit = longest if truncation.limit is None else min(truncation.limit, longest)
    if len(ids) <= limit:
        return ids
    if truncation.side == "right":
        return ids[:limit]
    keep = min(truncation.keep, limit)
    return np.concatenate([ids[:keep], ids[len(ids) - (limit - keep) :]])


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


def _check_ids(model: Model, ids: tuple[int, ...] | list[int], param: str) -> None:
    n_vocab = model.facts.n_vocab
    if ids and not (min(ids) >= 0 and max(ids) < n_vocab):
        raise InvalidPrompt(f"token ids must be in 0..{n_vocab - 1}", param)
