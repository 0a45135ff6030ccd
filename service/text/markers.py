"""A marker such as `</think>` may arrive in pieces; text that might begin one is held back."""

from __future__ import annotations


def partial(text: str, marker: str) -> int:
    """Where the longest suffix of `text` that begins `marker` starts; `len(text)` if none does.

    The suffix is shorter than `marker`: look for whole markers first.
    """
    first = marker[0]
    at = text.find(first, max(0, len(text) - len(marker) + 1))
    while at >= 0:
        if marker.startswith(text[at:]):
            return at
        at = text.find(first, at + 1)
    return len(text)
