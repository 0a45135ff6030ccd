"""What a grammar allows next, without asking it about every token of the vocabulary.

llama.cpp's grammar is asked about whole tokens, at some microseconds each: tens of thousands of
them take longer than a decode. But where the first byte of a token is forbidden, so is the token,
and of each byte there is a token that is nothing else. So those are asked about first, and then
only tokens that begin with a byte that is allowed; where these are still too many (half of a
vocabulary begins with a space), a copy of the grammar goes one byte ahead, and so on.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]

TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
# So many are asked about as they are.
_FEW = 256
# Within a string nearly every byte is allowed: then there is nothing to be saved.
_MANY_BYTES = 40
_FURTHEST = 4
_NO_BYTE = 256


class TokenSet:
    """Tokens that are asked about together, laid out for it. One thread's: asking writes into it."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self._logits: npt.NDArray[np.float32] | None = None
        self._array: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def allowed(self, grammar: Any) -> npt.NDArray[np.intp]:
        """Where in `ids` those are that `grammar` allows."""
        if self._logits is None:
            # Most are never asked about: a vocabulary has thousands of prefixes.
            data = np.zeros(len(self.ids), TOKEN_DATA)
            data["id"] = self.ids
            self._logits = data["logit"]
            pointer = data.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
            self._array = llama.llama_token_data_array(pointer, len(data), -1, False)
        self._logits[:] = 0
        llama.llama_sampler_apply(grammar, ctypes.byref(self._array))
        # As flatnonzero, which takes longer to find out that there is nothing to flatten.
        allowed: npt.NDArray[np.intp] = (self._logits == 0).nonzero()[0]
        return allowed


class Branches(NamedTuple):
    """Tokens by their next byte: `groups[i]` go on with `codes[i]`, and `bytes[i]` is that byte's own
    token. `others` are asked about themselves: they end here, or their next byte is no token."""

    codes: list[int]
    bytes: TokenSet
    groups: list[TokenSet]
    others: TokenSet


class PrefixTable:
    """The tokens of a vocabulary by their bytes. Asked by one thread."""

    def __init__(self, vocab: Any) -> None:
        pieces = _pieces(vocab)
        self._all = TokenSet(np.arange(len(pieces), dtype=np.int32))
        self._alone = {piece[0]: token for token, piece in enumerate(pieces) if len(piece) == 1}
        self._at = [
            np.array([p[depth] if len(p) > depth else _NO_BYTE for p in pieces], np.int16)
            for depth in range(_FURTHEST)
        ]
        # By the bytes before: a prefix that was asked about once is asked about again.
        self._branches: dict[bytes, Branches] = {}

    def allowed(self, grammar: Any) -> Ids | None:
        """The tokens that `grammar` allows now, None where it is quicker to ask about them all."""
        found: list[Ids] = []
        if not self._find(found, grammar, grammar, self._all, b""):
            return None
        return np.concatenate([np.empty(0, np.int32), *found])

    def _find(
        self, found: list[Ids], grammar: Any, ahead: Any, tokens: TokenSet, prefix: bytes
    ) -> bool:
        """Puts those of `tokens` that are allowed into `found`, or says that it is not worth it. All
        begin with `prefix`, which leads to `ahead`."""
        branches = self._branches.get(prefix)
        if branches is None:
            branches = self._branches[prefix] = self._divided(tokens.ids, len(prefix))
        opened = branches.bytes.allowed(ahead).tolist()
        if len(opened) > _MANY_BYTES:
            return False
        some = [branches.others] if len(branches.others) else []
        for at in opened:
            below = branches.groups[at]
            if len(below) <= _FEW or len(prefix) + 1 == _FURTHEST:
                some.append(below)
                continue
            further = llama.llama_sampler_clone(ahead)
            try:
                llama.llama_sampler_accept(further, branches.bytes.ids[at])
                code = bytes((branches.codes[at],))
                if not self._find(found, grammar, further, below, prefix + code):
                    return False
            finally:
                llama.llama_sampler_free(further)
        found += (group.ids[group.allowed(grammar)] for group in some)
        return True

    def _divided(self, tokens: Ids, depth: int) -> Branches:
        codes = self._at[depth][tokens]
        ordered = np.argsort(codes, kind="stable")
        found, starts = np.unique(codes[ordered], return_index=True)
        groups = dict(zip(found.tolist(), np.split(tokens[ordered], starts[1:]), strict=True))
        known = [code for code in groups if code in self._alone]
        others = [group for code, group in groups.items() if code not in self._alone]
        return Branches(
            known,
            TokenSet(np.array([self._alone[code] for code in known], np.int32)),
            [TokenSet(groups[code]) for code in known],
            TokenSet(np.concatenate([np.empty(0, np.int32), *others])),
        )


def _pieces(vocab: Any) -> list[bytes]:
    """What the grammar reads of each token; nothing of one that ends an answer, whatever its text."""
    buffer = ctypes.create_string_buffer(1024)
    out = []
    for token in range(llama.llama_vocab_n_tokens(vocab)):
        size = llama.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, True)
        ends = llama.llama_vocab_is_eog(vocab, token)
        out.append(b"" if ends else buffer.raw[: max(size, 0)])
    return out
