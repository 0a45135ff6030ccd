"""What is configured, when did it change, and what did it do?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

from grafana import links, variables
from grafana.actions import Actions
from grafana.page import Page, Row
from grafana.panels import NO_MODEL_ON_GPU, NOT_REPORTED, Query, bars, series, stat, text
from grafana.queries import MACHINE, SERVICE, highest, lowest, share, total
from grafana.tables import Column, Labels, table
from grafana.thresholds import (
    BAD,
    FIRST_TOKEN_SECONDS,
    GOOD,
    GPU_CELSIUS,
    MEMORY_RATIO,
    NONE_WANTED,
    ONE_WANTED,
    WARNING,
    words,
)

# family → title, unit
SETTINGS: Final = {
    "llm_config_context_tokens": ("Context", "suffix: tok"),
    "llm_config_parallel_slots": ("Slots", "none"),
    "llm_config_batch_tokens": ("Batch", "suffix: tok"),
    "llm_config_gpu_layers": ("Layers on GPUs", "none"),
    "llm_config_threads": ("Threads", "none"),
    "llm_config_queue_requests": ("Queue", "none"),
    "llm_config_loaded_models": ("Models in memory", "none"),
    "llm_config_queue_timeout_seconds": ("Longest wait", "s"),
    "llm_config_request_timeout_seconds": ("Longest request", "s"),
    "llm_config_keep_alive_seconds": ("Idle models stay", "s"),
}
WORDS: Final = {
    "preset": "Preset", "split_mode": "Split", "cache_type_k": "Keys", "cache_type_v": "Values",
    "flash_attention": "Flash attention", "kv_cache": "KV layout", "hash_shared": "Shared hash",
}  # fmt: skip
PRESETS: Final = ("performance", "balanced", "conservative")
CONFIGURE: Final = "/api/dashboard/configure"

HOW_TO: Final = f"""\
`GET {CONFIGURE}` has what is in force, and what each setting may be. To change it, from the machine of the service:

```
curl http://127.0.0.1:11436{CONFIGURE} -H 'Content-Type: application/json' -d '{{"preset": "balanced"}}'
```

