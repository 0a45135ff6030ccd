"""Who changed what: one line of JSON for each change, in `audit.log` of the state directory.

None can be changed, taken out or put in between without being seen (`audit_chain`). Who can write
the file can write a whole chain anew, though: the service's own log has each hash too, and is
usually kept elsewhere.

Lines are written and synced in a thread, in the order in which they came, so that a slow disk holds
up no request. A full one loses lines: that is counted, logged, and said in the next line as `lost`.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from service.access.caller import Caller
from service.control.audit_chain import MAX_BYTES, Chain

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 4096
MAX_TEXT: Final = 2048
MAX_CHANGES: Final = 64
CLOSE_SECONDS: Final = 5.0
REDACTED: Final = "***"

_SECRET: Final = re.compile(r"secret|passw|token$|api_key$|authorization", re.IGNORECASE)


class Audit:
    """`write` may be called from any thread; `on_lost` is, for each line that was not written."""

    def __init__(
        self,
        folder: Path,
        *,
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        most: int = MAX_BYTES,
    ) -> None:
        self._chain = Chain(folder, most)
        self._on_lost = on_lost
        self._clock = clock
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MAX_WAITING)
        self._starting = threading.Lock()
        self._writer: threading.Thread | None = None
        self._lost = 0

    def write(
        self,
        caller: Caller,
        action: str,
        changes: Mapping[str, tuple[Any, Any]],
        result: str,
        version: int | None = None,
    ) -> None:
        """`changes`: what was changed, from what, to what; secrets are not shown. `result`: `done`,
        or why not. `version`: of the configuration in force after it."""
        entry: dict[str, Any] = {
            "time": stamp(self._clock()),
            "key": caller.name,
            "address": caller.address,
            "action": action,
            "changes": shown(changes),
            "result": result[:MAX_TEXT],
        }
        if version is not None:
            entry["version"] = version
        with self._starting:
            if self._writer is None:
                self._writer = threading.Thread(target=self._run, name="audit", daemon=True)
                self._writer.start()
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            self._lose(entry, "too many lines wait for the disk")

    def close(self) -> None:
        """Comes back when all is written, or the disk has not taken it for some seconds."""
        if self._writer is not None:
            self._waiting.put(None)
            self._writer.join(CLOSE_SECONDS)
            self._writer = None

    def _run(self) -> None:
        while (entry := self._waiting.get()) is not None:
            lost = self._lost
            try:
                own = self._chain.append(entry | {"lost": lost} if lost else entry)
            except OSError as error:
                self._lose(entry, error.strerror or str(error))
                continue
            self._lost -= lost
            fields = told(entry) | {"audit_hash": own}
            logger.info("%s: %s", entry["action"], entry["result"], extra={"fields": fields})

    def _lose(self, entry: Mapping[str, Any], why: str) -> None:
        self._lost += 1
        self._on_lost()
        fields = told(entry)
        logger.error("A line of the audit log is lost: %s", why, extra={"fields": fields})


def shown(changes: Mapping[str, tuple[Any, Any]]) -> dict[str, list[Any]]:
    return {
        key[:MAX_TEXT]: [redacted(key, value) for value in pair]
        for key, pair in list(changes.items())[:MAX_CHANGES]
    }


def redacted(key: str, value: Any) -> Any:
    """A value as the log may have it: short, and no secret, whether by its type or its name."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr) or _SECRET.search(key):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(inner): redacted(str(inner), each) for inner, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(key, each) for each in value]
    return str(value)[:MAX_TEXT]


def told(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the service's own log has of a line."""
    return {"key_name": entry["key"], "address": entry["address"], "action": entry["action"]}


def stamp(seconds: float) -> str:
    when = datetime.fromtimestamp(seconds, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
