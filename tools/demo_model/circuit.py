"""Begins the model with a circuit that copies, which training would take long to find.

Copying "what followed this token the last time" takes two layers: a head that looks one token
back, and a head that finds the place whose previous token is the present one. Both are easy to
write down and hard to discover, so they are written down; training moves them as it likes.
"""

import math

import torch

from .model import Model

# Coordinates of the residual stream, of 32 each, and the one that all embeddings share.
_SHARED = 0
_MATCHED = slice(32, 64)
_PREVIOUS = slice(64, 96)
_COPIED = slice(96, 128)
# The pairs of a head that turn fast tell near positions apart; the slow ones carry content.
_FAST = 5
_SLOW = slice(12, 32)


def begin(model: Model) -> None:
    with torch.no_grad():
        _write(model)


def _write(model: Model) -> None:
    shape = model.shape
    head, eye = shape.head_width, torch.eye(32)
    model.token_embd.weight[:, _SHARED] = 0.25
    model.token_embd.weight[:, _PREVIOUS] = 0.0
    back, find = model.blk[0], model.blk[1]

    # Layer 0: the first three heads share a key and look one, two and three tokens back, as
    # their queries are the key turned by so many positions.
    for pair in range(_FAST):
        speed = shape.rope_base ** (-2 * pair / head)
        back.attn_k.weight[2 * pair : 2 * pair + 2] = 0.0
        back.attn_k.weight[2 * pair, _SHARED] = 1.5
        for distance in range(1, shape.heads // shape.kv_heads + 1):
            row = (distance - 1) * head + 2 * pair
            back.attn_q.weight[row : row + 2] = 0.0
            back.attn_q.weight[row, _SHARED] = 1.5 * math.cos(speed * distance)
            back.attn_q.weight[row + 1, _SHARED] = -1.5 * math.sin(speed * distance)
    back.attn_v.weight[:head] = 0.0
    back.attn_v.weight[:head, _MATCHED] = eye
    back.attn_output.weight[_PREVIOUS, :head] = 0.1 * eye

    # Layer 1: the first head compares the present token with the previous one of each place,
    # and copies what stands there.
    for part, where in ((find.attn_q, _MATCHED), (find.attn_k, _PREVIOUS)):
        part.weight[:head] = 0.0
        part.weight[_SLOW, where] = 1.7 * eye[_SLOW]
    find.attn_v.weight[:head] = 0.0
    find.attn_v.weight[:head, _COPIED] = eye
    find.attn_output.weight[_COPIED, :head] = 0.15 * eye
