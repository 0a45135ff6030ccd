from __future__ import annotations

from service.fleet.watchdog import Watchdog


def watchdog_of(*admitted: int) -> Watchdog:
    watchdog = Watchdog(30.0)
    for request in admitted:
        watchdog.admitted(request, 0.0)
    return watchdog


def test_an_idle_engine_is_never_wedged() -> None:
    watchdog = Watchdog(30.0)
    watchdog.submitted(1, 0.0)
    watchdog.answered(1, 1.0)
    watchdog.admitted(1, 1.0)
    watchdog.settled(1)
    watchdog.stepped(2.0)

    assert not watchdog.wedged(1e6)


def test_an_engine_that_does_not_answer_is_wedged() -> None:
    watchdog = Watchdog(30.0)
    watchdog.submitted(1, 0.0)
    watchdog.submitted(2, 20.0)

    assert not watchdog.wedged(30.0)
    assert watchdog.wedged(30.1)


def test_who_is_answered_leaves_the_others_a_new_time() -> None:
    watchdog = Watchdog(30.0)
    watchdog.submitted(1, 0.0)
    watchdog.submitted(2, 0.0)
    watchdog.answered(1, 20.0)

    assert not watchdog.wedged(50.0)
    assert watchdog.wedged(50.1)


def test_an_engine_that_does_not_step_is_wedged_however_many_requests_it_admits() -> None:
    watchdog = Watchdog(30.0)
    for second in range(0, 40, 5):
        watchdog.submitted(second, float(second))
        watchdog.answered(second, float(second))
        watchdog.admitted(second, float(second))

    assert watchdog.wedged(36.0)


def test_a_step_is_progress() -> None:
    watchdog = watchdog_of(1, 2)
    watchdog.settled(1)
    watchdog.stepped(25.0)

    assert not watchdog.wedged(50.0)
    assert watchdog.wedged(55.1)


def test_a_service_that_was_held_up_itself_accuses_nobody() -> None:
    watchdog = watchdog_of(1)
    watchdog.submitted(2, 0.0)
    watchdog.excuse(100.0)

    assert not watchdog.wedged(130.0)
    assert watchdog.wedged(130.1)


def test_a_new_engine_owes_nothing() -> None:
    watchdog = watchdog_of(1)
    watchdog.submitted(2, 0.0)
    watchdog.forget()
    watchdog.stepped(1.0)
    watchdog.answered(3, 1.0)

    assert not watchdog.wedged(1e6)
