"""What shows and changes the service itself. Changes that others would feel are tried on paper."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz.endpoint import Endpoint, Fields, get
from tests.fuzz.fields import FLAG, one
from tests.fuzz.values import text

CONFIGURE: Final = "/api/dashboard/configure"
WEIGHTS: Final = "/api/dashboard/weight-distribution"
ADVICE: Final = "/api/optimization"

SETTINGS: Final[Fields] = {
    "tensor_split": one("0.5,0.5", "1", "0.5,0.6", "", "a,b", [0.5, 0.5], [1, -1], "0.25," * 300),
    "gpu_layers": one(0, 999, -1, "auto", "all", 1.5, None),
    "context_size": one(4096, 32, 0, 131072, 10**12, "4096", None),
    "default_context_size": one(4096, 31, "x"),
    "batch_size": one(1, 512, 2048, 2049, 0, True),
    "threads": one(1, 2, 128, 0, 10**9, "two"),
    "request_timeout": one(60, 0, -1, "1800", 1e308),
    "log_level": one("INFO", "debug", "LOUD", 10),
    "enable_model_inspection": FLAG,
    "preserve_think_tags": one(True, "yes", 3),
    "preset": one("performance", "balanced", "conservative", "nope", "", 5),
    "models": one({}, {"demo": {"context_size": 512}}, {"demo": {"nope": 1}}, {"demo": 5}, []),
    "aliases": one({"a": "demo"}, {"a": {}}, "a: demo", "{"),
    "parallel_slots": one(1, 4, 0, 10**6),
    "port": one(1, 65536, "x"),
    "state_dir": one("/", "", "\0", "../x"),
    "api_keys_file": one("/etc/passwd", "nope"),
    "no_such_key": one(1, "", {}),
    "version": one(0, 1, -1, 10**30, "x"),
}
# Nobody's requests are the worse for these.
HARMLESS: Final[Fields] = {
    "price_per_kwh": one(0, 0.3, -1, "x", 10**400),
    "preserve_think_tags": FLAG,
    "keep_alive": one(300, "5m", -1, "x", []),
    "aliases": one({"fuzzed": "demo"}, {}, {"": "demo"}, {"x" * 300: "demo"}),
    "no_such_key": one(1),
}
PAPER: Final[Fields] = {"dry_run": one(True)}


def shares(random: Random) -> Any:
    return random.choice(
        (
            [],
            [{"gpu_id": 0, "weight": 100}],
            [{"gpu_id": 0, "weight": 50}, {"gpu_id": 1, "weight": 50}],
            [{"gpu_id": 0, "weight": -5}, {"gpu_id": 0, "weight": 105}],
            [{"gpu_id": "x", "weight": 10**400}],
            [{"weight": 5}],
            "0.5,0.5",
        )
    )


DISTRIBUTION: Final[Fields] = {
    "preset": one("equal", "memory-based", "balanced", "nope", 7),
    "gpu_weights": shares,
    "model_config": one({}, {"context_size": 4096}, {"batch_size": 0}, {"model_name": "nope"}, []),
    "model_name": one("demo", "nope", ""),
}
ADVISED: Final = one("threads-physical", "nope", "", "x" * 300, 5)
CONTROL: Final = [
    *get("ollama", CONFIGURE, f"{CONFIGURE}/versions", f"{CONFIGURE}/export"),
    Endpoint("ollama", CONFIGURE, PAPER, SETTINGS, weight=8),
    Endpoint("ollama", CONFIGURE, {}, HARMLESS, weight=4),
    Endpoint("ollama", f"{CONFIGURE}/rollback", PAPER, {"number": one(0, 1, 99, "x", None)}),
    Endpoint("ollama", f"{CONFIGURE}/import", {}, HARMLESS, weight=2),
    *get("ollama", "/api/dashboard/presets", WEIGHTS, f"{WEIGHTS}/presets"),
    Endpoint("ollama", WEIGHTS, PAPER, DISTRIBUTION, weight=3),
    Endpoint("ollama", f"{WEIGHTS}/validate", {}, DISTRIBUTION, weight=3),
    *get("ollama", "/api/metrics/optimization", "/api/metrics/optimization?threads=2&gpu_layers=0"),
    *get("ollama", "/api/metrics/optimization?threads=x", "/api/metrics/optimization?threads=-1"),
    *get("ollama", "/api/metrics/optimization?tensor_split=a,b", "/api/metrics/gpu"),
    *get("ollama", f"{ADVICE}/history", f"{ADVICE}/history?limit=x", f"{ADVICE}/history?kind=nope"),
    *get("ollama", f"{ADVICE}/trial", "/api/metrics/apis", "/api/metrics/dashboard"),
    Endpoint("ollama", f"{ADVICE}/apply", {"id": one("nope", "", 5)}, {"config_hash": text}),
    Endpoint("ollama", f"{ADVICE}/rollback/none"),
    Endpoint("ollama", f"{ADVICE}/dismiss", {"id": ADVISED}, {"until": one(0, -1, 10**400, "x")}),
    Endpoint("ollama", f"{ADVICE}/trial", {"id": one("nope", "", 5)}, {"seconds": one(10, 0)}),
    *get("openai", "/dashboard", "/dashboard/gpu", "/dashboard/nope"),
    *get("ollama", "/api/dashboard/api-metrics", "/api/dashboard/gpu-metrics"),
]
