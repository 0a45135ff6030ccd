"""`python -m tests.fake_engine --fd N`: an engine without a model, that does as it is told.

It speaks the real protocol. The "model file" is a `Script` in JSON, or a list of them: one for
each life, the last one for all further lives. A prompt that contains a JSON object overrides
fields of it for that request, so that one request can be the one that kills the engine.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec
from msgspec import Struct

from service.engine import wire
from service.events import (
    Embedding,
    Finished,
    FinishReason,
    PromptLogprobs,
    Timings,
    TokenEvent,
    Usage,
)
from service.facts import ModelFacts
from service.generation import Text
from service.stats import StepStats

_PR_SET_PDEATHSIG = 1


class Script(Struct, frozen=True):
    """`delay` and `load_seconds` in seconds. A fault happens before the token of that number."""

    load: Literal["ready", "refuse", "crash", "hang"] = "ready"
    load_seconds: float = 0.0
    refuse: Literal["not_found", "out_of_memory", "bad_file", "unsupported"] = "bad_file"
    slots: int | None = None
    # Where it is not told how much; and what it was trained for, if that is more.
    n_ctx_seq: int = 4096
    n_ctx_train: int = 0
    # Tokens of context, of all sequences, for which it has no memory any more.
    no_memory_for: int | None = None
    chat_template: str | None = None
    tokens: int = 8
    pieces: tuple[str, ...] = ()
    delay: float = 0.0
    prefill_steps: int = 1
    crash_at: int | None = None
    exit_at: int | None = None
    freeze_at: int | None = None
    hang_at: int | None = None
    # So many signs of life, `delay` apart, before the first token.
    signs: int = 0
    garbage_at: int | None = None
    fatal_at: int | None = None
    stderr: str = ""
    # False: an embedding is admitted and never made.
    embeds: bool = True


@dataclass
class Sequence:
    request: int
    index: int
    prompt_tokens: int
    script: Script
    queued: float
    prefilled: int = 0
    sampled: int = 0
    scheduled: float | None = None
    first: float | None = None
    last: float | None = None
    cancelled: bool = False

    @property
    def length(self) -> int:
        return len(self.script.pieces) or self.script.tokens

    def finished(self, reason: FinishReason) -> Finished:
        times = Timings(self.queued, self.scheduled, self.first, self.last, time.monotonic())
        usage = Usage(self.prompt_tokens, generation_tokens=self.sampled)
        return Finished(self.index, reason, usage, times, seed=0)


Output = tuple[int, TokenEvent | PromptLogprobs | Embedding | Finished]


@dataclass
class FakeEngine:
    connection: socket.socket
    script: Script
    slots: int
    waiting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    steps: int = 0

    def send(self, report: wire.Report) -> None:
        self.connection.sendall(wire.encode(report))

    def read(self, decoder: wire.FrameDecoder[wire.Command], commands: list[wire.Command]) -> None:
        while True:
            with self.changed:
                for command in commands:
                    if isinstance(command, wire.Submit):
                        self.admit(command)
                    elif isinstance(command, wire.Embed):
                        self.embed(command)
                    elif isinstance(command, wire.Tokenize):
                        self.tokenize(command)
                    elif isinstance(command, wire.Detokenize):
                        text = " ".join(map(str, command.tokens)).encode()
                        self.send(wire.Detokenized(command.id, text))
                    elif isinstance(command, wire.SetThreads):
                        self.send(wire.ThreadsSet(command.threads or 1))
                    elif isinstance(command, wire.Cancel):
                        self.cancel(command.id)
                self.changed.notify()
            data = self.connection.recv(1 << 16)
            if not data:
                os._exit(0)
            commands = decoder.feed(data)

    def embed(self, command: wire.Embed) -> None:
        """At once, and in one step: the vector of a text is how many words it has."""
        sizes = [len(t.prompt.split()) if isinstance(t, Text) else 1 for t in command.inputs]
        self.send(wire.Admitted(command.id, sum(sizes)))
        if not self.script.embeds:
            return
        now = time.monotonic()
        outputs: list[Output] = [
            (command.id, Embedding(index, struct.pack("<f", size), size))
            for index, size in enumerate(sizes)
        ]
        times = Timings(now, now, now, now, now)
        end = Finished(0, FinishReason.STOP, Usage(sum(sizes)), times)
        self.steps += 1
        stats = StepStats(self.steps, "prefill", 0.0, 0.0, sum(sizes), 0, 0, 0, 0)
        self.send(wire.Step(stats, [*outputs, (command.id, end)]))

    def tokenize(self, question: wire.Tokenize) -> None:
        """A token is a word, and its id the word's length."""
        words = question.text.prompt.split()
        pieces = [word.encode() for word in words]
        self.send(wire.Tokenized(question.id, [len(word) for word in words], pieces))

    def admit(self, submit: wire.Submit) -> None:
        script, words = self.script, 0
        if isinstance(submit.prompt, Text):
            words = len(submit.prompt.prompt.split())
            if override := re.search(r"\{.*\}", submit.prompt.prompt, re.DOTALL):
                script = overridden(script, json.loads(override[0]))
        if words > script.n_ctx_seq:
            limit = (words, script.n_ctx_seq)
            self.send(wire.Refused(submit.id, "too long", "messages", overflow=limit))
            return
        for index in range(submit.n):
            now = time.monotonic()
            self.waiting.append(Sequence(submit.id, index, words, script, now))
        self.send(wire.Admitted(submit.id, words))

    def cancel(self, request: int) -> None:
        for sequence in [*self.waiting, *self.running]:
            sequence.cancelled = sequence.cancelled or sequence.request == request

    def run(self) -> NoReturn:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.running)
                self.step()
            time.sleep(self.script.delay)

    def step(self) -> None:
        began = time.monotonic()
        outputs: list[Output] = [
            (sequence.request, sequence.finished(FinishReason.CANCELLED))
            for sequence in [*self.waiting, *self.running]
            if sequence.cancelled
        ]
        self.waiting = [s for s in self.waiting if not s.cancelled]
        self.running = [s for s in self.running if not s.cancelled]
        while self.waiting and len(self.running) < self.slots:
            sequence = self.waiting.pop(0)
            sequence.scheduled = began
            self.running.append(sequence)
        progress = []
        for sequence in list(self.running):
            if sequence.prefilled < sequence.script.prefill_steps:
                sequence.prefilled += 1
                progress.append((sequence.request, sequence.prompt_tokens))
            else:
                self.sample(sequence, outputs)
        self.steps += 1
        stats = StepStats(
            number=self.steps,
            phase="decode" if self.running else "idle",
            decode_seconds=time.monotonic() - began,
            overhead_seconds=0.0,
            prefill_tokens=0,
            decode_tokens=len(self.running),
            running=len(self.running),
            waiting=len(self.waiting),
            kv_tokens=sum(s.prompt_tokens + s.sampled for s in self.running),
            prefill_progress=tuple(progress),
        )
        self.send(wire.Step(stats, outputs))

    def sample(self, sequence: Sequence, outputs: list[Output]) -> None:
        if not sequence.sampled:
            self.compute_long(sequence)
        self.go_wrong(sequence)
        sequence.last = time.monotonic()
        sequence.first = sequence.first or sequence.last
        pieces = sequence.script.pieces
        text = pieces[sequence.sampled] if pieces else f"t{sequence.sampled} "
        sequence.sampled += 1
        outputs.append((sequence.request, TokenEvent(sequence.index, text, 1, sequence.sampled)))
        if sequence.sampled == sequence.length:
            self.running.remove(sequence)
            outputs.append((sequence.request, sequence.finished(FinishReason.STOP)))

    def compute_long(self, sequence: Sequence) -> None:
        for _ in range(sequence.script.signs):
            time.sleep(sequence.script.delay)
            self.send(wire.Computing((sequence.request,)))

    def go_wrong(self, sequence: Sequence) -> None:
        script, at = sequence.script, sequence.sampled
        if at in (script.crash_at, script.exit_at) and script.stderr:
            sys.stderr.write(script.stderr)
            sys.stderr.flush()
        if at == script.crash_at:
            os.abort()
        if at == script.exit_at:
            os._exit(3)
        if at == script.freeze_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        if at == script.garbage_at:
            self.connection.sendall(b"\xff" * 64)
        if at == script.fatal_at:
            self.send(wire.Fatal("as told"))
            os._exit(1)
        if at == script.hang_at:
            # The reading thread goes on admitting: only the steps have stopped.
            self.changed.release()
            time.sleep(3600)


