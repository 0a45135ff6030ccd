"""Trains the model: short windows first, long ones at the end."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from . import corpus, packing, tokenizer
from .corpus import Mixture
from .model import Model, Shape
from .source import Source

LEG = 50
_TOKENIZER_DOCUMENTS = 20000
EVERYTHING = Mixture(functions=0.3, drills=0.1)


@dataclass(frozen=True)
class Phase:
    """Steps over windows of one length, with so many tokens a step."""

    length: int
    tokens: int
    steps: int
    mixture: Mixture


@dataclass(frozen=True)
class Plan:
    # Every phase is a number of whole legs.
    phases: tuple[Phase, ...] = (
        Phase(256, 4096, 1800, Mixture(functions=0.3, most_functions=2, drills=0.35)),
        Phase(512, 4096, 2400, Mixture(functions=0.4, drills=0.3)),
        Phase(2048, 4096, 350, Mixture(long=0.15, functions=0.4, drills=0.3)),
        Phase(4096, 8192, 200, Mixture(long=0.4, functions=0.4, drills=0.3)),
    )
    rate: float = 5e-3
    warmup: int = 60
    # The share of the steps, at the end, in which the rate falls to nothing.
    decay: float = 0.35
    seed: int = 1

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        raise ValueError("the plan is over")

    def rate_at(self, step: int) -> float:
        rising = min(1.0, (step + 1) / self.warmup)
        left = (self.steps - step) / (self.steps * self.decay)
        return self.rate * rising * (1.0 if left >= 1 else 0.02 + 0.98 * left)


# What follows on the plan, from its weights.
REFINING = Plan(
    phases=(
        Phase(512, 4096, 350, Mixture(functions=0.12, drills=0.05, practice=0.8)),
        Phase(2048, 4096, 50, Mixture(long=0.05, functions=0.12, drills=0.05, practice=0.7)),
    ),
    rate=1.5e-3,
    warmup=20,
    decay=1.0,
    seed=2,
)


def learn_tokens(seed: int) -> Tokenizer:
    documents = itertools.islice(corpus.documents(Source(seed), EVERYTHING), _TOKENIZER_DOCUMENTS)
    return tokenizer.build("".join(text for text, _ in pieces) for pieces in documents)


def _optimizers(model: Model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices: it needs about half the steps of AdamW, which takes the rest."""
    matrices = [
        p for name, p in model.named_parameters() if name.startswith("blk") and p.dim() == 2
    ]
    rest = [p for name, p in model.named_parameters() if not name.startswith("blk") or p.dim() == 1]
    return [
        torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _leg(plan: Plan, words: Tokenizer, shape: Shape, start: int) -> Iterator[packing.Batch]:
    """The batches from one step to the next multiple of LEG: the same ones after a restart."""
    phase, seed = plan.phase_at(start), plan.seed * 1_000_000 + start
    batches = packing.batches(
        corpus.documents(Source(seed), phase.mixture),
        words,
        phase.length,
        phase.tokens,
        shape.context,
        np.random.default_rng(seed),
    )
    return itertools.islice(batches, LEG)


def train(
    plan: Plan,
    words: Tokenizer,
    state: Path,
    begin: Callable[[Model], None],
    keep: Callable[[Model], None],
) -> None:
    """Train by ``plan``, on from ``state`` where it exists; ``keep`` gets the model every leg."""
    torch.manual_seed(plan.seed)
    model = Model(Shape(vocabulary=words.get_vocab_size()))
    begin(model)
    optimizers = _optimizers(model)
    start = 0
    if state.exists():
        saved = torch.load(state)
        start = saved["step"]
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
    for leg in range(start, plan.steps, LEG):
        began, total = time.monotonic(), 0.0
        for step, batch in enumerate(_leg(plan, words, model.shape, leg), leg):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(*batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = plan.rate_at(step)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            total += loss.item()
        spent = time.monotonic() - began
        print(f"{leg + LEG}/{plan.steps} loss {total / LEG:.4f} {spent:.0f} s", flush=True)
        values = [optimizer.state_dict() for optimizer in optimizers]
        torch.save({"step": leg + LEG, "model": model.state_dict(), "optimizers": values}, state)
        keep(model)
