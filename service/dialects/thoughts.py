"""Thoughts written inline again, between the tags that most models use."""

from __future__ import annotations

from collections.abc import Iterable

from service.events import Event, Finished, PromptLogprobs, ReasoningDelta, TextDelta

OPENING = "<think>"
CLOSING = "</think>"


class InlineThoughts:
    """ReasoningDeltas in, TextDeltas out: thoughts between tags, then the rest as it is."""

    def __init__(self) -> None:
        self._inside: set[int] = set()

    def feed(self, events: Iterable[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if isinstance(event, ReasoningDelta):
                text = event.text
                if event.index not in self._inside:
                    self._inside.add(event.index)
                    text = OPENING + text
                out.append(TextDelta(event.index, text, event.logprobs, event.tokens, event.ids))
                continue
            # An answer that was cut off while it thought stays open, as the model left it.
            if event.index in self._inside and not isinstance(event, Finished | PromptLogprobs):
                self._inside.remove(event.index)
                out.append(TextDelta(event.index, CLOSING))
            out.append(event)
        return out
