from __future__ import annotations

from service.engine.stopwatch import Stopwatch


def test_only_what_passes_while_it_runs_is_added_up() -> None:
    now = 0.0
    watch = Stopwatch(lambda: now)
    watch.start()
    now = 2.0
    watch.pause()
    now = 10.0
    watch.pause()
    watch.start()
    now = 11.0

    assert watch.lap() == 3.0


def test_a_lap_begins_where_the_last_one_ended() -> None:
    now = 0.0
    watch = Stopwatch(lambda: now)
    watch.start()
    now = 1.0
    assert watch.lap() == 1.0
    now = 1.5
    assert watch.lap() == 0.5
