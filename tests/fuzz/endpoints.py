"""The paths of each dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tests.fuzz.endpoint import Endpoint
from tests.fuzz.of_anthropic import ANTHROPICS
from tests.fuzz.of_control import CONTROL
from tests.fuzz.of_llama_server import LLAMA_SERVER
from tests.fuzz.of_ollama import OLLAMA
from tests.fuzz.of_openai import OPENAI
from tests.fuzz.of_seed import SEED
from tests.fuzz.of_tgi import TGI
from tests.fuzz.of_vllm import VLLM

DIALECTS: Final[Mapping[str, Sequence[Endpoint]]] = {
    "openai": OPENAI,
    "ollama": OLLAMA,
    "vllm": VLLM,
    "tgi": TGI,
    "anthropic": ANTHROPICS,
    "llama-server": LLAMA_SERVER,
    "seed": SEED,
    "control": CONTROL,
}
