from __future__ import annotations

from exporters.readings import GpuReading, GpusReading, HostReading
from service.control.incidents import Incidents, tally


def test_what_a_machine_counts_is_added_up() -> None:
    gpus = GpusReading(
        tuple(
            GpuReading(
                index=n, uuid=f"GPU-{n}", throttle_seconds={"hw_thermal": 2.0, "sw_power_cap": 50.0}
            )
            for n in range(2)
        )
    )
    host = HostReading(oom_kills={"machine": 3, "cgroup": 1})

    found = tally(gpus, host, deaths=2, load_failures={"out_of_memory": 1, "bad_file": 4})

    assert found == {
        "engine_deaths": 2,
        "out_of_memory": 1,
        "oom_kills": 3,
        "throttle_seconds_hw_thermal": 4.0,
    }


def test_what_happened_before_as_well_is_not_new() -> None:
    incidents = Incidents()
    for minute in range(20):
        hot = {"throttle_seconds_hw_thermal": 5.0 * minute, "engine_deaths": float(minute > 15)}
        incidents.note(60.0 * minute, hot)

    assert incidents.new(changed=600.0, until=1140.0) == {"engine_deaths": 1.0}


def test_what_began_with_the_change_is() -> None:
    incidents = Incidents()
    for minute in range(20):
        seconds = 5.0 * max(0, minute - 10)
        incidents.note(60.0 * minute, {"throttle_seconds_hw_thermal": seconds})

    assert incidents.new(changed=600.0, until=1140.0) == {"throttle_seconds_hw_thermal": 45.0}
    assert incidents.new(changed=60.0, until=600.0) == {}


def test_a_driver_that_was_loaded_anew_is_no_incident() -> None:
    incidents = Incidents()
    for at, seconds in ((0.0, 90.0), (60.0, 90.0), (120.0, 0.0)):
        incidents.note(at, {"throttle_seconds_hw_thermal": seconds})

    assert incidents.new(changed=60.0, until=120.0) == {}
