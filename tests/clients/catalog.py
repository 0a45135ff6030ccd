"""The clients: which probes are theirs, where they are pointed at, and where they are installed."""

from __future__ import annotations

from dataclasses import dataclass

OPENAI = ("/v1", "/openai/v1", "/vllm/v1")
OLLAMA = ("/", "/ollama")
TGI = ("/", "/tgi")
ANTHROPIC = ("/", "/anthropic")


@dataclass(frozen=True)
class Client:
    name: str  # as its package is called
    mounts: tuple[str, ...]
    # `environments/<this>.in` lists it; "" is the environment of the tests themselves.
    environment: str = ""
    # Its environment is one that `make test` sets up. The others are for `make test-clients`.
    always: bool = False

    @property
    def probes(self) -> str:
        return "tests.clients.probes." + self.name.replace("-", "_")


CLIENTS = (
    Client("openai", OPENAI, always=True),
    Client("ollama", OLLAMA, always=True),
    Client("anthropic", ANTHROPIC, always=True),
    Client("huggingface_hub", TGI, always=True),
    Client("text-generation", TGI, "text_generation", always=True),
    Client("langchain-openai", OPENAI, "openai_3"),
    Client("langchain-ollama", OLLAMA, "openai_3"),
    Client("llm-ollama", OLLAMA, "openai_3"),
    Client("pydantic-ai-slim", (*OPENAI, "/ollama/v1"), "openai_3"),
    Client("instructor", OPENAI, "instructor"),
    Client("litellm", (*OPENAI, *OLLAMA, "/anthropic"), "openai_2"),
    Client("llama-index-llms-ollama", OLLAMA, "openai_2"),
    Client("llama-index-llms-openai-like", OPENAI, "openai_2"),
)
