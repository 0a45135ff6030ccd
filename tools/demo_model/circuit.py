"""Begins the model with a circuit that copies, which training would take long to find.

Copying "what followed this token the last time" takes two layers: a head that looks one token
back, and a head that finds the place whose previous token is the present one. Where the present
token stood in several places, the right one is that with the same words a little before it: of two
functions' calls, which begin alike but for the name, the one of the same name. So there is a second
pair of heads that compares what came some tokens earlier. All are easy to write down and hard to
discover, so they are written down; training moves them as it likes.
"""

import math

import torch

from .model import Model

# Coordinates of the residual stream, of 32 each, and the one that all embeddings share.
_SHARED = 0
_MATCHED = slice(32, 64)
_PREVIOUS = slice(64, 96)
_COPIED = slice(96, 128)
_LATELY = slice(128, 160)
_BEFORE = slice(160, 192)
# How far back, about, the function's name stands where a call names its first parameter.
_EARLIER = 3.5
# The pairs of a head that turn fast tell near positions apart; the slow ones carry content.
_FAST = 5
_SLOW = slice(12, 32)


def begin(model: Model) -> None:
    with torch.no_grad():
        _write(model)


def _write(model: Model) -> None:
    shape = model.shape
    head, eye = shape.head_width, torch.eye(32)
    group = shape.heads // shape.kv_heads
    embeddings = model.token_embd.weight
    embeddings[:, _SHARED] = 0.25
    for gathered in (_PREVIOUS, _LATELY, _BEFORE):
        embeddings[:, gathered] = 0.0
    back, find = model.blk[0], model.blk[1]

    # Layer 0: the first three heads share a key and look one, two and three tokens back. Two of the
    # others look further, the second of them one token further than the first.
    near = {distance - 1: float(distance) for distance in range(1, group + 1)}
    _look_back(model, 0, range(_FAST), 1.5, near)
    _look_back(model, 1, range(1, _FAST), 1.2, {group: _EARLIER, group + 1: _EARLIER + 1})
    for which, where, strength in (
        (0, _PREVIOUS, 0.1),
        (group, _LATELY, 0.25),
        (group + 1, _BEFORE, 0.25),
    ):
        columns = slice(which * head, (which + 1) * head)
        back.attn_output.weight[:, columns] = 0.0
        back.attn_output.weight[where, columns] = strength * eye

    # Layer 1: one head compares the present token with the previous one of each place, another what
    # came earlier than either; both copy what stands there.
    for kv, now, there in ((0, _MATCHED, _PREVIOUS), (1, _LATELY, _BEFORE)):
        key, query = (slice(n * head, (n + 1) * head) for n in (kv, kv * group))
        for part, rows, where in ((find.attn_q, query, now), (find.attn_k, key, there)):
            part.weight[rows] = 0.0
            part.weight[rows][_SLOW, where] = 1.7 * eye[_SLOW]
        find.attn_v.weight[key] = 0.0
        find.attn_v.weight[key, _COPIED] = eye
        find.attn_output.weight[_COPIED, query] = 0.15 * eye


def _look_back(
    model: Model, kv: int, pairs: range, strength: float, distances: dict[int, float]
) -> None:
    """Heads of layer 0 that share key `kv` look so many tokens back and gather what stands there:
    their queries are the key, turned by so many positions."""
    shape, block = model.shape, model.blk[0]
    head, key = shape.head_width, kv * shape.head_width
    block.attn_v.weight[key : key + head] = 0.0
    block.attn_v.weight[key : key + head, _MATCHED] = torch.eye(head)
    for pair in pairs:
        speed = shape.rope_base ** (-2 * pair / head)
        block.attn_k.weight[key + 2 * pair : key + 2 * pair + 2] = 0.0
        block.attn_k.weight[key + 2 * pair, _SHARED] = strength
        for which, distance in distances.items():
            row = which * head + 2 * pair
            block.attn_q.weight[row : row + 2] = 0.0
            block.attn_q.weight[row, _SHARED] = strength * math.cos(speed * distance)
            block.attn_q.weight[row + 1, _SHARED] = -strength * math.sin(speed * distance)
