"""Percentiles and rates of what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class Stream(Protocol):
    @property
    def frames(self) -> tuple[float, ...]: ...
    @property
    def completion_tokens(self) -> int: ...


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least q % do not exceed (nearest rank): always a measured one."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q / 100 * len(values)) - 1)]


def rate_together(streams: Sequence[Stream]) -> float | None:
    """Tokens a second while all streams decode at once; None where there is no such time.

    It begins when the last stream has its first token, so that no prefill is in it, and ends
    with the first stream's last. A frame counts for as many tokens as the stream's frames do
    on average.
    """
    if not all(stream.frames for stream in streams):
        return None
    begin = max(stream.frames[0] for stream in streams)
    end = min(stream.frames[-1] for stream in streams)
    if begin >= end:
        return None
    tokens = sum(
        sum(begin < frame <= end for frame in stream.frames)
        * (stream.completion_tokens / len(stream.frames))
        for stream in streams
    )
    return tokens / (end - begin)
