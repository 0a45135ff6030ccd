"""A model without weights: the next token is a hash of all tokens before it.

So any mistake about what a slot holds (a wrong prefix, a lost cell, a swapped neighbour) changes
the answer. It refuses what llama.cpp would abort on.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from service.engine.batch import Batch
from service.engine.engine import Engine
from service.engine.model import Ids
from service.engine.wire import EngineParams, Report, Step, Submit
from service.events import Embedding, Finished, Logprob, PromptLogprobs, TokenEvent, TokenLogprobs
from service.facts import AdapterFacts, ModelFacts
from service.generation import Grammar, SamplingParams, Selection, Tokens

EOG = 0
N_VOCAB = 256
LAYOUTS = ["split", "unified"]
# A prompt that others begin with, too.
SHARED = list(range(1, 101))


def next_token(tokens: list[int], adapters: Selection = ()) -> int:
    """Never EOG by itself: answers end by their budget unless a test says otherwise."""
    begin = zlib.crc32(repr(adapters).encode()) if adapters else 0
    return 1 + zlib.crc32(bytes(tokens), begin) % (N_VOCAB - 1)


def answer(prompt: list[int], length: int, adapters: Selection = ()) -> list[int]:
    """What a sequence alone on the model would generate."""
    tokens = list(prompt)
    for _ in range(length):
        tokens.append(next_token(tokens, adapters))
    return tokens[len(prompt) :]


class FakeSampler:
    def __init__(self, model: FakeModel) -> None:
        self._model = model
        self.seed: int | None = 7
        self.end_allowed = False
        self.freed = 0

    def sample(self, row: int) -> int:
        return self._model.chosen(row)

    def allow_end(self) -> None:
        self.end_allowed = True

    def free(self) -> None:
        self.freed += 1


class FakeModel:
    """`slots[i]` are slot i's cells, as (number, token): shared cells have the same number.

    A cell belongs to the adapters that it was computed with, and serves with no others. With a
    `window`, what a slot's next token does not see is gone at once: `first[i]` is the first position
    of slot i that is left. llama.cpp takes such cells when it needs them, sooner or later.
    """

    def __init__(
        self,
        n_seq: int = 4,
        n_ctx: int = 1024,
        layout: str = "split",
        *,
        can_rollback: bool = True,
        n_batch: int = 512,
        adapters: int = 0,
        window: int = 0,
    ) -> None:
        split = layout == "split"
        self.facts = ModelFacts(
            architecture="fake",
            description="fake",
            n_ctx=n_ctx,
            n_ctx_seq=n_ctx // n_seq if split else n_ctx,
            n_ctx_train=n_ctx,
            n_seq=n_seq,
            n_batch=n_batch,
            n_vocab=N_VOCAB,
            n_embd=1,
            n_layer=1,
            n_params=0,
            size_bytes=0,
            kv_layout="split" if split else "unified",
            threads=1,
            bos="",
            eos="",
            eog_tokens=(EOG,),
            chat_template=None,
            can_rollback=can_rollback,
            gpu_offload=False,
            engine_version="fake",
            load_seconds=0.0,
            n_embed_input=64,
            adapters=tuple(AdapterFacts(f"adapter-{number}") for number in range(adapters)),
            window=window,
        )
        self.embed_inputs = 4
        self.embedded: list[list[list[int]]] = []
        self.embedding_fails = False
        # Of the input that is being computed in parts.
        self.begun: list[int] = []
        # Seconds for a token of an input, on a clock of its own that stands still otherwise.
        self.token_seconds = 0.0
        self.now = 0.0
        # That compute at the same time, as it was told.
        self.engines = 1
        self.slots: list[list[tuple[int, int]]] = [[] for _ in range(n_seq)]
        self.first = [0] * n_seq
        # Slots with a copy of more than was wanted: of a model that cannot be cut back.
        self.too_much: set[int] = set()
        self.computed_tokens = 0
        self.decodes = 0
        self.gaps: list[int] = []
        self.next_of: Callable[[list[int]], int] = lambda tokens: next_token(tokens, self._adapters)
        # Of each step that was computed.
        self.applied: list[Selection] = []
        self._adapters: Selection = ()
        self._computed_with: dict[int, Selection] = {}
        self.pieces: dict[int, bytes] = {}
        # What the tokenizer puts before a text and after it.
        self.marks: tuple[list[int], list[int]] = ([], [])
        self.samplers: list[FakeSampler] = []
        self._cells = 0
        self._contents: dict[int, list[int]] = {}
        self._outputs: set[int] = set()

    def tokenize(self, text: str, *, add_special: bool) -> Ids:
        before, after = self.marks if add_special else ([], [])
        return np.array([*before, *text.encode(), *after], np.int32)

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return self.pieces.get(token, b"<%d>" % token)

    def is_eog(self, token: int) -> bool:
        return token == EOG

    def sampler(
        self, sampling: SamplingParams, grammar: Grammar | None, prompt: Ids, index: int
    ) -> FakeSampler:
        sampler = FakeSampler(self)
        self.samplers.append(sampler)
        return sampler

    def decode(self, batch: Batch) -> bool:
        slots = batch.slots[: batch.size].tolist()
        if self.facts.kv_layout == "split":
            assert slots == sorted(slots), "rows of a split batch stand in slot order"
            self.gaps.append(slots[-1] - slots[0] + 1 - len(set(slots)))
        elif self._used() + batch.size > self.facts.n_ctx:
            return False
        assert 0 < batch.size <= self.facts.n_batch
        self._contents.clear()
        self._outputs.clear()
        self._adapters = batch.adapters
        self.applied.append(batch.adapters)
        for row in range(batch.size):
            cells = self.slots[slots[row]]
            assert batch.positions[row] == len(cells), "positions go on where the slot ends"
            assert len(cells) < self.facts.n_ctx_seq
            assert slots[row] not in self.too_much
            self._look_back(slots[row])
            self._cells += 1
            self._computed_with[self._cells] = batch.adapters
            cells.append((self._cells, int(batch.tokens[row])))
            assert {self._computed_with[abs(number)] for number, _ in cells} == {batch.adapters}
            if batch.outputs[row]:
                self._contents[row] = [token for _, token in cells]
        self.computed_tokens += batch.size
        self.decodes += 1
        return True

    def embed(
        self,
        inputs: list[Ids],
        adapters: Selection = (),
        start: int = 0,
        alive: Callable[[], None] | None = None,
    ) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        """The vector of an input is (its sum, its length), with adapters each of them more by 1000
        times their scales."""
        if self.embedding_fails:
            raise RuntimeError("no memory")
        assert 0 < len(inputs) <= self.embed_inputs
        assert sum(map(len, inputs)) <= self.facts.n_embed_input
        self.embedded.append([ids.tolist() for ids in inputs])
        for _ in range(sum(map(len, inputs))):
            self.now += self.token_seconds
            if alive is not None:
                alive()
        if start:
            assert (len(inputs), start) == (1, len(self.begun)), "the input goes on where it was"
            inputs = [np.array([*self.begun, *inputs[0].tolist()], np.int32)]
        self.begun = inputs[0].tolist()
        more = 1000 * sum(scale for _, scale in adapters)
        return [np.array([ids.sum() + more, len(ids) + more], np.float32) for ids in inputs]

    def chosen(self, row: int) -> int:
        return self.next_of(self._contents[row])

    def set_threads(self, threads: int | None, engines: int = 1) -> int:
        self.engines = engines
        self.facts = msgspec.structs.replace(self.facts, threads=threads or 1)
        return self.facts.threads

    def logprobs(self, row: int, token: int, top: int) -> TokenLogprobs:
        assert row in self._contents, "logits of a row that did not ask for them"
        chosen = Logprob(token, self.piece(token), -1.0)
        return TokenLogprobs(chosen, (chosen,) * top)

    def held_from(self, slot: int) -> int:
        return self.first[slot]

    def forget(self, slot: int, start: int) -> None:
        assert self.facts.can_rollback or start == 0
        self.too_much.discard(slot)
        del self.slots[slot][start:]
        self.first[slot] *= start > 0

    def copy(self, source: int, target: int, length: int) -> None:
        assert length <= len(self.slots[source])
        if not self.facts.can_rollback and length < len(self.slots[source]):
            self.too_much.add(target)
        self.slots[target] = self.slots[source][:length]
        self.first[target] = self.first[source]
        if self.facts.kv_layout == "split":
            self.slots[target] = [(-number, token) for number, token in self.slots[target]]

    def state(self, slot: int) -> tuple[list[int], int]:
        assert not self.facts.can_rollback
        return [token for _, token in self.slots[slot]], self.first[slot]

    def restore(self, slot: int, state: tuple[list[int], int], length: int) -> None:
        tokens, self.first[slot] = state
        assert [token for _, token in self.slots[slot]][:length] == tokens
        assert len(tokens) == length
        self.too_much.discard(slot)
        del self.slots[slot][length:]

    def swap(self, a: int, b: int) -> None:
        assert not self.facts.window, "only what the next token sees would arrive"
        self.slots[a], self.slots[b] = self.slots[b], self.slots[a]

    def _look_back(self, slot: int) -> None:
        position, window = len(self.slots[slot]), self.facts.window
        if window:
            seen_from = max(0, position - window + 1)
            assert 0 <= self.first[slot] <= seen_from, "cells that the next token sees are there"
            self.first[slot] = max(0, position - window + 2)

    def _used(self) -> int:
        return len({number for cells in self.slots for number, _ in cells})


class Bench:
    """An engine on a fake model, stepped by hand. `texts`, `ids` and `ends` are what it sent."""

    def __init__(
        self, model: FakeModel, clock: Callable[[], float] = time.monotonic, **params: Any
    ) -> None:
        self.model = model
        self.reports: list[Report] = []
        defaults = EngineParams(path="", n_seq=model.facts.n_seq, n_batch=512, n_ubatch=64)
        loaded = msgspec.structs.replace(defaults, **params)
        self.engine = Engine(model, loaded, self.reports.append, clock)

    def submit(
        self,
        id: int,
        prompt: list[int],
        sampling: SamplingParams | None = None,
        n: int = 1,
        **more: Any,
    ) -> None:
        sampling = sampling or SamplingParams(max_tokens=8)
        self.engine.admit(Submit(id, Tokens(tuple(prompt)), sampling, n, **more))

    def steps(self) -> list[Step]:
        return [report for report in self.reports if isinstance(report, Step)]

    def outputs(self, id: int) -> list[TokenEvent | PromptLogprobs | Embedding | Finished]:
        return [event for step in self.steps() for request, event in step.outputs if request == id]

    def tokens(self, id: int, index: int = 0) -> list[int]:
        events = (e for e in self.outputs(id) if isinstance(e, TokenEvent) and e.index == index)
        return [int(word) for e in events for word in e.text.strip("<>").split("><") if word]

    def text(self, id: int) -> str:
        return "".join(e.text for e in self.outputs(id) if isinstance(e, TokenEvent))

    def end(self, id: int, index: int = 0) -> Finished:
        (end,) = [e for e in self.outputs(id) if isinstance(e, Finished) and e.index == index]
        return end

    def run(self, limit: int = 2000) -> None:
        """Step until nothing is left to do."""
        for _ in range(limit):
            self.engine.step()
            if self.engine.idle:
                return
        raise AssertionError("the engine did not come to rest")
