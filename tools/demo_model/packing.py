"""Packs documents into windows of one length, without masks between them.

A short window teaches nothing about far positions, and long ones are dear. So half of the windows
are stretched: they leap over thousands of positions once or twice, and what stands on either side
must be found over any distance (positional skip-wise training, Zhu et al. 2023).
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .chat import Pieces

Tokens = tuple[list[int], list[float]]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
_WAITING = 64


def encode(tokenizer: Tokenizer, pieces: Pieces) -> Tokens:
    """Each piece on its own, as at inference: an answer is never merged into its prompt."""
    ids: list[int] = []
    weights: list[float] = []
    for (_, weight), piece in zip(
        pieces, tokenizer.encode_batch_fast([text for text, _ in pieces]), strict=True
    ):
        ids += piece.ids
        weights += [weight] * len(piece.ids)
    return ids, weights


def windows(documents: Iterator[Pieces], tokenizer: Tokenizer, length: int) -> Iterator[Tokens]:
    """Fill each window with the next document, then with the longest that still fit."""
    waiting: list[Tokens] = []
    while True:
        while len(waiting) < _WAITING:
            waiting.append(encode(tokenizer, next(documents)))
        first_ids, first_weights = waiting.pop(0)
        ids, weights = first_ids[: length + 1], first_weights[: length + 1]
        while fitting := [d for d in waiting if len(d[0]) <= length + 1 - len(ids)]:
            best = max(fitting, key=lambda document: len(document[0]))
            waiting.remove(best)
            ids += best[0]
            weights += best[1]
        padding = length + 1 - len(ids)
        yield ids + [0] * padding, weights + [0.0] * padding


def positions(rng: np.random.Generator, length: int, context: int) -> NDArray[np.int64]:
    """The positions of a window's tokens, rising; of every other window, with leaps between."""
    leaps = np.zeros(length, dtype=np.int64)
    if rng.random() < 0.5:
        room = context - length
        for where in rng.integers(0, length, rng.integers(1, 3)):
            leap = int(rng.integers(0, room + 1))
            leaps[where] += leap
            room -= leap
    rising: NDArray[np.int64] = np.arange(length) + leaps.cumsum()
    return rising


def batches(
    documents: Iterator[Pieces],
    tokenizer: Tokenizer,
    length: int,
    tokens: int,
    context: int,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Inputs, their positions, targets and the targets' weights: ``tokens`` of each a batch."""
    source = windows(documents, tokenizer, length)
    while True:
        rows = [next(source) for _ in range(max(1, tokens // length))]
        ids = torch.from_numpy(np.array([row[0] for row in rows], dtype=np.int64))
        weights = torch.from_numpy(np.array([row[1] for row in rows], dtype=np.float32))
        places = torch.from_numpy(np.array([positions(rng, length, context) for _ in rows]))
        yield ids[:, :-1], places, ids[:, 1:], weights[:, 1:]
