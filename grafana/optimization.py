"""How well is the hardware used, what should be done next, and did it help?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

from grafana import links, variables
from grafana.actions import Actions
from grafana.page import Page, Row
from grafana.panels import NOT_REPORTED, Query, bars, gauge, series, stat
from grafana.queries import MACHINE, SERVICE, highest, lowest, share, total
from grafana.tables import COLOURED, Column, Labels, table
from grafana.thresholds import HEADROOM_CELSIUS, SCORE

LATER: Final = "Not analysed yet"
APPLY: Final = "/api/optimization/apply"
ADVICE: Final = {
    "priority": "Priority", "category": "Category", "title": "Advice", "difficulty": "Difficulty",
    "applicable": "One click",
}  # fmt: skip
# Where a card counts as hot.
CRITICAL: Final = 'threshold="critical"'


def page(actions: Actions) -> Page:
    return Page(
        uid=links.PAGES["optimization"],
        title="LLM / Optimization",
        description="A score of how the hardware is used, what would raise it, and what changes did.",
        variables=[variables.gpu_instance()],
        rows=[
            Row("Score", score()),
            Row("Components", components()),
            Row("Advice", [advice(actions)]),
            Row("What changes did", history()),
            Row("Evidence", evidence(), collapsed=True),
        ],
    )


def score() -> list[sdk.Panel]:
    return [
        gauge(
            "Score",
            "Of 100, of the worst service that is chosen. Good is above 80.",
            Query(lowest(SERVICE("llm_optimization_score")), "score"),
            low=0, high=100, steps=SCORE, no_value=LATER, w=4, h=7,
        ),
        stat(
            "Of what could be judged",
            "Part of the components that had data. Low: there was little traffic, or cards tell little.",
            Query(lowest(SERVICE("llm_optimization_coverage_ratio")), "coverage"),
            unit="percentunit", no_value=LATER, w=4, h=7,
        ),
        bars(
            "Groups",
            "Good is above 80 in each.",
            Query(lowest(SERVICE("llm_optimization_group_score"), "group"), "{{group}}"),
            low=0, high=100, steps=SCORE, no_value=LATER, w=5, h=7,
        ),
        stat(
            "Analysed",
            "Time since the last analysis. Good is some minutes.",
            Query(f"time() - {highest(SERVICE('llm_optimization_last_analysis_timestamp_seconds'))}", "since"),
            unit="s", no_value=LATER, w=3, h=7,
        ),
        series(
            "Over time",
            "Changes are marked: each should have raised it.",
            Query(SERVICE("llm_optimization_score"), "{{instance}}"),
            low=0, high=100, steps=SCORE, limits=True, no_value=LATER, w=8, h=7,
        ),
    ]  # fmt: skip


def components() -> list[sdk.Panel]:
    return [
        bars(
            "Worst first",
            "Each part of the score. Good is above 80.",
            Query(f"sort({lowest(SERVICE('llm_optimization_component_score'), 'component')})", "{{component}}"),
            low=0, high=100, steps=SCORE, no_value=LATER, w=12, h=9,
        ),
        table(
            "What each costs",
            "The most that a component can take off the score.",
            {"component": "Component", "group": "Group"},
            [
                Column("Score", lowest(SERVICE("llm_optimization_component_score"), "component, group"), steps=SCORE, properties={"noValue": "No data"}),
                Column("Most it takes", highest(SERVICE("llm_optimization_component_max_loss_ratio"), "component, group"), "percentunit"),
            ],
            sort_by="Score", descending=False, no_value=LATER, w=12, h=9,
        ),
    ]  # fmt: skip


def advice(actions: Actions) -> sdk.Panel:
    buttons = actions.post(
        "Apply",
        APPLY,
        {"id": "${__data.fields.Id}"},
        "Apply this advice? Its effect is measured, and it can be taken back.",
    )
    return table(
        "What to do next",
        "The most worthwhile first. Good is an empty table. `POST /api/optimization/apply` applies one.",
        {"id": "Id", "instance": "Instance"},
        [
            Labels(highest(SERVICE("llm_optimization_recommendation_info"), ", ".join(["instance, id", *ADVICE])), ADVICE),
            Column("Gain", highest(SERVICE("llm_optimization_recommendation_gain_points"), "instance, id"), "suffix: points", decimals=1, properties={"custom.cellOptions": COLOURED}),
        ],
        sort_by="Gain", widths={"Advice": 420}, no_value="Nothing to advise", actions=buttons,
    )  # fmt: skip


def history() -> list[sdk.Panel]:
    def effect(name: str) -> str:
        return highest(SERVICE(f"llm_optimization_effect_{name}"), "instance, id, metric")

    return [
        table(
            "Changes so far",
            "Whose they were (advice by its id, or where else they came from) and what came of them.",
            {"id": "Change", "verdict": "Verdict"},
            [Column("Times", total(SERVICE("llm_optimization_applied_total"), "id, verdict") + " > 0")],
            no_value="Nothing was changed", w=6, h=7,
        ),
        table(
            "Measured effect of the last",
            "After, of before: 1 is no change. Nothing is known where 1 lies between the two ends of "
            "the 90 % interval.",
            {"instance": "Instance", "id": "Change", "metric": "Metric"},
            [
                Column("After / before", effect("ratio"), decimals=2),
                Column("At least", effect("low_ratio"), decimals=2),
                Column("At most", effect("high_ratio"), decimals=2),
            ],
            widths={"Metric": 230}, no_value="Nothing was measured yet", w=12, h=7,
        ),
        table(
            "What is known of the last",
            "While requests are still being compared, it may change.",
            {"instance": "Instance", "id": "Change"},
            [
                Labels(
                    highest(SERVICE("llm_optimization_change_verdict"), "instance, id, verdict") + " > 0",
                    {"verdict": "Verdict"},
                ),
                Column("Made", f"time() - {highest(SERVICE('llm_optimization_change_timestamp_seconds'), 'instance, id')}", "s"),
            ],
            no_value="Nothing was changed", w=6, h=7,
        ),
    ]  # fmt: skip


def evidence() -> list[sdk.Panel]:
    by_gpu = "instance, gpu"
    hot = highest(MACHINE("llm_gpu_temperature_threshold_celsius", CRITICAL), by_gpu)
    heat = highest(MACHINE("llm_gpu_temperature_celsius"), by_gpu)
    usage = share(
        highest(MACHINE("llm_gpu_memory_used_bytes"), by_gpu),
        highest(MACHINE("llm_gpu_memory_total_bytes"), by_gpu),
    )
    waiting = total(SERVICE.rate("llm_request_queue_seconds_sum"))
    whole = total(SERVICE.rate("llm_request_duration_seconds_sum"))
    cells = total(SERVICE("llm_kv_cache_tokens"), "model")
    capacity = total(SERVICE("llm_kv_cache_capacity_tokens"), "model")
    hits = total(SERVICE.rate("llm_prefix_cache_hit_tokens_total"))
    queried = total(SERVICE.rate("llm_prefix_cache_queried_tokens_total"))
    energy = total(MACHINE.rate("llm_gpu_energy_joules_total", over="15m"))
    output = total(SERVICE.rate("llm_generated_tokens_total", over="15m"))
    busy = total(SERVICE.rate("llm_engine_slot_busy_seconds_total"))
    return [
        series(
            "Degrees below critical",
            "Good is above 10 °C.",
            Query(f"{hot} - on ({by_gpu}) {heat}", "GPU {{gpu}}"),
            unit="celsius", steps=HEADROOM_CELSIUS, limits=True, no_value=NOT_REPORTED,
        ),
        series(
            "Time throttled",
            "By heat or by a fault. Good is none.",
            Query(total(MACHINE.rate("llm_gpu_throttle_seconds_total", 'reason!="gpu_idle"'), "gpu"), "GPU {{gpu}}"),
            unit="percentunit", no_value=NOT_REPORTED,
        ),
        series(
            "Fullest less emptiest card",
            "Good for a split model is below 10 %.",
            Query(f"{highest(usage, 'instance')} - {lowest(usage, 'instance')}", "{{instance}}"),
            unit="percentunit", no_value=NOT_REPORTED,
        ),
        series(
            "Slots in use, and requests waiting",
            "Waiting while slots are free is held up by memory; waiting while none is, by slots.",
            Query(share(busy, total(SERVICE("llm_engine_slots"))), "slots in use"),
            Query(total(SERVICE("llm_requests_waiting")), "waiting"),
        ),
        series(
            "Part of the time in queues",
            "Good is below 10 %.",
            Query(share(waiting, whole), "queue"),
            unit="percentunit", low=0,
        ),
        series(
            "Prompt tokens from the cache",
            "More is better.",
            Query(share(hits, queried), "cached"),
            unit="percentunit", low=0, high=1,
        ),
        series(
            "Context that nobody uses",
            "KV cells that are free. Always near 100 %: a smaller context would leave memory.",
            Query(f"1 - {share(cells, capacity)}", "{{model}}"),
            unit="percentunit", low=0, high=1, no_value="No model is loaded",
        ),
        series(
            "PCIe lanes of the most",
            "Good is 100 %.",
            Query(share(highest(MACHINE("llm_gpu_pcie_link_width"), by_gpu), highest(MACHINE("llm_gpu_pcie_link_width_max"), by_gpu)), "GPU {{gpu}}"),
            unit="percentunit", low=0, no_value=NOT_REPORTED,
        ),
        series(
            "Swapped in",
            "Good is none.",
            Query(MACHINE.rate("llm_host_swap_in_bytes_total"), "{{instance}}"),
            unit="Bps", no_value="Not told by this host",
        ),
        series(
            "Energy of a token",
            "Of 15 minutes: all that the cards used, for each output token. Less is better.",
            Query(share(energy, output), "joules"),
            unit="joule", no_value="No GPU tells its power",
        ),
    ]  # fmt: skip
