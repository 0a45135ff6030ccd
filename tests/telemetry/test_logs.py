from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from service.telemetry import logs


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])


def logged(style: Literal["json", "console"], message: str, **extra: Any) -> str:
    stream = io.StringIO()
    logs.configure("INFO", style, stream)
    logging.getLogger("service.test").info(message, extra={"fields": extra})
    return stream.getvalue()


def test_a_line_is_one_json_object() -> None:
    text = logged("json", "hello", model="demo", status=200, seconds=0.5)

    assert text.count("\n") == 1
    line = json.loads(text)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "service.test",
        "message": "hello",
        "model": "demo",
        "status": 200,
        "seconds": 0.5,
    }


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[31mred", "\x7f\x9b2J", "\u2028x", "\x00", "\r"])
def test_what_clients_write_cannot_make_a_line(
    style: Literal["json", "console"], hostile: str
) -> None:
    text = logged(style, f"GET {hostile}", model=hostile, names=[hostile])

    assert text.count("\n") == 1
    assert all(char.isprintable() or char == "\n" for char in text)
    assert style == "console" or json.loads(text)["model"].isprintable()


def test_the_current_request_is_named() -> None:
    token = logs.request_id.set("r1")
    try:
        assert json.loads(logged("json", "x"))["request_id"] == "r1"
        assert "request_id=r1" in logged("console", "x")
    finally:
        logs.request_id.reset(token)


def test_a_traceback_stays_in_its_line() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    try:
        raise ValueError("what\nhappened")
    except ValueError:
        logging.getLogger("service.test").exception("failed")

    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in json.loads(stream.getvalue())["exception"]


def test_a_pipe_gets_json() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream)
    logging.getLogger("x").warning("hello")

    assert json.loads(stream.getvalue())["level"] == "WARNING"


def test_the_current_trace_is_named_beside_the_request() -> None:
    tokens = logs.request_id.set("r1"), logs.trace_id.set("t1")
    try:
        line = json.loads(logged("json", "x"))
    finally:
        logs.request_id.reset(tokens[0])
        logs.trace_id.reset(tokens[1])

    assert (line["request_id"], line["trace_id"]) == ("r1", "t1")
    assert "trace_id" not in json.loads(logged("json", "x"))


@pytest.mark.parametrize(("level", "levels"), [("ERROR", "DEBUG ERROR"), ("DEBUG", "INFO DEBUG")])
def test_the_level_is_switched_to_debug_and_back_and_says_so(level: str, levels: str) -> None:
    stream = io.StringIO()
    logs.configure(level, "json", stream)
    for expected in levels.split():
        logs.toggle_debug(level)
        assert logging.getLevelName(logging.getLogger().level) == expected

    said = [json.loads(line)["message"].split()[-1] for line in stream.getvalue().splitlines()]
    assert said == levels.split()


def test_a_million_characters_are_still_one_line() -> None:
    assert json.loads(logged("json", "x", model="y" * 1_000_000))["model"].startswith("yyy")
