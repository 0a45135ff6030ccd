"""Which tokens an answer may not have, whatever the model thinks of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import NamedTuple

from service.generation import SamplingParams


class Bans(NamedTuple):
    """`ever`: in the whole answer. `early`: until min_tokens were generated, and not in `ever`."""

    ever: frozenset[int]
    early: frozenset[int]


def bans(sampling: SamplingParams, ends: Set[int], words: Set[tuple[int, ...]]) -> Bans:
    """ends: the model's own. words: the tokens of each bad word.

    As in vLLM, `ignore_eos` is about the model's own ends: one that the client lists ends an
    answer all the same, and only min_tokens holds it back.
    """
    stops = frozenset(sampling.stop_token_ids)
    ever = {token for token, bias in sampling.logit_bias.items() if bias == -math.inf}
    ever |= {word[0] for word in words if len(word) == 1}
    if sampling.ignore_eos:
        ever |= ends - stops
    early = ends | stops if sampling.min_tokens > 0 else frozenset[int]()
    return Bans(frozenset(ever), frozenset(early - ever))


def few_left(
    sampling: SamplingParams, banned: Set[int], n_vocab: int, most: int
) -> frozenset[int] | None:
    """The tokens that may be sampled; None where they are more than `most`."""
    if sampling.allowed_token_ids:
        left = frozenset(sampling.allowed_token_ids) - banned
        return left if len(left) <= most else None
    return frozenset(range(n_vocab)) - banned if n_vocab - len(banned) <= most else None
