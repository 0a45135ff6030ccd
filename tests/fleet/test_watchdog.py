from __future__ import annotations

from service.fleet.watchdog import Watchdog


def test_an_idle_engine_is_never_wedged() -> None:
    watchdog = Watchdog(30.0)
    watchdog.submitted(0.0)
    watchdog.answered(1.0, unanswered=0)
    watchdog.admitted(1.0)
    watchdog.stepped(2.0, admitted=0)

    assert not watchdog.wedged(1e6)


def test_an_engine_that_does_not_answer_is_wedged() -> None:
    watchdog = Watchdog(30.0)
    watchdog.submitted(0.0)
    watchdog.submitted(20.0)

    assert not watchdog.wedged(30.0)
    assert watchdog.wedged(30.1)


def test_an_engine_that_does_not_step_is_wedged_however_many_requests_it_admits() -> None:
    watchdog = Watchdog(30.0)
    for second in range(0, 40, 5):
        watchdog.submitted(float(second))
        watchdog.answered(float(second), unanswered=0)
        watchdog.admitted(float(second))

    assert watchdog.wedged(36.0)


def test_a_step_is_progress() -> None:
    watchdog = Watchdog(30.0)
    watchdog.admitted(0.0)
    watchdog.stepped(25.0, admitted=1)

    assert not watchdog.wedged(50.0)
    assert watchdog.wedged(55.1)


def test_a_service_that_was_held_up_itself_accuses_nobody() -> None:
    watchdog = Watchdog(30.0)
    watchdog.admitted(0.0)
    watchdog.submitted(0.0)
    watchdog.excuse(100.0)

    assert not watchdog.wedged(130.0)
    assert watchdog.wedged(130.1)


def test_a_new_engine_owes_nothing() -> None:
    watchdog = Watchdog(30.0)
    watchdog.admitted(0.0)
    watchdog.forget()

    assert not watchdog.wedged(1e6)
