"""What a colour means, and where it begins. The same everywhere."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

GOOD: Final = "green"
WARNING: Final = "orange"
BAD: Final = "red"
NEUTRAL: Final = "blue"
QUIET: Final = "text"

# Series that mean the same have the same colour on all dashboards.
COLOURS: Final = {
    "queue": "orange",
    "waiting": "orange",
    "prefill": "purple",
    "decode": "blue",
    "error": "red",
    "cancelled": "semi-dark-yellow",
    "timeout": "dark-red",
    "stop": "green",
    "length": "yellow",
    "computed": "purple",
    "cached": "green",
    "output": "blue",
    "thoughts": "light-blue",
    "running": "blue",
    "capacity": "text",
    "p50": "green",
    "p95": "orange",
    "p99": "red",
}

Steps = tuple[tuple[float | None, str], ...]

PLAIN: Final[Steps] = ((None, QUIET),)
GPU_CELSIUS: Final[Steps] = ((None, GOOD), (80, WARNING), (85, BAD))
MEMORY_RATIO: Final[Steps] = ((None, GOOD), (0.9, WARNING), (0.97, BAD))
CACHE_RATIO: Final[Steps] = ((None, GOOD), (0.9, WARNING), (0.95, BAD))
ERROR_RATIO: Final[Steps] = ((None, GOOD), (0.001, WARNING), (0.01, BAD))
SUCCESS_RATIO: Final[Steps] = ((None, BAD), (0.8, WARNING), (0.95, GOOD))
BURN_RATE: Final[Steps] = ((None, GOOD), (1, "yellow"), (6, WARNING), (14.4, BAD))
BUDGET_RATIO: Final[Steps] = ((None, BAD), (0, WARNING), (0.25, GOOD))
FIRST_TOKEN_SECONDS: Final[Steps] = ((None, GOOD), (2.5, WARNING), (10, BAD))
PER_TOKEN_SECONDS: Final[Steps] = ((None, GOOD), (0.2, WARNING), (0.5, BAD))
LAG_SECONDS: Final[Steps] = ((None, GOOD), (0.1, WARNING), (0.25, BAD))
WAITING: Final[Steps] = ((None, GOOD), (1, WARNING), (10, BAD))
SCORE: Final[Steps] = ((None, BAD), (60, WARNING), (80, GOOD))
HEADROOM_CELSIUS: Final[Steps] = ((None, BAD), (5, WARNING), (10, GOOD))
FREE_RATIO: Final[Steps] = ((None, BAD), (0.03, WARNING), (0.1, GOOD))
NONE_WANTED: Final[Steps] = ((None, GOOD), (1, BAD))
ONE_WANTED: Final[Steps] = ((None, BAD), (1, GOOD))


def thresholds(steps: Steps) -> sdk.ThresholdsConfig:
    return sdk.ThresholdsConfig(
        mode=sdk.ThresholdsMode.ABSOLUTE,
        steps=[sdk.Threshold(value=value, color=color) for value, color in steps],
    )


def words(meanings: dict[int, tuple[str, str]]) -> sdk.ValueMap:
    """Value → its text and colour."""
    return sdk.ValueMap(
        options={
            str(value): sdk.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(meanings.items())
        }
    )
