"""What crosses the socket between the service and an engine process, and how it is framed.

The socket is an inherited AF_UNIX pair: no port, nobody else can speak on it. A frame is four
bytes of length (little endian) and one msgpack value; msgspec checks every field on both sides.
Nothing is ever pickled: a frame can carry no code.

    service → engine    Load, then any of Submit, Embed, Cancel, Tokenize, Detokenize, SetThreads;
                        or Probe
    engine → service    LoadProgress*, then Ready or LoadFailed; or Probed or LoadFailed;
                        for each Submit and Embed: Admitted or Refused, once;
                        for each Tokenize: Tokenized, for each Detokenize: Detokenized, or Refused;
                        for each SetThreads: ThreadsSet, before its next step;
                        for each step: one Step, with the output of every sequence in it;
                        within a step, while one long computation goes on: Computing, now and then

The engine answers a Submit before it queues it, from its reading thread: a prompt that does not
fit is refused while the status line can still say so. A Cancel needs no answer; the sequences of
that request end with `Finished(reason=CANCELLED)` within a step, and a request id that is not
known is ignored, since the two ends may cross.
"""

from __future__ import annotations

import struct
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from service.events import Embedding, Finished, PromptLogprobs, TokenEvent
from service.facts import Adapter, KVLayout, ModelFacts, SplitMode
from service.generation import Grammar, SamplingParams, Selection, Text, Tokens, Truncation
from service.stats import StepStats

# What an engine needs before its libraries are loaded, whoever starts it.
ENVIRONMENT: Final = {
    # How often an OpenMP thread looks whether the others have come to a barrier, before it sleeps.
    # A step has hundreds of barriers, and a thread that sleeps at one has to be woken. Not for ever:
    # between two steps the service needs the processor. See docs/decisions/0034.
    "GOMP_SPINCOUNT": "20000",
    # abort() starts a debugger to print its stack, which takes seconds and tells the service
    # nothing: a dead engine should be dead at once.
    "GGML_NO_BACKTRACE": "1",
}
# A prompt of a million tokens as ids is 5 MB; more than this is a broken peer.
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024


class EngineParams(Struct, frozen=True):
    """How to load a model. None leaves the choice to the engine, which reports it in `Ready`.

    n_ctx is in tokens and shared by all sequences; tensor_split has one share for each GPU.
    n_batch bounds a step, and n_ubatch what of it is computed at a time. cell_bytes: what a token's
    keys and values take in all layers.
    """

    path: str
    n_ctx: int | None = None
    cell_bytes: int | None = None
    n_seq: int = 4
    n_batch: int = 512
    n_ubatch: int = 512
    threads: int | None = None
    threads_batch: int | None = None
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] = ()
    main_gpu: int | None = None
    split_mode: SplitMode | None = None
    kv_layout: KVLayout = "auto"
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"
    use_mmap: bool = True
    use_mlock: bool = False
    # Prompt tokens computed in one step while other sequences decode; None: see the scheduler.
    prefill_chunk: int | None = None
    # Prompts and their answers are kept as prefixes for later requests.
    prefix_cache: bool = True
    adapters: tuple[Adapter, ...] = ()


class Load(Struct, frozen=True, array_like=True, tag="load"):
    params: EngineParams


class Probe(Struct, frozen=True, array_like=True, tag="probe"):
    """Instead of Load: whether the model's files can be opened at all."""

    path: str


class Submit(Struct, frozen=True, array_like=True, tag="submit"):
    """`id` is the service's own number for the request, never reused on one socket."""

    id: int
    prompt: Text | Tokens
    sampling: SamplingParams
    n: int = 1
    grammar: Grammar | None = None
    truncation: Truncation | None = None
    cache_salt: str = ""
    priority: int = 0
    adapters: Selection = ()


class Embed(Struct, frozen=True, array_like=True, tag="embed"):
    """One vector for each input, and one Finished after the last; numbered as Submits are."""

    id: int
    inputs: tuple[Text | Tokens, ...]
    truncation: Truncation | None = None
    normalize: bool = True
    dimensions: int | None = None
    adapters: Selection = ()
    priority: int = 0


