"""One line for each event: JSON for machines, or aligned text on a terminal.

Structured fields travel as `extra={"fields": {...}}`. No prompt and no answer is ever logged, so
nothing here needs to be redacted; what clients can put into a line (paths, model names) has its
control characters escaped, so that a line stays a line.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import msgspec

logger = logging.getLogger(__name__)

# The request that the current task works for.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
# The trace that it is part of, where requests are traced.
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)

# What ends or recolours a line on a terminal: C0, DEL, C1, and Unicode's own line ends.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}

_encode = msgspec.json.Encoder(enc_hook=str).encode


def printable(text: str) -> str:
    return text.translate(_CONTROLS)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        line |= {key: clean(value) for key, value in fields_of(record).items()}
        if record.exc_info:
            line["exception"] = printable(self.formatException(record.exc_info))
        return _encode(line).decode()


class Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        parts = [f"{when} {record.levelname:<7} {printable(record.getMessage())}"]
        parts += [f"{key}={clean(value)}" for key, value in fields_of(record).items()]
        text = " ".join(parts)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    current = {"request_id": request_id.get(), "trace_id": trace_id.get()}
    return {key: value for key, value in current.items() if value is not None} | fields


def clean(value: Any) -> Any:
    if isinstance(value, list):
        return [clean(element) for element in value]
    return printable(value) if isinstance(value, str) else value


def configure(
    level: str,
    style: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Replaces whatever the root logger had. uvicorn's loggers pass their lines up to it."""
    stream = stream or sys.stderr
    people = style == "console" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Console() if people else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def toggle_debug(level: str) -> None:
    """DEBUG, or back to `level` (to INFO where that is DEBUG itself)."""
    debugging = logging.getLogger().level == logging.DEBUG
    other = "INFO" if level == "DEBUG" else level
    set_level(other if debugging else "DEBUG")
    # Whoever asked must see that it worked, whatever the level is.
    now = logging.getLogger().level
    logger.log(max(now, logging.WARNING), "The log level is %s", logging.getLevelName(now))


def set_level(level: str) -> None:
    root = logging.getLogger()
    root.setLevel(level)
    # Its chatter at INFO ("Waiting for connections to close") is ours to say, or nobody's.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
