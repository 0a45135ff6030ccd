"""Stop strings, found across token boundaries, without ever letting part of one out."""

from __future__ import annotations

import re


class StopMatcher:
    """Releases text until one of `stops` is complete; holds back what might begin one.

    The stop string that is *complete* first wins, since generation ends there: nobody samples
    another token to learn whether one that began earlier would be complete as well. Of those
    complete at the same character the one that began first wins. So the outcome does not depend
    on how the text was split. Of two that begin together the shorter wins.

    `matched` is that string, or None; text after it is discarded. It is part of the released
    text only with `include_stop`.
    """

    def __init__(self, stops: tuple[str, ...], include_stop: bool = False) -> None:
        self.matched: str | None = None
        self._stops = tuple(stop for stop in stops if stop)
        self._include_stop = include_stop
        self._held = ""
        # Most text contains no character that begins a stop string, and needs no further look.
        firsts = "".join({re.escape(stop[0]) for stop in self._stops})
        self._first = re.compile(f"[{firsts}]") if firsts else None

    def feed(self, text: str) -> str:
        """The text that is now safe to release, which may be none or more than `text`."""
        if self._first is None:
            return text
        if self.matched is not None:
            return ""
        if not self._held and not self._first.search(text):
            return text
        text = self._held + text
        match = self._complete(text)
        if match is None:
            safe = self._safe(text)
            self._held = text[safe:]
            return text[:safe]
        start, self.matched = match
        self._held = ""
        return text[: start + len(self.matched)] if self._include_stop else text[:start]

    def flush(self) -> str:
        """The end of the text: what was held back began no stop string after all."""
        text, self._held = self._held, ""
        return text

    def _complete(self, text: str) -> tuple[int, str] | None:
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _safe(self, text: str) -> int:
        """How many characters of `text` can be part of no stop string that is yet to complete."""
        assert self._first is not None
        for candidate in self._first.finditer(text):
            rest = text[candidate.start() :]
            if any(stop.startswith(rest) for stop in self._stops):
                return candidate.start()
        return len(text)
