from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.access.caller import Scope
from service.access.keys import Key
from service.access.limits import Allowances, Excess, Failures


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def key(rpm: int | None = None, max_concurrent: int | None = None, name: str = "a") -> Key:
    scopes = frozenset({Scope.INFERENCE})
    return Key(name, scopes, b"", rpm=rpm, max_concurrent=max_concurrent)


def test_the_eleventh_failure_in_a_minute_has_to_wait_for_its_end() -> None:
    clock = Clock()
    failures = Failures(clock=clock)
    waits = []
    for _ in range(12):
        waits.append(failures.count("10.0.0.1"))
        clock.now += 1
    assert waits == [None] * 10 + [50.0, 49.0]
    assert failures.count("10.0.0.2") is None
    clock.now = 60.0
    assert failures.count("10.0.0.1") is None


def test_one_network_of_ipv6_is_one_place() -> None:
    failures = Failures(most=1)

    assert failures.count("2001:db8:1:2::1") is None
    assert failures.count("2001:db8:1:2:ffff::9") is not None
    assert failures.count("2001:db8:1:3::1") is None
    assert failures.count("fe80::1%eth0") is None


def test_of_too_many_addresses_those_go_that_failed_least_lately() -> None:
    failures = Failures(most=1, addresses=3)
    for address in ("a", "b", "c", "a", "d"):
        failures.count(address)

    assert len(failures) == 3
    assert failures.count("a") is not None
    assert failures.count("b") is None


def test_a_minutes_requests_may_come_at_once_and_then_as_they_grow_again() -> None:
    clock = Clock()
    allowances = Allowances(clock)
    held = key(rpm=2)

    assert [allowances.enter(held) for _ in range(3)] == [None, None, Excess("rpm", 2, 30)]
    clock.now = 29.0
    assert allowances.enter(held) == Excess("rpm", 2, 1)
    clock.now = 30.0
    assert allowances.enter(held) is None
    clock.now = 1000.0
    assert [allowances.enter(held) is None for _ in range(3)] == [True, True, False]


def test_what_ends_makes_room() -> None:
    allowances = Allowances()
    held = key(max_concurrent=1)

    assert allowances.enter(held) is None
    assert allowances.enter(held) == Excess("max_concurrent", 1)
    assert allowances.enter(key(max_concurrent=1, name="b")) is None
    allowances.leave(held)
    assert allowances.enter(held) is None


def test_a_reload_gives_no_new_minute_and_forgets_keys_that_are_gone() -> None:
    clock = Clock()
    allowances = Allowances(clock)
    held, busy = key(rpm=1), key(rpm=1, name="busy")
    for each in (held, busy):
        assert allowances.enter(each) is None
    allowances.leave(held)
    allowances.keep({"a"})
    assert allowances.enter(held) is not None
    # It runs still: its end has to find what it is taken from.
    allowances.leave(busy)
    allowances.keep(())
    assert allowances.enter(held) is None


@given(st.integers(1, 50), st.lists(st.floats(0, 30), max_size=200))
def test_no_key_gets_more_than_its_minute_and_what_grew_since(rpm: int, gaps: list[float]) -> None:
    clock = Clock()
    allowances = Allowances(clock)
    held, let_in = key(rpm=rpm), 0
    for gap in gaps:
        clock.now += gap
        let_in += allowances.enter(held) is None

    assert let_in <= rpm + clock.now * rpm / 60 + 1e-6
