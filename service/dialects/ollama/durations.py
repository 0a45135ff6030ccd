"""How long a model stays loaded, as Ollama's clients write it: seconds, or a duration of Go's. Pure.

300, 0.5        seconds; negative: for ever; 0: unload right after the answer
"5m", "1h30m"   Go's time.ParseDuration; negative: for ever
"-1", "300"     an error in Go, which wants a unit; seconds here, as OLLAMA_KEEP_ALIVE has them
"""

from __future__ import annotations

import re
from typing import Final

from service.dialects.fields import Fields, kind

FOR_EVER: Final = -1.0
# 292 years, the longest that Go can say.
LONGEST: Final = (2**63 - 1) / 1e9

UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\N{MICRO SIGN}s": 1e-6,
    "\N{GREEK SMALL LETTER MU}s": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_PART = re.compile(rf"({_NUMBER})({'|'.join(sorted(UNITS, key=len, reverse=True))})")
_BARE = re.compile(_NUMBER)
_MAX_LENGTH: Final = 64


def parse_keep_alive(fields: Fields) -> float | None:
    """Seconds; FOR_EVER where it is negative, None where nothing was said."""
    value = fields.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, str):
        seconds = duration(value)
        if seconds is None:
            raise fields.bad("keep_alive", f'invalid duration "{value[:_MAX_LENGTH]}"')
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        wanted = 'must be a number of seconds or a duration such as "5m"'
        raise fields.bad("keep_alive", f"{wanted}, not {kind(value)}")
    if seconds < 0 or seconds >= LONGEST:
        return FOR_EVER
    return seconds


def duration(text: str) -> float | None:
    """Seconds, or None for what is no duration."""
    if len(text) > _MAX_LENGTH:
        return None
    sign, rest = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    if _BARE.fullmatch(rest):
        return sign * float(rest)
    seconds, at = 0.0, 0
    while part := _PART.match(rest, at):
        seconds += float(part[1]) * UNITS[part[2]]
        at = part.end()
    return sign * seconds if rest and at == len(rest) else None
