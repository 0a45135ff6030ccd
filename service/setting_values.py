"""What settings are made of: the types of single values, and how they are read from text."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from service.model_settings import ModelSettings

LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def split_on(separator: str) -> BeforeValidator:
    """Environment variables and arguments are text: "a,b" is then two elements."""

    def split(value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(separator) if part.strip()]
        return value

    return BeforeValidator(split)


def one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


def upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class Listener(BaseModel):
    """A further address, at whose root one dialect is spoken. host None: `host` of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dialect: Literal["openai", "ollama", "anthropic", "tgi", "vllm", "llama-server"]
    port: int = Field(ge=0, le=65535)
    host: str | None = None


def listener(value: Any) -> Any:
    """`ollama=11434` and `ollama=[::1]:11434`, where it is not a mapping."""
    if not isinstance(value, str):
        return value
    dialect, _, address = value.partition("=")
    host, _, port = address.rpartition(":")
    return {"dialect": dialect.strip(), "port": port, "host": host.strip("[]") or None}


def mapping(value: Any) -> Any:
    """From the environment or the command line it comes as text."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) or {}
    except yaml.YAMLError:
        raise ValueError("must be a mapping of names, as YAML or JSON") from None


Names = Annotated[tuple[str, ...], NoDecode, split_on(",")]
Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(one_or_many), split_on(os.pathsep)]
Listeners = Annotated[
    tuple[Annotated[Listener, BeforeValidator(listener)], ...], NoDecode, split_on(",")
]
Models = Annotated[dict[str, ModelSettings], NoDecode, BeforeValidator(mapping)]
Component = Literal[
    "gpu.thermal",
    "gpu.throttle",
    "gpu.lost",
    "gpu.vram_headroom",
    "gpu.offload",
    "gpu.balance",
    "gpu.pcie",
    "gpu.power_cap",
    "cpu.threads",
    "cpu.pressure",
    "cpu.loop_lag",
    "memory.available",
    "memory.swap",
    "memory.oom",
    "serving.queue",
    "serving.batch",
    "serving.cache",
    "serving.context",
    "serving.thrash",
]
Losses = Annotated[
    dict[Component, Annotated[float, Field(ge=0, le=1)]], NoDecode, BeforeValidator(mapping)
]
Aliases = Annotated[dict[str, str], NoDecode, BeforeValidator(mapping)]


def is_loopback(host: str) -> bool:
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
