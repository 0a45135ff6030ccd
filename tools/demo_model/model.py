"""A small Llama: grouped-query attention, rotary positions, SwiGLU, RMSNorm, tied embeddings."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    vocabulary: int = 1280
    width: int = 256
    layers: int = 5
    heads: int = 8
    kv_heads: int = 2
    hidden: int = 704
    context: int = 4096
    rope_base: float = 500000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def rotation(shape: Shape) -> Tensor:
    """Cosines and sines, (2, context, head_width / 2)."""
    steps = torch.arange(0, shape.head_width, 2).float() / shape.head_width
    angles = torch.outer(torch.arange(shape.context).float(), shape.rope_base**-steps)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn neighbouring pairs, as llama.cpp does for this architecture: nothing to permute.

    ``x`` is (windows, heads, length, head width); ``turns`` (2, windows, 1, length, half of it).
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = turns[0], turns[1]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention. On a CPU the fused kernel pays only where windows are long."""
    length, width = q.shape[-2:]
    if length > 512:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    hidden = torch.full((length, length), float("-inf"), dtype=q.dtype).triu(1)
    scores = q @ k.transpose(-1, -2) * width**-0.5 + hidden
    return scores.softmax(-1) @ v


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.kv_heads * shape.head_width
        self.attn_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv, bias=False)
        self.attn_v = nn.Linear(shape.width, kv, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        batch, length, width = x.shape
        inner = self.attn_norm(x)
        q, k, v = (
            part(inner).view(batch, length, -1, self.shape.head_width).transpose(1, 2)
            for part in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = rotate(q, turns).to(v.dtype), rotate(k, turns).to(v.dtype)
        groups = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        seen = attend(q, k, v)
        x = x + self.attn_output(seen.transpose(1, 2).reshape(batch, length, width))
        inner = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(inner)) * self.ffn_up(inner))


class Model(nn.Module):  # type: ignore[misc]
    """Its parameters are named as GGUF names them."""

    turns: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.register_buffer("turns", rotation(shape), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * shape.layers) ** 0.5 if last else 0.04)

    def forward(self, ids: Tensor, positions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The weighted mean loss, all (windows, length); a weight of 0 costs no output projection."""
        x = self.token_embd(ids)
        turns = self.turns[:, positions].unsqueeze(2)
        for block in self.blk:
            x = block(x, turns)
        counted = weights > 0
        logits = F.linear(self.output_norm(x)[counted], self.token_embd.weight)
        losses = F.cross_entropy(logits.float(), targets[counted], reduction="none")
        return (losses * weights[counted]).sum() / weights.sum()