class Tokenize(Struct, frozen=True, array_like=True, tag="tokenize"):
    """Answered at once, from the vocabulary. `id` is of the same numbers as a Submit's."""

    id: int
    text: Text


class Detokenize(Struct, frozen=True, array_like=True, tag="detokenize"):
    id: int
    tokens: tuple[int, ...]


class Cancel(Struct, frozen=True, array_like=True, tag="cancel"):
    id: int


class SetThreads(Struct, frozen=True, array_like=True, tag="set_threads"):
    """From the next step on; None leaves their number to the engine. engines: that compute at the
    same time on the same processors, itself included; each takes its part of them at most."""

    threads: int | None
    engines: int = 1


Command = Load | Probe | Submit | Embed | Tokenize | Detokenize | Cancel | SetThreads


class LoadProgress(Struct, frozen=True, array_like=True, tag="progress"):
    fraction: float


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    pid: int
    facts: ModelFacts


class LoadFailed(Struct, frozen=True, array_like=True, tag="load_failed"):
    """`kind` is one of llm_model_load_failures_total's reasons."""

    kind: Literal["not_found", "out_of_memory", "bad_file", "unsupported"]
    message: str


class Probed(Struct, frozen=True, array_like=True, tag="probed"):
    """They can; the process ends."""


class Admitted(Struct, frozen=True, array_like=True, tag="admitted"):
    """`cut_tokens` were cut as `truncation` allows; `prompt` are the ids that are left, where
    they were asked for."""

    id: int
    prompt_tokens: int
    cut_tokens: int = 0
    prompt: tuple[int, ...] = ()


class Tokenized(Struct, frozen=True, array_like=True, tag="tokenized"):
    """`pieces` are the tokens' bytes; those of control tokens are their text."""

    id: int
    tokens: list[int]
    pieces: list[bytes]


class Detokenized(Struct, frozen=True, array_like=True, tag="detokenized"):
    id: int
    text: bytes


class ThreadsSet(Struct, frozen=True, array_like=True, tag="threads_set"):
    """So many compute from now on."""

    threads: int


class Refused(Struct, frozen=True, array_like=True, tag="refused"):
    """`overflow` is set for a prompt that does not fit: (prompt tokens, longest sequence)."""

    id: int
    message: str
    param: str | None = None
    overflow: tuple[int, int] | None = None


Output = tuple[int, TokenEvent | PromptLogprobs | Embedding | Finished]


class Step(Struct, frozen=True, array_like=True, tag="step"):
    """Everything one step brought, in order for each request: (request id, event)."""

    stats: StepStats
    outputs: list[Output]


class Computing(Struct, frozen=True, array_like=True, tag="computing"):
    """A sign of life from the middle of a step, which nothing can make shorter. `requests` are those
    that it computes for."""

    requests: tuple[int, ...]


class Fatal(Struct, frozen=True, array_like=True, tag="fatal"):
    """The engine cannot go on and exits; every request on it is lost."""

    message: str


Answer = Admitted | Refused | Tokenized | Detokenized
Report = LoadProgress | Ready | LoadFailed | Probed | Answer | ThreadsSet | Step | Computing | Fatal

_LENGTH = struct.Struct("<I")
T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class ProtocolError(Exception):
    """The peer sent something that is not a frame of this protocol."""


def encode(message: Command | Report) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class FrameDecoder(Generic[T]):
    """Bytes as they arrive → whole messages of one direction. `FrameDecoder(Report)`."""

    def __init__(self, messages: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(messages)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """Raises ProtocolError for a frame too long or not of the expected type."""
        buffer = self._buffer
        buffer += data
        messages: list[T] = []
        start = 0
        while len(buffer) - start >= 4:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"frame of {length} bytes")
            end = start + 4 + length
            if len(buffer) < end:
                break
            try:
                messages.append(self._decoder.decode(memoryview(buffer)[start + 4 : end]))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ProtocolError(str(error)) from error
            start = end
        if start:
            del buffer[:start]
        return messages
