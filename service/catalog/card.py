"""A model on disk, described from its own header."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from service.facts import Pooling

Source = Literal["demo", "directory", "ollama", "hub"]


class ModelCard(Struct, frozen=True):
    """`name` is canonical (`name:tag`). What the file does not say is None, never a guess.

    `path` is what the engine loads: the first shard of a split model; `size_bytes` counts them
    all. `modified` is in Unix seconds. `aliases` are further names that mean this file.
    `problem` says why the model cannot be used; such a card is listed, and never loaded.
    """

    name: str
    path: str
    size_bytes: int
    modified: float
    source: Source
    architecture: str | None = None
    parameter_count: int | None = None
    quantization: str | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    block_count: int | None = None
    chat_template: str | None = None
    # None where the file does not say: "mean", "cls", "last" or "rank" of models made to embed.
    pooling: Pooling | None = None
    # False for encoders, which only embed.
    can_generate: bool = True
    digest: str | None = None
    aliases: tuple[str, ...] = ()
    problem: str | None = None