Presets: {", ".join(f"`{name}`" for name in PRESETS)}. `make dashboards ARGS="--actions URL"` puts buttons here."""


def page(actions: Actions) -> Page:
    return Page(
        uid=links.PAGES["config"],
        title="LLM / Configuration",
        description="What is in force, when it changed, and what the change did.",
        variables=[variables.gpu_instance()],
        rows=[
            Row("Now", now(actions)),
            Row("Settings", settings()),
            Row("Split over GPUs", split()),
            Row("Validation", validation()),
            Row("Effect", effect()),
            Row("History", history()),
            Row("How to change it", [text("How to change it", HOW_TO, w=24, h=8)], collapsed=True),
        ],
    )


def now(actions: Actions) -> list[sdk.Panel]:
    since = highest(SERVICE("llm_config_last_reload_timestamp_seconds"))
    buttons = [
        button
        for name in PRESETS
        for button in actions.post(
            f"Apply the preset {name}",
            CONFIGURE,
            {"preset": name},
            f"Apply the preset {name}? Models may be loaded anew; running requests finish.",
        )
    ]
    return [
        stat(
            "Last change",
            "Whether it is in force. If it failed, the service goes on as it was before.",
            Query(lowest(SERVICE("llm_config_last_reload_successful")), "last change"),
            mapping=words({1: ("In force", GOOD), 0: ("FAILED, running the previous one", BAD)}),
            steps=ONE_WANTED, no_value="Not told", actions=buttons, w=6,
        ),
        stat(
            "Since then",
            "Time since the configuration changed last, or was read at start.",
            Query(f"time() - {since}", "since"), unit="s", no_value="Not told", w=6,
        ),
        stat(
            "Waiting for a restart",
            "Settings that were changed and are read at start only. Good is none.",
            Query(highest(SERVICE("llm_config_pending_settings")), "waiting"),
            steps=((None, GOOD), (1, WARNING)), no_value="Not told", w=6,
        ),
        stat(
            "Changes in 24 hours",
            "By where they came from.",
            Query(total(SERVICE.increase("llm_config_changes_total", over="24h"), "source"), "{{source}}"),
            decimals=0, no_value="None", w=6,
        ),
    ]  # fmt: skip


def settings() -> list[sdk.Panel]:
    return [
        table(
            "Words",
            "Settings that are no numbers. Two services of one fleet should have the same shared hash, which leaves out what is of one place: addresses and directories.",
            {"instance": "Instance"},
            [
                Labels(highest(SERVICE("llm_config_info"), ", ".join(["instance", *WORDS])), WORDS),
                Labels(highest(SERVICE("llm_build_info"), "instance, version, python"), {"version": "Service", "python": "Python"}),
                Column("Version", highest(SERVICE("llm_config_version"), "instance")),
            ],
            h=5,
        ),
        table(
            "Numbers",
            "What the operator said. Empty is left to the engine, whose choice is on the dashboard Models.",
            {"instance": "Instance"},
            [
                Column(title, highest(SERVICE(family), "instance"), unit)
                for family, (title, unit) in SETTINGS.items()
            ],
            no_value="Left to the engine", h=5,
        ),
    ]  # fmt: skip


def split() -> list[sdk.Panel]:
    used = SERVICE("llm_model_memory_bytes", 'device=~"gpu.+"')
    return [
        bars(
            "Share of each GPU",
            "Configured, and of the memory in use. Configured is empty where it is by free memory.",
            Query(highest(SERVICE("llm_config_tensor_split_ratio"), "gpu"), "GPU {{gpu}} configured"),
            Query(f"{total(used, 'device')} / on () group_left () ({total(used)} > 0)", "{{device}} in use"),
            unit="percentunit", low=0, high=1, no_value=NO_MODEL_ON_GPU,
        ),
        bars(
            "Temperature",
            "A hotter card is one to give less.",
            Query(highest(MACHINE("llm_gpu_temperature_celsius"), "gpu"), "GPU {{gpu}}"),
            unit="celsius", low=0, high=100, steps=GPU_CELSIUS, no_value=NOT_REPORTED,
            links=[links.of_series("gpu", "gpu")],
        ),
        bars(
            "Free memory",
            "What a card could still take.",
            Query(highest(MACHINE("llm_gpu_memory_free_bytes"), "gpu"), "GPU {{gpu}}"),
            unit="bytes", low=0, no_value=NOT_REPORTED, links=[links.of_series("gpu", "gpu")],
        ),
    ]  # fmt: skip


def validation() -> list[sdk.Panel]:
    predicted = SERVICE("llm_config_predicted_vram_bytes")
    taken = SERVICE("llm_model_memory_bytes", 'device=~"gpu.+"')
    return [
        series(
            "GPU memory: predicted and taken",
            "What the models that are loaded should take by the estimate that loads are placed by, and what they do. Good: near each other.",
            Query(total(predicted, "gpu"), "GPU {{gpu}} predicted"),
            Query(total(taken, "device"), "{{device}} taken"),
            unit="bytes", no_value=NO_MODEL_ON_GPU, w=12,
        ),
        bars(
            "Predicted, of the card",
            "All memory of each card is the whole. Good is below 90 %: other programs and CUDA itself need some.",
            Query(share(total(predicted, "gpu"), total(MACHINE("llm_gpu_memory_total_bytes"), "gpu")), "GPU {{gpu}}"),
            unit="percentunit", low=0, high=1, steps=MEMORY_RATIO, no_value=NO_MODEL_ON_GPU, w=12,
        ),
    ]  # fmt: skip


def effect() -> list[sdk.Panel]:
    """Changes are marked in all of them."""
    seconds = "llm_time_per_output_token_seconds"
    return [
        series(
            "First token p95",
            "Good is below 2.5 s, and lower after a change.",
            Query(SERVICE.quantile(0.95, "llm_time_to_first_token_seconds", "model"), "{{model}}"),
            unit="s", steps=FIRST_TOKEN_SECONDS, limits=True, w=6,
        ),
        series(
            "Decode speed of one answer",
            "Good is higher after a change.",
            Query(f"1 / {SERVICE.quantile(0.5, seconds, 'model')}", "{{model}}"),
            unit="suffix: tok/s", w=6,
        ),
        series(
            "KV cells",
            "What context, slots and cache types gave.",
            Query(total(SERVICE("llm_kv_cache_capacity_tokens"), "model"), "{{model}}"),
            unit="suffix: tok", no_value="No model is loaded", w=6,
        ),
        series(
            "GPU memory in use",
            "Of all cards. Good stays below 90 %.",
            Query(share(total(MACHINE("llm_gpu_memory_used_bytes")), total(MACHINE("llm_gpu_memory_total_bytes"))), "used"),
            unit="percentunit", low=0, high=1, no_value=NOT_REPORTED, w=6,
        ),
    ]  # fmt: skip


def history() -> list[sdk.Panel]:
    return [
        series(
            "Changes",
            "When, by where they came from and what became of them. Good: no result but success.",
            Query(total(SERVICE.increase("llm_config_changes_total"), "source, result") + " > 0", "{{source}} {{result}}"),
            decimals=0, no_value="None in the time shown", w=24, h=6,
        ),
        stat(
            "Lines that the audit log lacks",
            "Changes that the disk did not take a note of. Good is none.",
            Query(total(SERVICE.increase("llm_audit_lost_lines_total", over="24h")), "lost"),
            steps=NONE_WANTED, decimals=0, w=8, h=6,
        ),
        stat(
            "API keys",
            "Keys that are in force. None: nobody is asked for one.",
            Query(total(SERVICE("llm_api_keys")), "keys"),
            no_value="Nobody is asked for one", w=8, h=6,
        ),
        stat(
            "Key file read",
            "Time since it was last read without a fault. Good: less than since you changed it.",
            Query(f"time() - {highest(SERVICE('llm_api_keys_last_reload_success_timestamp_seconds'))}", "since"),
            unit="s", no_value="There is none", w=8, h=6,
        ),
    ]  # fmt: skip