def overridden(script: Script, changes: dict[str, Any]) -> Script:
    return msgspec.convert({**msgspec.structs.asdict(script), **changes}, Script)


def this_life(path: Path) -> Script:
    lives = path.with_suffix(".lives")
    with lives.open("ab") as file:
        file.write(b".")
    scripts = json.loads(path.read_text())
    if isinstance(scripts, dict):
        scripts = [scripts]
    return msgspec.convert(scripts[min(lives.stat().st_size, len(scripts)) - 1], Script)


def facts(script: Script, params: wire.EngineParams, slots: int) -> ModelFacts:
    return ModelFacts(
        architecture="fake",
        description="fake",
        n_ctx=script.n_ctx_seq * slots,
        n_ctx_seq=script.n_ctx_seq,
        n_ctx_train=max(script.n_ctx_train, script.n_ctx_seq),
        n_seq=slots,
        n_batch=params.n_batch,
        n_vocab=256,
        n_embd=1,
        n_layer=1,
        n_params=1,
        size_bytes=1,
        kv_layout="split",
        threads=params.threads or 1,
        bos="",
        eos="",
        eog_tokens=(0,),
        chat_template=script.chat_template,
        can_rollback=True,
        gpu_offload=False,
        engine_version="fake",
        load_seconds=script.load_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int)
    connection = socket.socket(fileno=parser.parse_args().fd)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    decoder: wire.FrameDecoder[wire.Command] = wire.FrameDecoder(wire.Command)
    commands: list[wire.Command] = []
    while not commands:
        data = connection.recv(1 << 16)
        if not data:
            return
        commands = decoder.feed(data)
    load = commands.pop(0)
    assert isinstance(load, wire.Load)
    script = this_life(Path(load.params.path))
    if load.params.n_ctx is not None:
        # What it serves with, then, is what it was told.
        script = msgspec.structs.replace(script, n_ctx_seq=load.params.n_ctx // load.params.n_seq)
    connection.sendall(wire.encode(wire.LoadProgress(0.5)))
    time.sleep(script.load_seconds)
    if script.load == "crash":
        sys.stderr.write(script.stderr)
        sys.stderr.flush()
        os.abort()
    if script.load == "hang":
        time.sleep(3600)
    if script.no_memory_for is not None and (load.params.n_ctx or 0) >= script.no_memory_for:
        connection.sendall(wire.encode(wire.LoadFailed("out_of_memory", "as told")))
        return
    if script.load == "refuse":
        connection.sendall(wire.encode(wire.LoadFailed(script.refuse, "as told")))
        return
    slots = script.slots or load.params.n_seq
    connection.sendall(wire.encode(wire.Ready(os.getpid(), facts(script, load.params, slots))))
    engine = FakeEngine(connection, script, slots)
    threading.Thread(target=engine.read, args=(decoder, commands), daemon=True).start()
    engine.run()


if __name__ == "__main__":
    main()
