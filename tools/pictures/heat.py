"""What the faked cards say of themselves over time: they warm up under load, and one is throttled."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.fakenvml.driver import Driver

EVERY_SECONDS: Final = 2.0
# NVML's reason SW_THERMAL_SLOWDOWN, and where it begins here.
THERMAL: Final = 0x20
SLOWS_AT_CELSIUS: Final = 84
WARM_UP_SECONDS: Final = 50.0
GIB: Final = 1 << 30


@dataclass(frozen=True)
class Card:
    """How hot it gets, and its limits: °C, W, MHz, bytes."""

    cool: float
    hot: float
    idle_watts: float
    limit_watts: float
    clock_mhz: int
    memory: int


M10: Final = (15.0, 53.0, 1032, 8 * GIB)
CARDS: Final = (
    Card(46, 71, *M10),
    Card(38, 64, 120.0, 700.0, 1980, 150_754_820_096),
    Card(52, 84, *M10),
    Card(47, 76, *M10),
)
# Of the four, the one with a fan and an energy counter.
H200: Final = 1


def said(card: int, seconds: float) -> dict[str, int]:
    """Of one card, so long after it was put to work."""
    of = CARDS[card]
    warm = 1 - math.exp(-seconds / WARM_UP_SECONDS)
    wave = math.sin(seconds / 17 + 1.7 * card)
    busy = max(0.0, min(1.0, 0.25 + 0.5 * warm + 0.18 * wave))
    celsius = of.cool + (of.hot - of.cool) * warm + 1.5 * wave
    slowed = celsius >= SLOWS_AT_CELSIUS
    watts = of.idle_watts + (of.limit_watts - of.idle_watts) * busy * (0.8 if slowed else 0.95)
    fan = {"fan_percent": round(30 + celsius / 2)} if card == H200 else {}
    return {
        "temperature": round(celsius),
        "gpu_percent": round(100 * busy),
        "memory_percent": round(45 * busy),
        "power_mw": round(1000 * watts),
        "clock1": round(of.clock_mhz * (0.72 if slowed else 1.0)),
        "memory_used": round(of.memory * (0.32 + 0.08 * card + 0.03 * warm)),
        "throttle": THERMAL if slowed else 0,
        **fan,
    }


@contextmanager
def warming(cards: Driver, engines: Callable[[], list[int]]) -> Iterator[None]:
    """`engines`: the processes that are said to hold a part of the memory of each card."""
    cards.say(card1="h200", card1__fans=1)
    done = threading.Event()
    thread = threading.Thread(target=_warm, args=(cards, engines, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def _warm(cards: Driver, engines: Callable[[], list[int]], done: threading.Event) -> None:
    since = last = time.monotonic()
    joules = 0.0
    while not done.wait(EVERY_SECONDS):
        now = time.monotonic()
        processes = engines()
        for number in range(len(CARDS)):
            lines = said(number, now - since)
            if number == H200:
                joules += lines["power_mw"] / 1000 * (now - last)
                lines["energy_mj"] = round(1000 * joules)
                lines["memory_temperature"] = lines["temperature"] + 6
            share = lines["memory_used"] // (5 * max(1, len(processes)))
            cards.say(
                **{f"card{number}__{key}": value for key, value in lines.items()},
                **{f"card{number}__processes": " ".join(f"{pid}:{share}" for pid in processes)},
            )
        last = now
