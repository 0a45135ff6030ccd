"""Is it up, busy, slow, hot, and which model is it?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

from grafana import health, links, variables
from grafana.actions import Actions
from grafana.page import Page, Row
from grafana.panels import NO_MODEL_ON_GPU, NOT_REPORTED, Query, gauge, series, stat, text
from grafana.queries import (
    MACHINE,
    MODEL,
    SERVICE,
    Source,
    highest,
    lowest,
    share,
    share_or_none,
    total,
)
from grafana.tables import Column, Labels, table
from grafana.thresholds import (
    BAD,
    ERROR_RATIO,
    FIRST_TOKEN_SECONDS,
    GOOD,
    GPU_CELSIUS,
    MEMORY_RATIO,
    ONE_WANTED,
    SCORE,
    WAITING,
    words,
)

ONE_LINE: Final = {"gpu": "GPU", "instance": "Machine"}
BY_GPU: Final = "instance, gpu"
GPU_LINKS: Final = {"GPU": [links.of_row("gpu", "gpu", "GPU")]}
MODEL_LINKS: Final = {"Model": [links.of_row("models", "model", "Model")]}


def page(actions: Actions) -> Page:
    return Page(
        uid=links.PAGES["overview"],
        title="LLM / Overview",
        description="Whether the service is healthy, busy, slow or hot, and which models it serves.",
        variables=[variables.gpu_instance(), variables.model()],
        rows=[
            Row("Now", now()),
            Row("Alerts and score", alerts()),
            Row("GPUs", gpus()),
            Row("Latency", latency()),
            Row("Throughput", throughput()),
            Row("Saturation", saturation()),
            Row("Active models", [active_models()]),
            Row("Health of the service and its host", health.panels(), collapsed=True),
        ],
    )


def now() -> list[sdk.Panel]:
    used, size = (total(MACHINE(f"llm_gpu_memory_{part}_bytes")) for part in ("used", "total"))
    every = total(SERVICE.rate("llm_requests_total"))
    failed = total(SERVICE.rate("llm_requests_total", 'code=~"5.."'))
    return [
        stat(
            "Ready",
            "1 where some model can serve. 0, or no answer at all, is an outage.",
            Query(lowest(SERVICE("llm_ready")) + " or vector(0)", "ready"),
            mapping=words({1: ("Healthy", GOOD), 0: ("Not ready", BAD)}),
            steps=ONE_WANTED, unit="none", w=3,
        ),
        stat(
            "Requests",
            "Inference requests answered in a second, of all dialects.",
            Query(every, "requests"), unit="reqps", w=3,
        ),
        stat(
            "Output",
            "Tokens generated in a second, of all requests together.",
            Query(total(SERVICE.rate("llm_generated_tokens_total")), "output"),
            unit="suffix: tok/s", w=3,
        ),
        stat(
            "Errors",
            "Requests answered with 5xx. Good is below 0.1 %; a refusal (4xx) is none.",
            Query(share_or_none(failed, every), "error"),
            unit="percentunit", steps=ERROR_RATIO, w=3,
        ),
        stat(
            "First token p95",
            "19 of 20 requests had their first token in this time. Good is below 2.5 s.",
            Query(SERVICE.quantile(0.95, "llm_time_to_first_token_seconds"), "p95"),
            unit="s", steps=FIRST_TOKEN_SECONDS, w=3,
        ),
        stat(
            "Requests now",
            "Running ones hold a slot. Waiting for long means that the slots do not suffice.",
            Query(total(SERVICE("llm_requests_running")), "running"),
            Query(total(SERVICE("llm_requests_waiting")), "waiting"),
            unit="none", steps=WAITING, w=3,
        ),
        stat(
            "Hottest GPU",
            "Good is below 80 °C; from 85 °C on the card is about to slow down.",
            Query(highest(MACHINE("llm_gpu_temperature_celsius")), "hottest"),
            unit="celsius", steps=GPU_CELSIUS, no_value=NOT_REPORTED, w=3,
        ),
        stat(
            "GPU memory",
            "In use of all cards together. Good is below 90 %: a load needs room.",
            Query(share(used, size), "used"),
            unit="percentunit", steps=MEMORY_RATIO, no_value=NOT_REPORTED, w=3,
        ),
    ]  # fmt: skip


def alerts() -> list[sdk.Panel]:
    named = "alertname, severity, alertstate, instance, model, gpu"
    firing = 'ALERTS{alertstate=~"firing|pending",alertname=~"LLM.+",alertname!="LLMWatchdog"}'
    return [
        table(
            "Alerts",
            "What fires, and what will if it lasts. Good is an empty table.",
            {"severity": "Severity", "alertname": "Alert", "alertstate": "State",
             "instance": "Instance", "model": "Model", "gpu": "GPU"},
            [Labels(highest(firing, named), {})],
            widths={"Alert": 230, "Severity": 90}, no_value="Nothing fires", w=14, h=6,
        ),
        gauge(
            "Optimisation score",
            "How well the hardware is used, of 100. Below 60 something is worth changing: see the "
            "dashboard Optimization.",
            Query(lowest(SERVICE("llm_optimization_score")), "score"),
            low=0, high=100, steps=SCORE, no_value="Not analysed yet", w=4, h=6,
        ),
        text(
            "What to do",
            "Each alert names its runbook, in `docs/runbooks.md` of the project.\n\n"
            "Values with a dashed underline lead to the dashboard of their GPU or model.\n\n"
            "What the panels show is explained behind the **i** of each.",
            w=6, h=6,
        ),
    ]  # fmt: skip


def gpus() -> list[sdk.Panel]:
    def of(family: str, more: str = "") -> str:
        return highest(MACHINE(family, more), BY_GPU)

    limit = of("llm_gpu_power_limit_watts", 'kind="enforced"')
    return [
        table(
            "Cards",
            "One line for each GPU. Good: below 80 °C, below its power limit, room in memory.",
            ONE_LINE,
            [
                Labels(highest(MACHINE("llm_gpu_info"), "instance, gpu, name"), {"name": "Card"}),
                Column("Busy", of("llm_gpu_utilization_ratio", 'engine="gpu"'), "percentunit", high=1),
                Column(
                    "Memory", share(of("llm_gpu_memory_used_bytes"), of("llm_gpu_memory_total_bytes")),
                    "percentunit", MEMORY_RATIO, high=1,
                ),
                Column("Temperature", of("llm_gpu_temperature_celsius"), "celsius", GPU_CELSIUS, high=100),
                Column("Power of limit", share(of("llm_gpu_power_watts"), limit), "percentunit", high=1),
                Column("Power", of("llm_gpu_power_watts"), "watt"),
            ],
            key_links=GPU_LINKS, sort_by="GPU", descending=False, no_value=NOT_REPORTED, h=7,
        ),
        series(
            "GPU utilisation",
            "Part of the time in which some kernel ran. High under load is good: it is what they are for.",
            Query(of("llm_gpu_utilization_ratio", 'engine="gpu"'), "GPU {{gpu}} {{instance}}"),
            unit="percentunit", low=0, high=1, no_value=NOT_REPORTED,
            links=[links.of_series("gpu", "gpu")], w=12,
        ),
        series(
            "GPU memory by model",
            "Memory of each model's engine, by the driver or, in a container, by llama.cpp. Steps are loads and unloads.",
            Query(total(SERVICE("llm_model_memory_bytes"), "model, device"), "{{model}} {{device}}"),
            stacked=True, unit="bytes", no_value=NO_MODEL_ON_GPU,
            links=[links.of_series("models", "model")], w=12,
        ),
    ]  # fmt: skip


def quantiles(title: str, about: str, family: str, source: Source = SERVICE) -> sdk.Panel:
    return series(
        title,
        about,
        *[
            Query(source.quantile(q, family), f"p{q * 100:.0f}", exemplars=q == 0.95)
            for q in (0.5, 0.95, 0.99)
        ],
        unit="s",
        w=6,
    )


def latency() -> list[sdk.Panel]:
    def phase(family: str) -> str:
        return MODEL.mean(family)

    return [
        quantiles(
            "First token",
            "From a request's arrival. Good is a p95 below 2.5 s; points lead to single requests.",
            "llm_time_to_first_token_seconds",
        ),
        quantiles(
            "Between tokens",
            "The gap that a reader feels. Good is a p95 below 0.2 s.",
            "llm_inter_token_latency_seconds",
            MODEL,
        ),
        quantiles(
            "Whole request",
            "From arrival to the last byte: long answers take long, and that is no fault.",
            "llm_request_duration_seconds",
        ),
        series(
            "Where the time goes",
            "Mean time of a request. Queue above all: more slots; prefill: prompts; decode: answers.",
            Query(phase("llm_request_queue_seconds"), "queue"),
            Query(phase("llm_request_prefill_seconds"), "prefill"),
            Query(phase("llm_request_decode_seconds"), "decode"),
            stacked=True, unit="s", w=6,
        ),
    ]  # fmt: skip


def throughput() -> list[sdk.Panel]:
    return [
        series(
            "Tokens",
            "Prompt tokens that were computed, those that the prefix cache had, and output.",
            Query(total(SERVICE.rate("llm_prompt_tokens_total"), "source"), "{{source}}"),
            Query(total(SERVICE.rate("llm_generated_tokens_total")), "output"),
            Query(total(SERVICE.rate("llm_reasoning_tokens_total")), "thoughts"),
            names=("computed", "cached"), unit="suffix: tok/s",
        ),
        series(
            "Answers by how they ended",
            "`stop` is the model's own end. Many of `length` are cut short; `error` should be none.",
            Query(total(SERVICE.rate("llm_requests_finished_total"), "finish_reason"), "{{finish_reason}}"),
            names=("stop", "length", "error", "cancelled", "timeout"), stacked=True, unit="reqps",
        ),
        series(
            "Refusals by reason",
            "Good is none. `queue_full` and `queue_timeout` are load, the rest is what was asked.",
            Query(SERVICE.occurred("llm_requests_rejected_total", "reason"), "{{reason}}"),
            stacked=True, unit="reqps", no_value="None",
        ),
    ]  # fmt: skip


def saturation() -> list[sdk.Panel]:
    return [
        series(
            "Queues",
            "Good: waiting stays far below capacity, above which requests are refused.",
            Query(total(SERVICE("llm_requests_running")), "running"),
            Query(total(SERVICE("llm_requests_waiting")), "waiting"),
            Query(total(SERVICE("llm_queue_capacity_requests")), "capacity"),
            unit="none",
        ),
        series(
            "KV cache in use",
            "Kept prefixes included, so that full is no fault by itself; preemptions are.",
            Query(highest(MODEL("llm_kv_cache_usage_ratio"), "model"), "{{model}}"),
            unit="percentunit", low=0, high=1, links=[links.of_series("models", "model")],
            no_value="No model is loaded",
        ),
        series(
            "Slots in use",
            "Mean part of a model's slots that computed. At 100 % others wait.",
            Query(
                share(
                    total(MODEL.rate("llm_engine_slot_busy_seconds_total"), "model"),
                    total(MODEL("llm_engine_slots"), "model"),
                ),
                "{{model}}",
            ),
            unit="percentunit", low=0, links=[links.of_series("models", "model")],
            no_value="No model is loaded",
        ),
    ]  # fmt: skip


def active_models() -> sdk.Panel:
    def of(expr: str) -> str:
        return highest(expr, "model")

    loaded = f"({of(MODEL('llm_model_loaded'))} > 0)"
    return table(
        "Models in memory",
        "Those that are loaded. Good: the ones that are asked for.",
        {"model": "Model"},
        [
            Column("Loaded", loaded, mapping=words({1: ("yes", GOOD)})),
            Labels(
                f"{highest(MODEL('llm_model_info'), 'model, quantization')} and on (model) {loaded}",
                {"quantization": "Quantization"},
            ),
            Column("Context", of(MODEL("llm_model_context_tokens", 'kind="configured"')), "locale"),
            Column("Used", f"time() - {of(MODEL('llm_model_last_used_timestamp_seconds'))}", "s"),
            Column("Output", total(MODEL.rate("llm_generated_tokens_total"), "model"), "suffix: tok/s"),
            Column("Requests", f"60 * {total(MODEL.rate('llm_requests_total'), 'model')}", "suffix: /min", decimals=1),
        ],
        key_links=MODEL_LINKS, sort_by="Used", descending=False, no_value="No model is loaded", h=6,
    )  # fmt: skip
