"""Which models, how fast, how well do they fit, and are their contexts right?"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as sdk

from grafana import links, variables
from grafana.actions import Actions
from grafana.page import Page, Row
from grafana.panels import Query, heatmap, series, stat, timeline
from grafana.queries import MODEL, SERVICE, highest, share, total
from grafana.tables import Column, Labels, table
from grafana.thresholds import (
    CACHE_RATIO,
    FIRST_TOKEN_SECONDS,
    GOOD,
    NONE_WANTED,
    PER_TOKEN_SECONDS,
    QUIET,
    words,
)

NAME = "{{model}}"
NOT_LOADED = "No model is loaded"


def of(family: str, more: str = "") -> str:
    return highest(MODEL(family, more), "model")


def rate_of(family: str, more: str = "") -> str:
    return total(MODEL.rate(family, more), "model")


def page(actions: Actions) -> Page:
    return Page(
        uid=links.PAGES["models"],
        title="LLM / Models",
        description="Each model's speed, loads, context, caches and memory.",
        variables=[variables.model()],
        rows=[
            Row("Now", now()),
            Row("Fleet", [fleet()]),
            Row("Speed", speed()),
            Row("Loading", loading()),
            Row("Context", context()),
            Row("Cache", cache()),
            Row("Memory", memory()),
            Row("Engine", engine(), collapsed=True),
            Row("Energy", energy(), collapsed=True),
        ],
    )


def now() -> list[sdk.Panel]:
    return [
        stat(
            "Found",
            "Models in all the places that are looked in.",
            Query(total(SERVICE("llm_models_discovered")), "found"), w=6,
        ),
        stat(
            "Loaded",
            "In memory. Good: those that are in use.",
            Query(total(SERVICE("llm_model_loaded")), "loaded"), w=6,
        ),
        stat(
            "Loads that failed, 24 hours",
            "Good is none; the row Loading says why.",
            Query(total(SERVICE.increase("llm_model_load_failures_total", over="24h")), "failed"),
            steps=NONE_WANTED, decimals=0, w=6,
        ),
        stat(
            "Evicted, 1 hour",
            "Models that had to go for others. Many mean that models take turns: more memory, fewer models.",
            Query(total(SERVICE.increase("llm_model_unloads_total", 'reason="evicted"', over="1h")), "evicted"),
            decimals=0, w=6,
        ),
    ]  # fmt: skip


def fleet() -> sdk.Panel:
    titles = {"architecture": "Architecture", "quantization": "Quantization", "parameter_size": "Parameters", "engine": "llama.cpp"}  # fmt: skip
    known = [name for name in titles if name != "engine"]
    shares = [
        Column("Trained for", of("llm_model_context_tokens", 'kind="trained"'), "locale"),
        Column("Context", of("llm_model_context_tokens", 'kind="configured"'), "locale"),
        Column("Of one request", of("llm_model_context_tokens", 'kind="reported"'), "locale"),
    ]
    return table(
        "Models",
        "One line for each. Good: the context of one request is what the model was trained for, or "
        "was lowered on purpose; all layers are on GPUs where there are some.",
        {"model": "Model"},
        [
            Labels(
                highest(MODEL("llm_model_info"), ", ".join(["model", *known])),
                {name: titles[name] for name in known},
            ),
            Column("Loaded", of("llm_model_loaded"), mapping=words({1: ("yes", GOOD), 0: ("no", QUIET)})),
            Column("Size", of("llm_model_size_bytes"), "bytes"),
            Column("Weights", of("llm_model_parameters"), "short"),
            *shares,
            Column("Layers on GPUs", share(of("llm_model_gpu_layers"), of("llm_model_layers")), "percentunit"),
            Column("Requests", f"3600 * {rate_of('llm_requests_total')}", "suffix: /h", decimals=0),
            Column("Output", rate_of("llm_generated_tokens_total"), "suffix: tok/s"),
            Column("First token p95", MODEL.quantile(0.95, "llm_time_to_first_token_seconds", "model"), "s", FIRST_TOKEN_SECONDS),
            Column("Token p95", MODEL.quantile(0.95, "llm_time_per_output_token_seconds", "model"), "s", PER_TOKEN_SECONDS),
            Column("Idle", f"time() - {of('llm_model_last_used_timestamp_seconds')}", "s"),
            Labels(highest(MODEL("llm_engine_info"), "model, llama_cpp"), {"llama_cpp": titles["engine"]}),
        ],
        key_links={"Model": [links.of_row("models", "model", "Model")]},
        sort_by="Output", no_value="No model was found", h=9,
    )  # fmt: skip


def speed() -> list[sdk.Panel]:
    return [
        series(
            "Decode speed of one answer",
            "Tokens a second that half of the answers had at least. Falls as more run side by side.",
            Query(f"1 / {MODEL.quantile(0.5, 'llm_time_per_output_token_seconds', 'model')}", NAME),
            unit="suffix: tok/s",
        ),
        series(
            "Prefill speed",
            "Prompt tokens computed for each second that requests spent on it.",
            Query(share(rate_of("llm_prompt_tokens_total", 'source="computed"'), rate_of("llm_request_prefill_seconds_sum")), NAME),
            unit="suffix: tok/s",
        ),
        series(
            "First token p95",
            "Good is below 2.5 s.",
            Query(MODEL.quantile(0.95, "llm_time_to_first_token_seconds", "model"), NAME, exemplars=True),
            unit="s", steps=FIRST_TOKEN_SECONDS, limits=True,
        ),
        series(
            "Token p95",
            "Mean gap between an answer's tokens, once for each answer. Good is below 0.2 s.",
            Query(MODEL.quantile(0.95, "llm_time_per_output_token_seconds", "model"), NAME),
            unit="s", steps=PER_TOKEN_SECONDS, limits=True,
        ),
        heatmap(
            "First token",
            "Two bands are two kinds of requests, such as those whose prompt was cached.",
            total(MODEL.rate("llm_time_to_first_token_seconds_bucket"), "le"),
            unit="s", w=16,
        ),
    ]  # fmt: skip


def loading() -> list[sdk.Panel]:
    return [
        timeline(
            "In memory",
            "Good: long bars. Many short ones are models that take turns.",
            Query(of("llm_model_loaded"), NAME),
            steps=((None, QUIET), (1, GOOD)), mapping=words({0: ("not loaded", QUIET), 1: ("loaded", GOOD)}), w=6,
        ),
        series(
            "Time of a load p95",
            "From the start of the engine until it serves, of the last hour.",
            Query(MODEL.quantile(0.95, "llm_model_load_seconds", "model", over="1h"), NAME),
            unit="s", no_value="Nothing was loaded", w=6,
        ),
        series(
            "Loads, unloads and failures",
            "In each interval, with reasons. Good: no failure, few evictions.",
            Query(total(MODEL.increase("llm_model_loads_total"), "model"), NAME + " loaded"),
            Query(total(MODEL.increase("llm_model_unloads_total"), "model, reason") + " > 0", NAME + " {{reason}}"),
            Query(total(MODEL.increase("llm_model_load_failures_total"), "model, reason") + " > 0", NAME + " failed: {{reason}}"),
            decimals=0, w=6,
        ),
        timeline(
            "Engine processes",
            "1 while the process serves. A short gap is a crash that was mended.",
            Query(of("llm_engine_up"), NAME),
            steps=((None, "red"), (1, GOOD)), mapping=words({0: ("down", "red"), 1: ("up", GOOD)}),
            no_value=NOT_LOADED, w=6,
        ),
    ]  # fmt: skip


def context() -> list[sdk.Panel]:
    lengths = [
        Query(MODEL.quantile(q, family, "model", over="1h"), f"{NAME} {word} p{q * 100:.0f}")
        for family, word in (
            ("llm_request_prompt_tokens", "prompt"),
            ("llm_request_output_tokens", "answer"),
        )
        for q in (0.5, 0.99)
    ]
    return [
        series(
            "Lengths beside the context",
            "Of the last hour. Prompts near the context: raise it. Far below: memory that caches could have.",
            *lengths,
            Query(of("llm_model_context_tokens", 'kind="reported"'), NAME + " context"),
            unit="suffix: tok",
        ),
        series(
            "Longest answer asked for p95",
            "`max_tokens` of requests, of the last hour. Far above real answers, it reserves for nothing.",
            Query(MODEL.quantile(0.95, "llm_request_max_tokens", "model", over="1h"), NAME),
            unit="suffix: tok",
        ),
        series(
            "Prompts that did not fit",
            "By what was done. Good is none.",
            Query(total(MODEL.rate("llm_context_overflow_total"), "model, action"), NAME + " {{action}}"),
            unit="reqps",
        ),
    ]  # fmt: skip


def cache() -> list[sdk.Panel]:
    return [
        series(
            "Prompt tokens from the cache",
            "Part that was not computed again. Good for chats and shared system prompts is above 50 %.",
            Query(share(rate_of("llm_prefix_cache_hit_tokens_total"), rate_of("llm_prefix_cache_queried_tokens_total")), NAME),
            unit="percentunit", low=0, high=1, w=6,
        ),
        series(
            "KV cells",
            "In use, kept prefixes included, and all that there are.",
            Query(of("llm_kv_cache_tokens"), NAME + " used"),
            Query(of("llm_kv_cache_capacity_tokens"), NAME + " cells"),
            unit="suffix: tok", no_value=NOT_LOADED, w=6,
        ),
        series(
            "KV cells in use",
            "Above 95 % kept prefixes go; preempted requests are computed again.",
            Query(of("llm_kv_cache_usage_ratio"), NAME),
            unit="percentunit", low=0, high=1, steps=CACHE_RATIO, limits=True, no_value=NOT_LOADED,
            w=6,
        ),
        series(
            "Sequences whose cells were taken",
            "`reclaimed` is a kept prefix, which is usual; `preempted` was running, which is not good.",
            Query(total(MODEL.rate("llm_kv_evictions_total"), "model, reason"), NAME + " {{reason}}"),
            unit="cps", w=6,
        ),
    ]  # fmt: skip


def memory() -> list[sdk.Panel]:
    return [
        series(
            "Memory by device and use",
            "Weights, KV cells and buffers to compute in, as llama.cpp says.",
            Query(total(MODEL("llm_model_buffer_bytes"), "device, kind"), "{{device}} {{kind}}"),
            stacked=True, unit="bytes", no_value=NOT_LOADED, w=12,
        ),
        series(
            "GPU memory of engines",
            "All of it by the driver, in a container what llama.cpp says that it took; and the part for sequences.",
            Query(total(MODEL("llm_model_memory_bytes"), "model, device"), NAME + " {{device}}"),
            Query(total(MODEL("llm_kv_cache_bytes"), "model, device"), NAME + " {{device}} sequences"),
            unit="bytes", no_value=NOT_LOADED, w=12,
        ),
    ]  # fmt: skip


def engine() -> list[sdk.Panel]:
    return [
        series(
            "Steps",
            "Calls of llama.cpp, by phase. None while requests run is an engine that is stuck.",
            Query(total(MODEL.rate("llm_engine_steps_total"), "phase"), "{{phase}}"),
            names=("prefill", "decode"), unit="cps",
        ),
        series(
            "Time of a step p95",
            "A long prefill step holds up running answers.",
            Query(MODEL.quantile(0.95, "llm_engine_step_seconds", "phase"), "{{phase}}"),
            names=("prefill", "decode"), unit="s",
        ),
        series(
            "Tokens of a step",
            "Mean. More tokens a step is better use of the hardware.",
            Query(MODEL.mean("llm_engine_step_tokens", "model"), NAME),
            unit="suffix: tok",
        ),
        series(
            "Slots in use at the last step",
            "Of all slots.",
            Query(of("llm_engine_batch_occupancy_ratio"), NAME),
            unit="percentunit", low=0, high=1, no_value=NOT_LOADED,
        ),
        series(
            "Time of a step outside llama.cpp",
            "Mean. Good is below 1 ms.",
            Query(MODEL.mean("llm_engine_overhead_seconds", "model"), NAME),
            unit="s",
        ),
    ]  # fmt: skip


def energy() -> list[sdk.Panel]:
    spent = total(MODEL.rate("llm_model_energy_joules_total", over="15m"), "model")
    cost = total(MODEL.rate("llm_model_energy_cost_total", over="15m"), "model")
    output = total(MODEL.rate("llm_generated_tokens_total", over="15m"), "model")
    return [
        series(
            "Energy of a token",
            "Of 15 minutes. Less is better. Nothing where no card tells its power, and in a container while one is lost or divided (MIG): whose it is is not known then.",
            Query(share(spent, output), NAME),
            unit="joule", no_value="None that is known to be a model's", w=12,
        ),
        series(
            "Cost of a million tokens",
            "Of 15 minutes, in the currency of the setting `price_per_kwh`.",
            Query(f"1e6 * {share(cost, output)}", NAME),
            no_value="No price_per_kwh, or no energy that is known to be a model's", w=12,
        ),
    ]  # fmt: skip
