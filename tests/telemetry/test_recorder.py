from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.events import FinishReason, Timings, Usage
from service.stats import (
    ModelEvent,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    RequestStats,
    StepStats,
)
from service.telemetry.recorder import MAX_MODELS, Recorder


def new() -> Recorder:
    return Recorder(CollectorRegistry(), ("openai",), lambda: 1000.0)


def value(recorder: Recorder, name: str, **labels: str) -> float | None:
    return recorder.registry.get_sample_value(name, labels)


def step(**given: Any) -> StepStats:
    return StepStats(
        **{
            "number": 1,
            "phase": "decode",
            "decode_seconds": 0.02,
            "overhead_seconds": 0.005,
            "prefill_tokens": 0,
            "decode_tokens": 2,
            "running": 2,
            "waiting": 0,
            "kv_tokens": 100,
            "step_seconds": 0.03,
            **given,
        }
    )


def request(**given: Any) -> RequestStats:
    return RequestStats(
        **{
            "id": "r1",
            "model": "m",
            "dialect": "openai",
            "endpoint": "/v1/chat/completions",
            "stream": True,
            "reason": FinishReason.STOP,
            "arrived": 1.0,
            "ended": 4.0,
            "max_tokens": 50,
            "usage": Usage(10, 4, 5, 2),
            "timings": Timings(1.5, 1.75, 2.0, 3.0, 3.0),
            **given,
        }
    )


def test_a_step_is_counted_by_phase_with_its_tokens_and_times() -> None:
    recorder = new()
    recorder.on_steps("m", [step(phase="mixed", prefill_tokens=30, decode_tokens=2)])

    assert value(recorder, "llm_engine_steps_total", model="m", phase="mixed") == 1
    assert value(recorder, "llm_engine_steps_total", model="m", phase="decode") == 0
    assert value(recorder, "llm_engine_step_seconds_sum", model="m", phase="mixed") == 0.02
    assert value(recorder, "llm_engine_overhead_seconds_sum", model="m") == 0.005
    assert value(recorder, "llm_engine_step_tokens_sum", model="m") == 32
    assert value(recorder, "llm_engine_slot_busy_seconds_total", model="m") == 0.06


def test_a_step_brings_its_gaps_and_its_cache_figures() -> None:
    recorder = new()
    recorder.on_steps(
        "m",
        [
            step(
                inter_token_seconds=(0.02, 0.03),
                prefix_queried_tokens=20,
                prefix_hit_tokens=16,
                evictions=1,
                preemptions=2,
            )
        ],
    )

    assert value(recorder, "llm_inter_token_latency_seconds_count", model="m") == 2
    assert value(recorder, "llm_prefix_cache_queried_tokens_total", model="m") == 20
    assert value(recorder, "llm_prefix_cache_hit_tokens_total", model="m") == 16
    assert value(recorder, "llm_kv_evictions_total", model="m", reason="reclaimed") == 1
    assert value(recorder, "llm_kv_evictions_total", model="m", reason="preempted") == 2


def test_an_idle_step_only_says_how_things_stand() -> None:
    recorder = new()
    recorder.on_steps("m", [step()])
    recorder.on_steps("m", [step(phase="idle", running=0)])

    assert value(recorder, "llm_engine_steps_total", model="m", phase="decode") == 1
    assert recorder.latest_steps["m"].running == 0


def test_a_request_is_divided_into_queue_prefill_and_decode() -> None:
    recorder = new()
    recorder.on_finish(request())
    both = {"api": "openai", "model": "m"}

    assert value(recorder, "llm_request_queue_seconds_sum", **both) == 0.25
    assert value(recorder, "llm_request_prefill_seconds_sum", model="m") == 0.25
    assert value(recorder, "llm_request_decode_seconds_sum", model="m") == 1.0
    assert value(recorder, "llm_time_to_first_token_seconds_sum", **both) == 1.0
    assert value(recorder, "llm_time_per_output_token_seconds_sum", **both) == 0.25
    assert recorder.last_used == {"m": 1000.0}


def test_cached_and_computed_are_the_prompt() -> None:
    recorder = new()
    recorder.on_finish(request())
    both = {"api": "openai", "model": "m"}

    assert value(recorder, "llm_prompt_tokens_total", **both, source="cached") == 4
    assert value(recorder, "llm_prompt_tokens_total", **both, source="computed") == 6
    assert value(recorder, "llm_request_prompt_tokens_sum", **both) == 10
    assert value(recorder, "llm_generated_tokens_total", **both) == 5
    assert value(recorder, "llm_reasoning_tokens_total", **both) == 2
    assert value(recorder, "llm_request_max_tokens_sum", model="m") == 50


@pytest.mark.parametrize("reason", FinishReason)
def test_every_way_to_end_is_counted_from_zero(reason: FinishReason) -> None:
    recorder = new()
    recorder.expect("m")
    labels = {"api": "openai", "model": "m", "finish_reason": reason.value}
    assert value(recorder, "llm_requests_finished_total", **labels) == 0

    recorder.on_finish(request(reason=reason))

    assert value(recorder, "llm_requests_finished_total", **labels) == 1


@pytest.mark.parametrize(
    "timings",
    [None, Timings(1.0), Timings(1.0, 1.5), Timings(1.0, 1.5, 2.0)],
    ids=["none", "queued", "scheduled", "first token"],
)
def test_a_request_that_ended_early_has_only_what_it_reached(timings: Timings | None) -> None:
    recorder = new()
    recorder.on_finish(request(timings=timings, usage=None))
    reached = timings is not None and timings.first_token is not None

    both = {"api": "openai", "model": "m"}
    assert value(recorder, "llm_time_to_first_token_seconds_count", **both) == float(reached)
    assert value(recorder, "llm_request_decode_seconds_count", model="m") == 0


