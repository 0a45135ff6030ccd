"""From what engines and collectors report to evidence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from exporters.readings import GpuReading, GpusReading, HostReading, Memory, ProcessMemory
from service.control.gathering import Sources, gathered, percentile, quantile
from service.control.hardware import Hardware
from service.control.intervals import Intervals
from service.control.workload import Workload
from service.events import FinishReason, Timings, Usage
from service.facts import Buffer
from service.serving.model_status import ModelStatus
from service.settings import Settings
from service.stats import ModelLoaded, ModelLoadFailed, ModelUnloaded, RequestStats, StepStats
from tests.dialects.fakes import FakeRuntime

MODEL = "demo:latest"
GIB = 1 << 30
STEP = StepStats(1, "decode", 0.1, 0.0, 0, 2, 2, 0, 100, step_seconds=0.1)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Read:
    """Implements `readings.Latest`."""

    machine: HostReading | None = field(
        default_factory=lambda: HostReading(
            memory_available=12 * GIB, swap_in=0, major_faults=0, oom_kills={"host": 3},
            pressure_seconds={("cpu", "some"): 50.0}, load=(1.0, 1.0, 1.0),
        )
    )  # fmt: skip
    gpus: GpusReading | None = None
    gpu_failure: str | None = None


class Scene:
    def __init__(self) -> None:
        self.clock, self.read, self.lag = Clock(), Read(), {0.1: 0.0, float("inf"): 0.0}
        self.workload = Workload(self.clock)
        self.intervals = Intervals(
            self.read, self.workload, lambda: dict(self.lag), self.clock, self.clock
        )

    def minute(self) -> None:
        self.clock.now += 60
        self.intervals.tick()

    def request(self, queue: float, total: float, tokens: int = 100, **changes: Any) -> None:
        now = self.clock.now
        stats = RequestStats(
            "id", MODEL, "openai", "/v1/chat/completions", False, FinishReason.STOP,
            arrived=now - total, ended=now, usage=Usage(tokens - 10, 0, 10),
            timings=Timings(now - total, now - total + queue),
        )  # fmt: skip
        self.workload.on_finish(replace(stats, **changes))

    def sources(self, **changes: Any) -> Sources:
        (status,) = FakeRuntime().models()
        values: dict[str, Any] = {
            "settings": Settings(),
            "busy": self.intervals.busy,
            "recent": self.intervals.recent,
            "latest": self.read,
            "hardware": Hardware(2, 2, 16 * GIB, 12 * GIB),
            "models": [status],
            "lengths": self.workload.lengths(),
            "occurrences": tuple(self.workload.occurred(3600.0)),
        }
        return Sources(**{**values, **changes})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_time_in_the_queue_is_a_share_of_what_requests_took(scene: Scene) -> None:
    scene.request(queue=1.0, total=4.0)
    scene.request(queue=3.0, total=4.0)
    scene.minute()
    found = gathered(scene.sources())

    assert (found.requests, found.queue_share) == (2, 0.5)
    assert found.measured_at == scene.clock.now


def test_who_was_given_up_in_the_queue_waited_all_the_time(scene: Scene) -> None:
    scene.request(0, 4.0, reason=FinishReason.TIMEOUT, timings=Timings(scene.clock.now - 4.0))
    scene.minute()
    found = gathered(scene.sources())

    assert (found.starved, found.queue_share) == (1, 1.0)


def test_what_was_measured_stays_while_nobody_asks_anything(scene: Scene) -> None:
    scene.request(queue=1.0, total=2.0)
    scene.minute()
    at = scene.clock.now
    for _ in range(90):
        scene.minute()
    found = gathered(scene.sources())

    assert (found.queue_share, found.measured_at, found.window_seconds) == (0.5, at, 60)


def test_the_window_is_the_last_quarter_of_an_hour_with_traffic(scene: Scene) -> None:
    for n in range(40):
        scene.request(queue=float(n >= 20), total=1.0)
        scene.minute()
    found = gathered(scene.sources())

    assert (found.requests, found.queue_share, found.window_seconds) == (15, 1.0, 900)


def test_slots_that_stood_empty_while_somebody_waited_are_counted(scene: Scene) -> None:
    (status,) = FakeRuntime().models()
    assert status.facts is not None
    slots = status.facts.n_seq
    scene.request(1.0, 2.0)
    scene.workload.on_steps(MODEL, [replace(STEP, waiting=3, running=1, decode_tokens=1)])
    scene.workload.on_steps(MODEL, [replace(STEP, waiting=0, running=0, decode_tokens=1)])
    scene.minute()
    found = gathered(scene.sources())

    assert found.idle_slots == pytest.approx(1 - 1 / slots)
    assert found.main is not None
    assert found.main.peak == 1


def test_a_slot_is_in_use_in_the_step_that_ends_its_request(scene: Scene) -> None:
    """Answers of one token: after each step nobody runs, and others wait."""
    scene.request(1.0, 2.0)
    ended = replace(STEP, phase="prefill", decode_tokens=0, running=0, waiting=9,
                    prefill_progress=tuple((n, 40) for n in range(4)))  # fmt: skip
    scene.workload.on_steps(MODEL, [ended])
    scene.minute()
    found = gathered(scene.sources())

    assert found.idle_slots == 0
    assert found.main is not None
    assert found.main.peak == 4


def test_who_waits_for_a_prefix_waits_for_no_slot(scene: Scene) -> None:
    scene.request(1.0, 2.0)
    scene.workload.on_steps(
        MODEL, [replace(STEP, waiting=3, waiting_for_prefix=3, running=1, decode_tokens=1)]
    )
    scene.minute()
    found = gathered(scene.sources())
    assert (found.idle_slots, found.prefix_waits) == (0, 1)

    scene.workload.on_steps(
        MODEL, [replace(STEP, waiting=3, waiting_for_prefix=2, running=1, decode_tokens=1)]
    )
    scene.minute()
    found = gathered(scene.sources())
    assert found.idle_slots == 0.75
    assert found.prefix_waits == pytest.approx(5 / 6)


def test_requests_that_had_to_give_up_their_cells_are_counted(scene: Scene) -> None:
    scene.request(1.0, 2.0)
    scene.workload.on_steps(MODEL, [replace(STEP, preemptions=2)])
    scene.minute()
    main = gathered(scene.sources()).main

    assert main is not None
    assert main.preemptions == 2


def test_failed_loads_are_counted_for_each_model(scene: Scene) -> None:
    for event in (
        ModelLoadFailed("big:latest", "out_of_memory"),
        ModelLoadFailed("big:latest", "bad_file"),
        ModelLoadFailed(MODEL, "out_of_memory"),
    ):
        scene.workload.on_model(event)
    found = gathered(scene.sources())

    assert found.failed_loads == {"big:latest": 1, MODEL: 1}
    assert (found.out_of_memory, found.main_failures) == (2, 1)


def test_models_that_could_be_loaded_are_counted(scene: Scene) -> None:
    (status,) = FakeRuntime().models()
    other = ModelStatus(replace(status.card, name="b"), "unloaded", None, None, None, 0, 0, 4)
    broken = ModelStatus(
        replace(status.card, name="c", problem="cut"), "unloaded", None, None, None, 0, 0, 4
    )

    assert gathered(scene.sources(models=[status, other, broken])).installed == 2


def test_reuse_is_missed_only_where_it_was_possible(scene: Scene) -> None:
    scene.request(0.0, 1.0)
    scene.workload.on_steps(MODEL, [replace(STEP, prefix_queried_tokens=100)])
    scene.minute()
    assert gathered(scene.sources()).missed == 0

    more = replace(STEP, prefix_queried_tokens=100, prefix_hit_tokens=20, prefix_reusable_tokens=80)
    scene.workload.on_steps(MODEL, [more])
    scene.minute()
    found = gathered(scene.sources())
    assert (found.missed, found.reusable) == (0.75, 0.4)


def test_without_traffic_nothing_is_known_of_it(scene: Scene) -> None:
    scene.minute()
    found = gathered(scene.sources())

    assert (found.requests, found.measured_at) == (0, None)
    assert {found.queue_share, found.idle_slots, found.missed, found.prefill_share} == {None}
    assert found.memory_available == 12 * GIB


def test_counters_of_the_machine_are_rates_of_what_they_grew_by(scene: Scene) -> None:
    assert scene.read.machine is not None
    scene.minute()
    scene.read.machine = replace(
        scene.read.machine, swap_in=600 * 4096, oom_kills={"host": 4, "cgroup": 0},
        pressure_seconds={("cpu", "some"): 80.0}, memory_available=GIB,
    )  # fmt: skip
    scene.minute()
    found = gathered(scene.sources())

    assert found.swap_in == pytest.approx(600 * 4096 / 120)
    assert found.stalled == pytest.approx(30 / 120)
    assert (found.out_of_memory, found.memory_available) == (1, GIB)


def test_the_latest_wakes_of_the_event_loop_are_estimated_from_buckets() -> None:
    assert quantile(0.99, {0.1: 990.0, 0.5: 1000.0, float("inf"): 1000.0}) == 0.1
    assert quantile(0.99, {0.1: 0.0, 0.5: 1000.0, float("inf"): 1000.0}) == pytest.approx(0.496)
    assert quantile(0.99, {0.1: 0.0, 0.5: 500.0, float("inf"): 1000.0}) == 0.5
    assert quantile(0.99, {0.1: 9.0, float("inf"): 9.0}) is None


def test_the_hundredth_request_is_the_one_that_may_be_longer() -> None:
    assert percentile(0.99, [*range(1, 100), 5000]) == 99
    assert percentile(0.99, [7]) == 7


def test_models_that_come_back_after_they_went_idle_are_counted(scene: Scene) -> None:
    for event in (
        ModelLoaded(MODEL, 1.0),
        ModelUnloaded(MODEL, "idle"),
        ModelLoaded(MODEL, 1.0),
        ModelUnloaded(MODEL, "evicted"),
        ModelLoaded(MODEL, 1.0),
    ):
        scene.workload.on_model(event)
    found = gathered(scene.sources())

    assert (found.reloads, found.reloaded) == (1, {MODEL: 1})
    assert (found.evictions, found.evicted) == (1, {MODEL: 1})
    scene.clock.now += 3601
    assert gathered(scene.sources()).evictions == 0


def test_other_settings_make_what_was_measured_void(scene: Scene) -> None:
    scene.request(1.0, 2.0)
    scene.workload.on_model(ModelUnloaded(MODEL, "evicted"))
    scene.minute()
    scene.intervals.forget()
    found = gathered(scene.sources())

    assert (found.requests, found.queue_share, found.evictions) == (0, None, 0)


def card(index: int, **changes: Any) -> GpuReading:
    base = GpuReading(
        index=index, uuid=f"GPU-{index}", temperature=50.0, power=30.0,
        memory=Memory(8 * GIB, 2 * GIB, 6 * GIB),
        throttle_seconds={"hw_thermal": 5.0, "sw_thermal": 5.0, "sw_power_cap": 5.0},
    )  # fmt: skip
    return replace(base, **changes)


def test_a_card_is_as_hot_and_slow_as_it_was_while_there_was_traffic(scene: Scene) -> None:
    scene.read.gpus = GpusReading((card(0), card(1, up=False)))
    scene.minute()
    scene.workload.on_steps(MODEL, [STEP])
    scene.read.gpus = GpusReading((card(0, temperature=90.0),))
    scene.intervals.tick()
    slow = {"hw_thermal": 11.0, "sw_thermal": 8.0, "sw_power_cap": 35.0}
    scene.read.gpus = GpusReading(
        (card(0, temperature=90.0, throttle_seconds=slow), card(1, up=False))
    )
    scene.minute()
    shown = Hardware(2, 2, 16 * GIB, 12 * GIB, scene.read.gpus.gpus[:1])
    first, lost = gathered(scene.sources(hardware=shown)).gpus

    assert (first.temperature, first.up, lost.up) == (90.0, True, False)
    assert first.throttled == pytest.approx(0.1)
    assert first.power_capped == pytest.approx(0.5)
    assert first.headroom == 0.75


PID = 4242


def loaded(pid: int | None, *devices: str, **facts: Any) -> ModelStatus:
    (status,) = FakeRuntime().models()
    assert status.facts is not None
    buffers = tuple(Buffer(device, "weights", GIB) for device in devices)
    told = replace(status.facts, **{"gpu_layers": 5, "buffers": buffers, **facts})
    return dataclasses.replace(status, facts=told, pid=pid)


@pytest.mark.parametrize(
    ("status", "cards"),
    [
        (loaded(PID, "CUDA0"), (7,)),  # The driver knows best.
        (loaded(1, "CPU_Mapped", "CUDA1"), (3,)),
        (loaded(None, "CUDA0", "CUDA1"), (7, 3)),
        (loaded(None), None),
        (loaded(None, "CPU_Mapped", gpu_layers=0), ()),
    ],
)
def test_a_model_is_on_the_cards_that_its_engine_has_memory_of(
    scene: Scene, status: ModelStatus, cards: tuple[int, ...] | None
) -> None:
    # An engine is shown the cards in another order than the driver counts them.
    shown = (card(7, processes=(ProcessMemory(PID, GIB),)), card(3, processes=()))
    if status.pid != PID:
        shown = (card(7), card(3))
    scene.read.gpus = GpusReading(shown[::-1])
    found = gathered(
        scene.sources(models=[status], hardware=Hardware(2, 2, 16 * GIB, 12 * GIB, shown))
    )

    assert found.main is not None
    assert found.main.cards == cards


def test_a_lost_card_is_as_it_was_when_it_was_seen_last(scene: Scene) -> None:
    both = (card(0), card(1, memory=Memory(8 * GIB, 8 * GIB, 0)))
    scene.read.gpus = GpusReading(both)
    before = gathered(scene.sources(hardware=Hardware(2, 2, 16 * GIB, 12 * GIB, both))).gpus
    for read in (
        GpusReading((both[0], GpuReading(index=1, uuid="GPU-1", up=False))),
        GpusReading(both[:1]),
    ):
        scene.read.gpus = read
        one = Hardware(2, 2, 16 * GIB, 12 * GIB, both[:1])
        found = gathered(scene.sources(hardware=one, before=before)).gpus

        assert [gpu.up for gpu in found] == [True, False]
        assert found[1] == replace(before[1], up=False)
    # It came back.
    scene.read.gpus = GpusReading(both)
    again = gathered(
        scene.sources(hardware=Hardware(2, 2, 16 * GIB, 12 * GIB, both), before=found)
    ).gpus
    assert again == before


def test_a_model_that_is_not_loaded_is_none(scene: Scene) -> None:
    (status,) = FakeRuntime().models()
    unloaded = ModelStatus(status.card, "unloaded", None, None, None, 0, 0, 4)

    assert gathered(scene.sources(models=[unloaded])).models == ()
