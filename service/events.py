"""What happens to a request, in order: frozen events that everything above the engine speaks.

An engine emits `TokenEvent`s and one `Finished` for each answer; `text.interpreter` turns the
text of the former into deltas. An answer is `index` of a request that asked for `n` of them.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    ERROR = "error"


class Logprob(Struct, frozen=True, array_like=True):
    """A token's natural-log probability under the raw logits (before temperature and cuts).

    `piece` is the token's bytes: a code point may be split between tokens.
    """

    token: int
    piece: bytes
    logprob: float


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """The sampled token and the most likely ones, most likely first."""

    chosen: Logprob
    top: tuple[Logprob, ...] = ()


class Usage(Struct, frozen=True, array_like=True):
    """Tokens, counted by the model's tokenizer. `generation_tokens` includes the end token."""

    prompt_tokens: int
    cached_tokens: int = 0
    generation_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(Struct, frozen=True, array_like=True):
    """Monotonic seconds, stamped by the engine, None where the request never got that far.

    The clock is CLOCK_MONOTONIC, which all processes of a machine share.
    """

    queued: float
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    finished: float | None = None


class TokenEvent(Struct, frozen=True, array_like=True, tag="t"):
    """Text that one step released: whole code points, no part of a stop string.

    `tokens` is how many sampled tokens it covers (0 or more: text may be held back), `last` the
    newest of them.
    """

    index: int
    text: str
    tokens: int
    last: int
    logprobs: tuple[TokenLogprobs, ...] = ()
    # Of the tokens sampled since the last event, sent only to requests that ask for them.
    ids: tuple[int, ...] = ()


class PromptLogprobs(Struct, frozen=True, array_like=True, tag="p"):
    """Log-probabilities of the prompt's own tokens; the first token has none."""

    index: int
    tokens: tuple[TokenLogprobs | None, ...]


class Finished(Struct, frozen=True, array_like=True, tag="f"):
    """The end of one answer. `stop` is the stop string or token id that ended it, if one did."""

    index: int
    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | int | None = None
    # With reason ERROR or TIMEOUT: why, in words fit for a client, and a stable word for programs.
    error: str | None = None
    code: str | None = None
    seed: int | None = None
    # The end token's own, where log-probabilities were wanted and such a token ended the answer.
    end_token: TokenLogprobs | None = None


class Embedding(Struct, frozen=True, array_like=True, tag="e"):
    """The vector of input `index`: float32, little endian, as the model's pooling gives it.

    A reranker's has one number, its score.
    """

    index: int
    vector: bytes
    tokens: int


class TextDelta(Struct, frozen=True):
    """`tokens`, here and below, is how many sampled tokens came with this delta; `ids` are
    theirs, where they are wanted."""

    index: int
    text: str
    logprobs: tuple[TokenLogprobs, ...] = ()
    tokens: int = 0
    ids: tuple[int, ...] = ()


class ReasoningDelta(Struct, frozen=True):
    index: int
    text: str
    logprobs: tuple[TokenLogprobs, ...] = ()
    tokens: int = 0
    ids: tuple[int, ...] = ()


class ToolCallDelta(Struct, frozen=True):
    """Part of call number `call` of an answer. The first part of a call has `id` and `name`."""

    index: int
    call: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    tokens: int = 0
    ids: tuple[int, ...] = ()


Delta = TextDelta | ReasoningDelta | ToolCallDelta
Event = Delta | PromptLogprobs | Finished
