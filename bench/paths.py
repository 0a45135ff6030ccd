"""Where the benchmark keeps what it builds. All of it can be deleted at any time."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
MODELS = BUILD / "models"
LLAMA_CPP = BUILD / "llama.cpp"
LOGS = BUILD / "logs"
RESULTS = BUILD / "results"
