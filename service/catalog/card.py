"""A model on disk, described from its own header and from what lies beside it."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from service.facts import Pooling

Source = Literal["demo", "directory", "ollama", "hub"]

# Why a model cannot be used, for programs to read: these words do not change.
Reason = Literal[
    # Whole, and not for this server:
    "incompatible: ollama-format",  # llama.cpp as it is does not load what Ollama's own can
    "unsupported-arch",  # newer, or other, than the llama.cpp here
    "safetensors",
    "cloud",
    # Broken, or no model at all:
    "bad-manifest",
    "bad-name",
    "missing-blob",
    "missing-shard",
    "corrupt",
    "no-weights",
    "not-a-model",
    "outside",  # a link that leads out of the directories that are served
    "unreadable",
]
UNSUITABLE: frozenset[Reason] = frozenset(
    {"incompatible: ollama-format", "unsupported-arch", "safetensors", "cloud"}
)


class Problem(Struct, frozen=True):
    """`text` completes "The model …", without a path."""

    reason: Reason
    text: str


class RopeScaling(Struct, frozen=True):
    """How positions are stretched. What the converter extended is in `context_length` already:
    nobody multiplies by the factor again."""

    type: str
    factor: float | None = None
    original_context_length: int | None = None
    finetuned: bool | None = None


class Said(Struct, frozen=True):
    """A message of the conversation that a Modelfile begins with."""

    role: str
    content: str = ""


class ModelCard(Struct, frozen=True):
    """`name` is canonical (`name:tag`). What the file does not say is None, never a guess.

    `path` is what the engine loads: the first shard of a split model; `size_bytes` counts them
    all, and of an Ollama model every layer. `modified` is in Unix seconds. `digest` is of an
    Ollama model's manifest, or of the file where its name tells it. `aliases` are further names
    that mean this file. `problem` says why the model cannot be used, `reason` says it in a word;
    such a card is listed, and never loaded.
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
    rope: RopeScaling | None = None
    # In tokens: how far back most layers look. It bounds their cache, not the context.
    sliding_window: int | None = None
    # Jinja, from the file itself.
    chat_template: str | None = None
    # What its makers advise to sample with, in the names of SamplingParams.
    sampling: dict[str, int | float] = field(default_factory=dict)
    # Ollama's, in Go's notation: shown, and not rendered.
    go_template: str | None = None
    # None where the file does not say: "mean", "cls", "last" or "rank" of models made to embed.
    pooling: Pooling | None = None
    # False for encoders, which only embed.
    can_generate: bool = True
    can_infill: bool = False
    sees: bool = False
    hears: bool = False
    digest: str | None = None
    aliases: tuple[str, ...] = ()
    problem: str | None = None
    reason: Reason | None = None

    # `path` without links, as the last scan found it: two names of one file share an engine by it.
    real: str = ""

    # Paths of what belongs to it
    shards: tuple[str, ...] = ()
    projector: str | None = None
    adapters: tuple[str, ...] = ()
    draft: str | None = None
    # Long texts, read when they are asked for.
    licenses: tuple[str, ...] = ()

    # What an Ollama manifest adds
    family: str | None = None
    families: tuple[str, ...] = ()
    # As its author rounded it: "8.0B".
    parameter_size: str | None = None
    parent: str | None = None
    requires: str | None = None
    renderer: str | None = None
    parser: str | None = None
    remote: str | None = None
    system: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: tuple[Said, ...] = ()

    @property
    def template_guessed(self) -> bool:
        """Chats are put to it as ChatML, for want of a template of its own."""
        return self.can_generate and not self.chat_template

    @property
    def weights(self) -> tuple[str, ...]:
        """The model itself: its shards in order, or the one file that it is."""
        return self.shards or (self.path,)

    @property
    def files(self) -> tuple[str, ...]:
        """All that a load would read."""
        extra = (self.projector, *self.adapters, self.draft)
        return (*self.weights, *(path for path in extra if path))


def human(count: int) -> str:
    """3212749888 → 3.2B, as Ollama rounds."""
    for unit, size, digits in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if count >= size:
            exact = count % size == 0
            return f"{count / size:.{0 if exact else digits}f}{unit}"
    return str(count)
