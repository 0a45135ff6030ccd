"""Advice on which models are kept in memory."""

from __future__ import annotations

from typing import Final

from service.control.evidence import Evidence
from service.control.rule import WHOLE, Finding, Rule, above, size
from service.control.rules_serving import roomy
from service.settings import tagged

LONG_KEEP_ALIVE: Final = 3600.0


def keep_longer(evidence: Evidence) -> Finding | None:
    keep = evidence.settings.keep_alive
    if not above(evidence.reloads, 2.5) or not 0 <= keep < LONG_KEEP_ALIVE or not roomy(evidence):
        return None
    names = ", ".join(sorted(evidence.reloaded))
    return Finding(
        f"{evidence.reloads:.0f} times within an hour a model was loaded that had gone after "
        f"{keep:.0f} idle seconds: {names}.",
        f"Set keep_alive to {LONG_KEEP_ALIVE:.0f}.",
        {"reloads": evidence.reloads, "keep_alive": keep, "models": dict(evidence.reloaded)},
        {"keep_alive": LONG_KEEP_ALIVE},
    )


def more_models(evidence: Evidence) -> Finding | None:
    most, main = evidence.settings.max_loaded_models, evidence.main
    if not above(evidence.evictions, 3.5) or main is None or not roomy(evidence):
        return None
    # Of several, it is the number that made them leave where it is reached.
    if len(evidence.models) < most:
        return None
    return Finding(
        f"{evidence.evictions:.0f} times within an hour a model had to leave for another, with {most} "
        f"in memory at once and {size(evidence.memory_available or 0)} of memory available.",
        f"Set max_loaded_models to {most + 1}.",
        {"evictions": evidence.evictions, "max_loaded_models": most,
         "available_bytes": evidence.memory_available},
        {"max_loaded_models": most + 1},
    )  # fmt: skip


def pin(evidence: Evidence) -> Finding | None:
    settings, total = evidence.settings, sum(evidence.evicted.values())
    if not above(evidence.evictions, 3.5) or settings.max_loaded_models < 2:
        return None
    name = max(evidence.evicted, key=lambda name: evidence.evicted[name], default=None)
    pinned = {tagged(name) for name in settings.pinned_models}
    if name is None or tagged(name) in pinned or evidence.evicted[name] < 0.4 * total:
        return None
    if len(pinned) + 1 >= settings.max_loaded_models:
        return None
    return Finding(
        f"{name} had to leave {evidence.evicted[name]} times within an hour, of {total} that models "
        "left, and was loaded again.",
        f"Add {name} to pinned_models; the others take turns in the rest.",
        {"model": name, "evicted": evidence.evicted[name], "evictions": total},
        {"pinned_models": [*settings.pinned_models, name]},
    )


EVICTIONS: Final = 'sum by (model) (increase(llm_model_unloads_total{reason="evicted"}[1h]))'
RULES: Final = (
    Rule("keep-alive-up", "performance", None, "Models go and are loaded again",
         "No load at the first request after a pause.", "Idle models keep their memory.",
         'sum by (model) (increase(llm_model_unloads_total{reason="idle"}[1h]))', keep_longer,
         verify=WHOLE),
    Rule("loaded-models-up", "performance", "serving.thrash", "Models push each other out",
         "No load when another model is asked for.", "More memory in use.", EVICTIONS, more_models,
         verify=WHOLE),
    Rule("pin-model", "performance", "serving.thrash", "One model is loaded again and again",
         "It answers at once.", "The other models have one place fewer.", EVICTIONS, pin,
         verify=WHOLE),
)  # fmt: skip
