"""Decimal numbers between two bounds, as GBNF: digits compared from the left."""

from __future__ import annotations

from decimal import Decimal

from service.text.digits import Fractions, naturals


def integers(low: int | None, high: int | None) -> list[str]:
    """Alternatives for the integers from `low` to `high`, None where there is no bound."""
    out: list[str] = []
    if low is None or low < 0:
        most_negative = None if low is None else -low
        least_negative = 1 if high is None or high >= 0 else -high
        out += [f'"-" ({" | ".join(naturals(least_negative, most_negative))})']
    if high is None or high >= 0:
        out += naturals(max(low or 0, 0), high)
    return out


def numbers(
    low: Decimal | None, high: Decimal | None, open_low: bool, open_high: bool
) -> list[str]:
    """Alternatives for the numbers between two bounds; an open bound itself is excluded."""
    zero = Decimal(0)
    out: list[str] = []
    if low is None or low < 0:
        # Mirrored: what is below zero lies between -high and -low.
        least, open_least = (zero, True) if high is None or high >= 0 else (-high, open_high)
        below = _decimals(least, None if low is None else -low, open_least, open_low)
        out += [f'"-" ({" | ".join(below)})'] if below else []
    if high is None or high >= 0:
        least, open_least = (low, open_low) if low is not None and low >= 0 else (zero, False)
        out += _decimals(least, high, open_least, open_high)
    return out


def _decimals(low: Decimal, high: Decimal | None, open_low: bool, open_high: bool) -> list[str]:
    if high is not None and (low > high or (low == high and (open_low or open_high))):
        return []
    # No more digits than a float tells apart from an excluded bound.
    fractions = Fractions(max(1, 15 - len(str(int(low if high is None else high)))))
    first, above = _parts(low)
    last, below = (None, None) if high is None else _parts(high)
    if first == last:
        return _joined([f'"{first}"'], fractions.between(above, below, open_low, open_high))
    out: list[str] = []
    if above or open_low:
        out += _joined([f'"{first}"'], fractions.between(above, None, open_low, False))
        first += 1
    if last is None or first < last:
        whole = naturals(first, None if last is None else last - 1)
        out += _joined(whole, fractions.between("", None, False, False))
    if last is not None:
        out += _joined([f'"{last}"'], fractions.between("", below, False, open_high))
    return out


def _joined(whole: list[str], fraction: str | None) -> list[str]:
    return [] if fraction is None else [f"({' | '.join(whole)}) {fraction}"]


def _parts(number: Decimal) -> tuple[int, str]:
    """The whole part, and the digits after the point."""
    whole, _, digits = f"{number:f}".partition(".")
    return int(whole), digits.rstrip("0")
