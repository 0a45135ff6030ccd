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
_FEW = 1024
# Within a string nearly every byte is allowed: then there is nothing to be saved.
_MANY_BYTES = 40
_FURTHEST = 4
_NO_BYTE = 256


class Branches(NamedTuple):
    """Tokens by their next byte, and those that are asked about themselves: they end here, or
    their next byte is no token."""

    by_byte: dict[int, Ids]
    others: Ids


class PrefixTable:
    """The tokens of a vocabulary by their bytes."""

    def __init__(self, vocab: Any) -> None:
        pieces = _pieces(vocab)
        self._all = np.arange(len(pieces), dtype=np.int32)
        alone = {piece[0]: token for token, piece in enumerate(pieces) if len(piece) == 1}
        self._bytes = np.array(list(alone), np.int16)
        self._byte_tokens = np.array(list(alone.values()), np.int32)
        self._is_token = np.zeros(_NO_BYTE + 1, bool)
        self._is_token[self._bytes] = True
        self._at = [
            np.array([p[depth] if len(p) > depth else _NO_BYTE for p in pieces], np.int16)
            for depth in range(_FURTHEST)
        ]
        # By the bytes before: a prefix that was asked about once is asked about again.
        self._branches: dict[bytes, Branches] = {}

    def allowed(self, grammar: Any) -> Ids | None:
        """The tokens that `grammar` allows now, None where it is quicker to ask about them all."""
        return self._allowed(grammar, grammar, self._all, b"")

    def _allowed(self, grammar: Any, ahead: Any, tokens: Ids, prefix: bytes) -> Ids | None:
        """Those of `tokens` that are allowed. All begin with `prefix`, which leads to `ahead`."""
        opened = allowed_among(ahead, self._byte_tokens)
        if len(opened) > _MANY_BYTES:
            return None
        branches = self._branches.get(prefix)
        if branches is None:
            branches = self._branches[prefix] = self._divided(tokens, len(prefix))
        some = [branches.others]
        found: list[Ids] = []
        bytes_opened = self._bytes[opened].tolist()
        for byte, byte_token in zip(bytes_opened, self._byte_tokens[opened], strict=True):
            below = branches.by_byte.get(byte)
            if below is None:
                continue
            if len(below) <= _FEW or len(prefix) + 1 == _FURTHEST:
                some.append(below)
                continue
            further = llama.llama_sampler_clone(ahead)
            try:
                llama.llama_sampler_accept(further, byte_token)
                deeper = self._allowed(grammar, further, below, prefix + bytes((byte,)))
            finally:
                llama.llama_sampler_free(further)
            if deeper is None:
                return None
            found.append(deeper)
        rest = np.concatenate(some)
        return np.concatenate([rest[allowed_among(grammar, rest)], *found])

    def _divided(self, tokens: Ids, depth: int) -> Branches:
        codes = self._at[depth][tokens]
        ordered = np.argsort(codes, kind="stable")
        bytes_found, starts = np.unique(codes[ordered], return_index=True)
        groups = np.split(tokens[ordered], starts[1:])
        pairs = list(zip(bytes_found.tolist(), groups, strict=True))
        others = [group for byte, group in pairs if not self._is_token[byte]]
        return Branches(
            {byte: group for byte, group in pairs if self._is_token[byte]},
            np.concatenate([np.empty(0, np.int32), *others]),
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


def allowed_among(grammar: Any, tokens: Ids) -> npt.NDArray[np.intp]:
    """Where in `tokens` those are that `grammar` allows."""
    data = np.ones(len(tokens), TOKEN_DATA)
    data["id"] = tokens
    pointer = data.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
    array = llama.llama_token_data_array(pointer, len(tokens), -1, False)
    llama.llama_sampler_apply(grammar, ctypes.byref(array))
    return np.flatnonzero(data["logit"] > -np.inf)
