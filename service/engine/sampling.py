"""Sampling parameters → the samplers of llama.cpp, in order. Pure: names and arguments only.

The order is that of llama.cpp's own default chain (common/sampling.cpp): biases, penalties, DRY,
top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, and one sampler that picks. A sampler
that would change nothing is left out: each one costs a pass over the candidates.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from service.generation import SamplingParams

# Below this the logits, divided by it, overflow: probabilities of NaN, on which llama.cpp aborts.
# What is meant is greedy.
GREEDY_BELOW = 1e-3


class Stage(NamedTuple):
    """One sampler: the `llama_sampler_init_*` it is made by, its arguments, and how many of the
    prompt's last tokens it has to see before the first answer token."""

    name: str
    arguments: tuple[Any, ...]
    window: int = 0


def seed_of(sampling: SamplingParams) -> int:
    """The seed in force, reduced to the 32 bits that llama.cpp takes; negative is random."""
    if sampling.seed is None or sampling.seed < 0:
        return secrets.randbits(32)
    return sampling.seed & 0xFFFFFFFF


def takes_whole_distribution(sampling: SamplingParams) -> bool:
    """Whether temperature is all there is: no cut, no penalty, no bias, no ban, no budget."""
    bans = bool(
        sampling.min_tokens
        or sampling.ignore_eos
        or sampling.allowed_token_ids
        or sampling.bad_words
        or sampling.thoughts
    )
    names = [stage.name for stage in stages(sampling, n_ctx=1, seed=0)]
    return names == ["temp", "dist"] and not bans


def shortlist(sampling: SamplingParams) -> int | None:
    """How many of the likeliest tokens decide, whatever the others' logits; None: all have a say.

    Biases are not counted: whoever makes the list has to add the tokens that have one.
    """
    if sampling.allowed_token_ids:
        return None
    names = [stage.name for stage in stages(sampling, n_ctx=1, seed=0)]
    if names and names[0] == "logit_bias":
        del names[0]
    if names == ["greedy"]:
        return 1
    return sampling.top_k if names and names[0] == "top_k" else None


def stages(sampling: SamplingParams, n_ctx: int, seed: int) -> list[Stage]:
    """The chain for one sequence. `n_ctx` bounds what "the whole answer" can mean."""
    chain = _penalties(sampling, n_ctx)
    greedy = sampling.temperature < GREEDY_BELOW
    if sampling.mirostat and not greedy:
        # Mirostat replaces the cuts: it needs the whole distribution, and picks by itself.
        chain.append(Stage("temp", (sampling.temperature,)))
        arguments = (seed, sampling.mirostat_tau, sampling.mirostat_eta)
        chain.append(Stage("mirostat" if sampling.mirostat == 1 else "mirostat_v2", arguments))
    elif greedy:
        chain.append(Stage("greedy", ()))
    else:
        chain += _cuts(sampling, seed)
        chain.append(_temperature(sampling))
        chain.append(Stage("dist", (seed,)))
    return chain


def _penalties(sampling: SamplingParams, n_ctx: int) -> list[Stage]:
    chain = []
    if sampling.logit_bias:
        chain.append(Stage("logit_bias", (tuple(sampling.logit_bias.items()),)))
    if sampling.repeat_penalty != 1.0 and sampling.repeat_last_n != 0:
        window = _window(sampling.repeat_last_n, n_ctx)
        arguments = (window, sampling.repeat_penalty, 0.0, 0.0)
        chain.append(Stage("penalties", arguments, window))
    if sampling.frequency_penalty or sampling.presence_penalty:
        # A sampler of their own: OpenAI counts the answer's tokens only, and all of them.
        arguments = (n_ctx, 1.0, sampling.frequency_penalty, sampling.presence_penalty)
        chain.append(Stage("penalties", arguments))
    if sampling.dry_multiplier > 0 and sampling.dry_penalty_last_n != 0:
        window = _window(sampling.dry_penalty_last_n, n_ctx)
        dry = (
            sampling.dry_multiplier,
            sampling.dry_base,
            sampling.dry_allowed_length,
            window,
            # Each costs a pass over the vocabulary, whether it was there before or not.
            tuple(dict.fromkeys(sampling.dry_sequence_breakers)),
        )
        chain.append(Stage("dry", dry, window))
    return chain


def _window(last_n: int, n_ctx: int) -> int:
    """llama.cpp allocates the window at once, so a client's two billion must not reach it."""
    return n_ctx if last_n < 0 else min(last_n, n_ctx)


def _cuts(sampling: SamplingParams, seed: int) -> list[Stage]:
    chain = []
    if sampling.top_n_sigma > 0:
        chain.append(Stage("top_n_sigma", (sampling.top_n_sigma,)))
    if sampling.top_k > 0:
        chain.append(Stage("top_k", (sampling.top_k,)))
    if sampling.typical_p < 1:
        chain.append(Stage("typical", (sampling.typical_p, 1)))
    if sampling.top_p < 1:
        chain.append(Stage("top_p", (sampling.top_p, 1)))
    if sampling.min_p > 0:
        chain.append(Stage("min_p", (sampling.min_p, 1)))
    if sampling.xtc_probability > 0:
        chain.append(Stage("xtc", (sampling.xtc_probability, sampling.xtc_threshold, 1, seed)))
    return chain


def _temperature(sampling: SamplingParams) -> Stage:
    if sampling.dynatemp_range > 0:
        spread = (sampling.temperature, sampling.dynatemp_range, sampling.dynatemp_exponent)
        return Stage("temp_ext", spread)
    return Stage("temp", (sampling.temperature,))
