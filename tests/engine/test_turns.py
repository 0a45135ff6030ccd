"""Engines on the same processors take turns, and none waits for one that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from service.engine.turns import PATIENCE_SECONDS, TURN_SECONDS, Turns, shared


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Lock:
    """Two engines' turn, on one clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.holder: str | None = None

    def turns(self, name: str) -> Turns:
        def attempt() -> bool:
            if self.holder in (None, name):
                self.holder = name
                return True
            return False

        def release() -> None:
            self.holder = None

        return Turns(attempt, release, self.clock, self.clock.sleep)


def test_a_long_step_is_a_turn() -> None:
    clock = Clock()
    lock = Lock(clock)
    turns = lock.turns("a")
    turns.take()
    assert lock.holder == "a"
    clock.now += TURN_SECONDS
    turns.step_done()
    assert lock.holder is None


def test_short_steps_share_a_turn() -> None:
    clock = Clock()
    lock = Lock(clock)
    turns = lock.turns("a")
    steps = 0
    while True:
        turns.take()
        clock.now += TURN_SECONDS / 4
        turns.step_done()
        steps += 1
        if lock.holder is None:
            break
    assert steps == 4


def test_who_runs_out_of_work_passes_the_turn_on() -> None:
    lock = Lock(Clock())
    turns = lock.turns("a")
    turns.take()
    turns.pass_on()
    turns.pass_on()
    assert lock.holder is None


def test_patience_ends_and_the_step_is_made_beside_the_other() -> None:
    clock = Clock()
    lock = Lock(clock)
    lock.turns("hangs").take()
    other = lock.turns("other")
    other.take()
    assert PATIENCE_SECONDS <= clock.now < PATIENCE_SECONDS + 0.01
    other.step_done()
    other.pass_on()
    assert lock.holder == "hangs", "what it never had it does not give back"


HOLDER = """
import sys, time
from service.engine.turns import shared
turns = shared(int(sys.argv[1]))
turns.take()
print("mine", flush=True)
time.sleep(60)
"""


def test_the_turn_of_a_process_that_dies_goes_to_the_next() -> None:
    fd = os.memfd_create("turns")
    command = [sys.executable, "-c", HOLDER, str(fd)]
    holder = subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"mine\n"
        waited = time.monotonic()
        shared(fd).take()
        assert time.monotonic() - waited >= PATIENCE_SECONDS
        holder.kill()
        holder.wait()
        assert shared(fd)._attempt(), "the kernel gave it back"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        os.close(fd)
