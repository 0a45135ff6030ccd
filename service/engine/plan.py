"""What the engine is to do in a step: moves of cells between slots, then rows of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from service.engine.sequence import Sequence
from service.engine.snapshots import Snapshot
from service.generation import Selection


class Forget(NamedTuple):
    """Drop the slot's cells from position `start` on."""

    slot: int
    start: int


class Copy(NamedTuple):
    """Make `target`, whatever it held, hold the first `length` cells of `source`."""

    source: int
    target: int
    length: int


class Swap(NamedTuple):
    a: int
    b: int


class Restore(NamedTuple):
    """Make the slot, which holds more, hold so many tokens: what a snapshot was taken after."""

    slot: int
    snapshot: Snapshot


Move = Forget | Copy | Swap | Restore


class Row(NamedTuple):
    """The next `length` uncomputed tokens of a sequence; `samples` when they are the last known."""

    sequence: Sequence
    length: int
    samples: bool


@dataclass(slots=True)
class Plan:
    moves: list[Move] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    # Of all rows.
    adapters: Selection = ()
    evictions: int = 0
    # Rows of one sampled token each, and the prompt tokens of all other rows.
    decode_rows: int = 0
    prefill_tokens: int = 0
    # The tokens before each of the prompt tokens, summed up.
    prefill_depth: float = 0.0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    prefix_reusable_tokens: int = 0
    waiting_for_prefix: int = 0
