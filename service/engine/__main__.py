"""`python -m service.engine --fd N`: one model in one process, at the end of a socket.

The process dies with its parent (the kernel's death signal, and the socket's end), and is what the
kernel should kill first when memory runs out: it can be started again, the service cannot.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from service.engine.channel import Channel, leave
from service.engine.engine import Engine
from service.engine.intake import detokenized, tokenized
from service.engine.wire import (
    ENVIRONMENT,
    Cancel,
    Command,
    Detokenize,
    Embed,
    Fatal,
    Load,
    LoadFailed,
    LoadProgress,
    Probe,
    Probed,
    Ready,
    SetThreads,
    Submit,
    Tokenize,
)

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# Vocabularies of 262 144 tokens take some 200 MB.
_PROBE_BYTES = 4 << 30


def confine(parent: int) -> None:
    """Die with the parent; no core dumps, no new privileges; first in line for the OOM killer, and not
    behind others for a processor, as the service is."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It died before the signal was armed.
        sys.exit(1)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    # The service decides when an engine ends. A terminal's Ctrl-C and a service manager's SIGTERM
    # reach the whole group, while the service is still letting answers finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # It tells the service to log more; who sends it may send it to all that the service started.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # And this one, to read its settings anew.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def or_die(channel: Channel, work: Callable[[], None]) -> None:
    """The one place that catches everything: say it on the socket, then die of it.

    Half an engine, one thread without the other, would look alive and answer nothing.
    """
    try:
        work()
    except Exception as error:
        channel.send(Fatal(f"{type(error).__name__}: {error}"))
        traceback.print_exc()
        os._exit(1)


def read_commands(channel: Channel, engine: Engine, first: list[Command]) -> None:
    """The reading thread: until the service hangs up."""
    commands = first
    while True:
        for command in commands:
            match command:
                case Submit():
                    engine.admit(command)
                case Embed():
                    engine.embed(command)
                case Cancel():
                    engine.cancel(command)
                case SetThreads():
                    engine.set_threads(command)
                case Tokenize():
                    channel.send(tokenized(engine.model, command))
                case Detokenize():
                    channel.send(detokenized(engine.model, command))
        commands = channel.receive()
        if not commands:
            leave()


def probe(channel: Channel, path: str) -> None:
    """Opens the model's files, and nothing more, with a bound on what that may cost.

    Weights are mapped, which the bound does not count: it is for what a header makes grow.
    """
    from service.engine.llama_load import LoadError, open_files

    resource.setrlimit(resource.RLIMIT_DATA, (_PROBE_BYTES, _PROBE_BYTES))
    try:
        open_files(path)
    except LoadError as error:
        channel.send(LoadFailed(error.kind, str(error)))
    else:
        channel.send(Probed())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.engine")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, default=os.getppid())
    arguments = parser.parse_args()
    confine(arguments.parent)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Not before: the libraries read their environment when they are loaded.
    from service.engine.llama import LlamaModel
    from service.engine.llama_load import LoadError

    channel = Channel(socket.socket(fileno=arguments.fd))
    commands = channel.receive()
    if commands and isinstance(commands[0], Probe):
        probe(channel, commands[0].path)
        return
    if not commands or not isinstance(commands[0], Load):
        sys.exit("the first message was not Load")
    params = commands[0].params
    try:
        model = LlamaModel(params, lambda fraction: channel.send(LoadProgress(fraction)))
    except LoadError as error:
        channel.send(LoadFailed(error.kind, str(error)))
        sys.exit(1)
    channel.send(Ready(os.getpid(), model.facts))
    engine = Engine(model, params, channel.send)
    # What was imported and loaded stays: no collection needs to look at it again, between two steps.
    gc.collect()
    gc.freeze()
    reading = partial(read_commands, channel, engine, commands[1:])
    threading.Thread(target=or_die, args=(channel, reading), name="reader", daemon=True).start()
    or_die(channel, engine.run)


if __name__ == "__main__":
    main()
