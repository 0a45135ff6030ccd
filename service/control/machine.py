"""The name of what computes: what was measured on one machine says little of another."""

from __future__ import annotations

from collections import Counter

from exporters.readings import Latest


def machine_name(latest: Latest) -> str:
    """Its GPUs as `2 x NVIDIA L4`, or where there is none its processor; `unknown` before the first
    reading."""
    gpus = latest.gpus.gpus if latest.gpus is not None else ()
    if gpus:
        names = Counter(gpu.name or "GPU" for gpu in gpus)
        return ", ".join(f"{count} x {name}" for name, count in sorted(names.items()))
    host = latest.machine
    return host.cpu_model or "unknown" if host is not None else "unknown"