def test_one_token_has_no_gap() -> None:
    recorder = new()
    recorder.on_finish(request(usage=Usage(10, 0, 1)))

    both = {"api": "openai", "model": "m"}
    assert value(recorder, "llm_time_per_output_token_seconds_count", **both) == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [("invalid_request", "invalid"), ("queue_full", "queue_full"),
     ("context_length_exceeded", "context_overflow")],
)  # fmt: skip
def test_a_refusal_is_counted_by_reason(code: str, reason: str) -> None:
    recorder = new()
    recorder.on_rejection("openai", "m", code)

    labels = {"api": "openai", "model": "m", "reason": reason}
    assert value(recorder, "llm_requests_rejected_total", **labels) == 1


def test_a_failure_is_no_refusal() -> None:
    recorder = new()
    recorder.on_rejection("openai", "m", "engine_failed")

    samples = [s.value for m in recorder.registry.collect() if m.name == "llm_requests_rejected"
               for s in m.samples]  # fmt: skip
    assert samples
    assert not any(samples)


def test_prompts_that_were_cut_or_refused_are_counted_from_zero() -> None:
    recorder = new()
    recorder.expect("m")
    name, both = "llm_context_overflow_total", {"api": "openai", "model": "m"}
    assert [value(recorder, name, **both, action=a) for a in ("truncated", "rejected")] == [0, 0]

    recorder.on_finish(request())
    recorder.on_finish(request(cut_tokens=9))
    assert [value(recorder, name, **both, action=a) for a in ("truncated", "rejected")] == [1, 0]

    recorder.on_rejection("openai", "m", "context_length_exceeded")
    assert [value(recorder, name, **both, action=a) for a in ("truncated", "rejected")] == [1, 1]


def test_models_beyond_the_limit_share_one_label() -> None:
    recorder = new()
    for n in range(MAX_MODELS + 5):
        recorder.on_finish(request(model=f"m{n}"))

    def count(model: str) -> float | None:
        return value(recorder, "llm_generated_tokens_total", api="openai", model=model)

    assert count(f"m{MAX_MODELS - 1}") == 5
    assert count(f"m{MAX_MODELS}") is None
    assert count("_other") == 25
    assert value(recorder, "llm_metrics_label_overflow_total", label="model") == 5


async def test_a_busy_loop_is_seen_as_lag() -> None:
    recorder = new()
    sampling = asyncio.create_task(recorder.sample_loop_lag(0.01))
    await asyncio.sleep(0.03)
    time.sleep(0.1)  # noqa: ASYNC251  what the metric is there to find
    await asyncio.sleep(0.02)
    sampling.cancel()

    total = value(recorder, "llm_event_loop_lag_seconds_sum")
    assert total is not None
    assert total > 0.08


def test_a_step_of_eight_sequences_is_recorded_in_the_time_of_a_blink() -> None:
    recorder = new()
    stats = step(inter_token_seconds=(0.01,) * 8)
    recorder.on_steps("m", [stats])
    started = time.thread_time()
    for _ in range(1000):
        recorder.on_steps("m", [stats])

    assert (time.thread_time() - started) / 1000 < 0.0005


def test_what_becomes_of_models_is_counted() -> None:
    recorder = new()
    events: list[ModelEvent] = [
        ModelLoaded("m", 1.5),
        ModelUnloaded("m", "idle"),
        ModelLoaded("m", 0.2),
        ModelLoadFailed("broken", "bad_file"),
    ]
    for event in events:
        recorder.on_model(event)

    assert value(recorder, "llm_model_loads_total", model="m") == 2
    assert value(recorder, "llm_model_load_seconds_sum", model="m") == pytest.approx(1.7)
    assert value(recorder, "llm_model_unloads_total", model="m", reason="idle") == 1
    assert value(recorder, "llm_model_unloads_total", model="m", reason="evicted") == 0
    failures = "llm_model_load_failures_total"
    assert value(recorder, failures, model="broken", reason="bad_file") == 1


def test_failed_loads_of_what_was_never_loaded_are_counted_from_zero() -> None:
    recorder = new()
    recorder.know(["a", "b"])
    recorder.know(["b", "c"])
    failures = "llm_model_load_failures_total"
    for model in "abc":
        assert value(recorder, failures, model=model, reason="out_of_memory") == 0
    assert value(recorder, "llm_model_loads_total", model="a") is None

    recorder.on_model(ModelLoadFailed("a", "out_of_memory"))
    assert value(recorder, failures, model="a", reason="out_of_memory") == 1


def test_models_that_nobody_uses_take_no_label_from_those_that_are_used() -> None:
    recorder = new()
    few, many = ([f"{kind}{n}" for n in range(MAX_MODELS)] for kind in ("few", "many"))
    recorder.know(few)
    recorder.know(many)
    for model in many:
        recorder.expect(model)

    failures = "llm_model_load_failures_total"
    assert value(recorder, failures, model=few[0], reason="timeout") == 0
    assert value(recorder, failures, model=many[-1], reason="timeout") == 0
    assert value(recorder, failures, model="_other", reason="timeout") is None
    assert value(recorder, "llm_metrics_label_overflow_total", label="model") == 0
