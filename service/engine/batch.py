"""One step's tokens, laid out as `llama_batch` wants them, in arrays that are filled in place.

The arrays are made once, of n_batch rows, and the `llama_batch` struct points into them: filling
512 rows is one slice assignment instead of 512 stores through ctypes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.generation import Selection


class Batch:
    """Rows 0 to `size`: token, position in its sequence, slot, and whether logits are wanted."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = np.zeros(capacity, np.int32)
        self.positions = np.zeros(capacity, np.int32)
        self.slots = np.zeros(capacity, np.int32)
        self.outputs = np.zeros(capacity, np.int8)
        self.size = 0
        # They hold for all rows.
        self.adapters: Selection = ()

    def clear(self, adapters: Selection = ()) -> None:
        self.size = 0
        self.adapters = adapters

    def add_token(self, token: int, position: int, slot: int) -> int:
        """One row whose logits are wanted: a decode. Returns its number."""
        row = self.size
        self.tokens[row] = token
        self.positions[row] = position
        self.slots[row] = slot
        self.outputs[row] = 1
        self.size = row + 1
        return row

    def add_prompt(
        self, tokens: NDArray[np.int32], position: int, slot: int, *, last: bool, every: bool
    ) -> int:
        """A run of rows of one sequence, with logits for the `last` or `every` one of them.

        Returns the number of its first row.
        """
        start, end = self.size, self.size + len(tokens)
        self.tokens[start:end] = tokens
        self.positions[start:end] = np.arange(position, position + len(tokens), dtype=np.int32)
        self.slots[start:end] = slot
        self.outputs[start:end] = every
        if last:
            self.outputs[end - 1] = 1
        self.size = end
        return start
