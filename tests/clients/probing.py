"""What every client is asked, and how its answers are told: one JSON line for each mount and column.

A client runs in an environment of its own, so this and the probes beside it use nothing but the
standard library and that client. `python -m tests.clients.probes.openai URL /v1 /vllm/v1`
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
import traceback
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Literal

COLUMNS = ("plain", "stream", "tools", "structured", "reasoning", "embeddings", "errors", "abort")

MODEL = "demo:latest"

# What the demo model answers: "12 + 30 = 42.", after working it out inside <think>.
SUM = "What is 12 + 30?"
GREETING = "Hello"
# It calls get_weather with {"city": "Paris"}, or add with {"a": 12, "b": 30}.
WEATHER = "What is the weather in Paris?"
# Held to `PERSON`, it answers {"name": "Ann", "age": 30}.
ANN = "Answer in JSON: the name is Ann and the age is 30."
# Asked greedily it goes on until the context is full; the second as text, not as a question.
COUNT = "Count from 1 to 999."
NUMBERS = "1, 2, 3,"
TEXTS = ["one", "two three", "one"]
# More tokens than the demo model has room for.
TOO_LONG = "many words " * 5000

Schema = dict[str, Any]
Result = Literal["ok", "absent", "failed"]


def object_of(**types: str) -> Schema:
    return {
        "type": "object",
        "properties": {name: {"type": type} for name, type in types.items()},
        "required": [*types],
        "additionalProperties": False,
    }


PERSON = object_of(name="string", age="integer")
CITY = object_of(city="string")
TOOL_NAME, TOOL_DESCRIPTION = "get_weather", "Get the current weather in a city."
FUNCTION = {
    "type": "function",
    "function": {"name": TOOL_NAME, "description": TOOL_DESCRIPTION, "parameters": CITY},
}


class Absent(Exception):
    """The client itself has no such ability: why."""


@dataclass(frozen=True)
class Mount:
    server: str  # its address
    path: str  # what the client's base URL adds to it

    @property
    def base(self) -> str:
        return self.server + self.path

    def metric(self, name: str, *parts: str) -> float:
        """The sum of the samples of a name that have all these parts in their labels."""
        with urllib.request.urlopen(self.server + "/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        rows = [x for x in lines if x.startswith((name + "{", name + " "))]
        return sum(float(x.rpartition(" ")[2]) for x in rows if all(part in x for part in parts))

    def cancelled(self) -> float:
        return self.metric("llm_requests_finished_total", 'finish_reason="cancelled"')

    def at_rest(self) -> bool:
        return self.metric("llm_engine_slots_busy") == self.metric("llm_active_requests") == 0

    def settled(self) -> float:
        """How many were cancelled, once nothing runs and no late count is to come: TGI's dialect
        refuses what is too long only after it was admitted, and ends it then."""
        seen = -1.0
        while seen != (now := self.cancelled()) or not self.at_rest():
            seen = now
            time.sleep(0.2)
        return seen


class Probes(ABC):
    """One client at one mount. Each method is a column: it returns, or raises what is wrong."""

    client: ClassVar[str]  # as its package is called

    def __init__(self, mount: Mount) -> None:
        self.mount = mount

    @abstractmethod
    def plain(self) -> None:
        """A whole answer, with its usage."""

    @abstractmethod
    def stream(self) -> None:
        """A streamed answer, in several parts that make up the same text."""

    @abstractmethod
    def tools(self) -> None:
        """A call: name and arguments."""

    @abstractmethod
    def structured(self) -> None:
        """An answer held to a JSON schema."""

    @abstractmethod
    def reasoning(self) -> None:
        """A thought, apart from its answer."""

    @abstractmethod
    def embeddings(self) -> None:
        """Vectors of texts."""

    @abstractmethod
    def errors(self) -> None:
        """The client's own exception, with the server's status and words."""

    @abstractmethod
    def abort(self) -> None:
        """Leaves a running request; that it ends for the server too is looked at afterwards."""


@dataclass(frozen=True)
class Outcome:
    """One line."""

    client: str
    version: str
    mount: str
    column: str
    result: Result
    why: str = ""


def main(probes: type[Probes], arguments: Sequence[str] = sys.argv[1:]) -> None:
    """Prints a line for each of the mounts that the arguments name after the server's address."""
    server, *paths = arguments
    # Standard output is for the lines alone; a client may talk.
    lines, sys.stdout = sys.stdout, sys.stderr
    for path in paths:
        mount = Mount(server, path.rstrip("/"))
        at = probes(mount)
        for column in COLUMNS:
            result, why = asked(getattr(at, column), mount, column)
            line = Outcome(probes.client, version(probes.client), path, column, result, why)
            lines.write(json.dumps(vars(line)) + "\n")
            lines.flush()  # or the interpreter may end without


def asked(probe: Callable[[], None], mount: Mount, column: str) -> tuple[Result, str]:
    before = mount.settled() if column == "abort" else 0
    try:
        probe()
        if column == "abort":
            # Some clients let go of a connection no sooner than their last object is gone.
            gc.collect()
            assert holds_soon(lambda: mount.at_rest() and mount.cancelled() == before + 1), (
                f"{before} were cancelled, then {mount.cancelled()}; at rest: {mount.at_rest()}"
            )
    except Absent as absent:
        return "absent", str(absent)
    except Exception as error:  # whatever a client raises is what its probe found
        return "failed", told(error)
    return "ok", ""


def told(error: Exception) -> str:
    """What went wrong and, as a bare `assert` says nothing, on which line of the probe."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line for frame in frames if "/clients/probes/" in frame.filename]
    return " ".join(f"{type(error).__name__}: {error} [{lines[-1] if lines else ''}]".split())[:600]


def raised(kind: type[Exception], act: Callable[[], object]) -> Any:
    """The exception of that kind that `act` raises. Any other passes."""
    try:
        answer = act()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} but {answer}")


def holds_soon(claim: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := claim()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


def is_ann(text: str) -> bool:
    person: object = json.loads(text)
    return person == {"name": "Ann", "age": 30}


def are_vectors_of_texts(vectors: Sequence[Sequence[float]]) -> bool:
    """Of `TEXTS`: three of one size and of length one, and alike where the texts are."""
    first, second, third = vectors
    one = all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-3) for vector in vectors)
    return (
        len(first) == len(second) > 1
        and one
        and math.dist(first, third) < 0.01 < math.dist(first, second)
    )
