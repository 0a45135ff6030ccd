"""What the operator decided at start. Later sources win:

    defaults < YAML file (--config, LLM_CONFIG) < environment (LLM_<KEY>) < command line

An unknown key in the file, a value out of range and a combination that cannot be honoured are
all refused at start, with the name of the key: a typing error must not become a silent default.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service import model_settings
from service.model_settings import (
    CacheType,
    Device,
    FlashAttention,
    Layers,
    ModelSettings,
    Shares,
    Splitting,
)
from service.registries import Registries

# Taken from the file format that installations have, by features that are still to come. Who sets
# one is told so at start.
WITHOUT_EFFECT = frozenset({"enable_model_inspection"})
LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class SettingsError(Exception):
    """One line that names the key and says what is wrong with it."""


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


def default_state_dir() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "llm-inference"


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
Aliases = Annotated[dict[str, str], NoDecode, BeforeValidator(mapping)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="LLM_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    config: Path | None = Field(
        default=None, description="The YAML file with any of the keys below."
    )

    # Where it listens
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=11436, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    listeners: Listeners = Field(
        default=(),
        description="Further ports, each with one dialect at its root: `- {port: 11434, dialect: "
        "ollama}` in the file, `ollama=11434,vllm=[::1]:8000` elsewhere. Paths that the dialect "
        "does not have are served as on the first port.",
    )
    insecure_no_auth: bool = Field(
        default=False, description="Listen on more than loopback although nothing checks who asks."
    )
    allowed_hosts: Names = Field(
        default=(),
        description="Further Host header names to answer to, beside loopback and `host`.",
    )
    cors_origins: Names = Field(
        default=(),
        description="Browser origins that may read answers, exact (`https://chat.example`).",
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, description="Longest request body, in bytes."
    )

    # Which models there are
    model_dir: Paths = Field(
        default=(),
        description="Directories of *.gguf files, in order of preference; in the "
        "environment separated as PATH is. Empty: `models` in the working directory. One that is "
        "an Ollama store or a HuggingFace cache is read as such.",
    )
    discover_models: bool = Field(
        default=True,
        description="Also serve what lies in Ollama's stores and HuggingFace's cache, where those "
        "programs keep it (and say so in OLLAMA_MODELS, HF_HOME, HF_HUB_CACHE).",
    )
    default_model: str | None = Field(
        default=None,
        description="The model that a request without one gets. None: the only one loaded, else the only one found.",
    )
    aliases: Aliases = Field(
        default={},
        description="Further names for models, as `gpt-4o: qwen2.5:7b`. A model that has the name "
        "itself goes before.",
    )
    store_dir: Path | None = Field(
        default=None,
        description="Where models are kept that are pulled, made or copied through this server, in "
        "the layout of Ollama's store. None: `store` in `state_dir`.",
    )
    pull_from: Names = Field(
        default=(),
        description="Registries that models may be pulled from and pushed to: `registry.ollama.ai`, "
        "`*.example.com`, `http://host:port`, and an address where it is not public. Those that a "
        "registry redirects to count as well. Empty: none, and no outbound request is ever made.",
    )
    enable_model_inspection: bool = Field(
        default=True,
        description="Compare what a GGUF says of itself with the `ollama` command, if found.",
    )
    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Where the service keeps what it found out, such as the index of models.",
    )

    verify_checksums: bool = Field(
        default=True,
        description="Before a blob is loaded for the first time, compare it with the SHA-256 in "
        "its name; takes half a second a gigabyte.",
    )

    # How a model is loaded
    default_context_size: int | None = Field(
        default=None,
        ge=32,
        description="Context of a model in tokens, shared by all its sequences. None: the engine "
        "chooses, from what the model was trained for and what fits.",
    )
    parallel_slots: int = Field(
        default=4, ge=1, le=256, description="Sequences that one model computes at the same time."
    )
    gpu_layers: Layers = Field(
        default=None,
        description="Layers to place on GPUs, the output counted as one; `auto`, or none said: as "
        "many as fit.",
    )
    tensor_split: Shares = Field(
        default=(),
        description="Share of the model for each GPU, as `0.5,0.3,0.2`. Empty: by free memory.",
    )
    main_gpu: Device = Field(
        default=None,
        description="The GPU of a model that is not split, counted from 0. `auto`: where it fits best.",
    )
    split_mode: Splitting = Field(
        default=None,
        description="Whether one GPU takes a model (`none`), or several by `layer` or by `row`. "
        "`auto`: one where it fits, else by layer.",
    )
    cache_type_k: CacheType = Field(
        default="f16", description="Type of cached keys: `q8_0` takes half the memory of `f16`."
    )
    cache_type_v: CacheType = Field(
        default="f16", description="Type of cached values; a quantized one needs flash attention."
    )
    flash_attention: FlashAttention = Field(
        default="auto", description="`on`, `off`, or `auto`: where the backend has it."
    )
    mmap: bool = Field(
        default=True, description="Map the file's pages; false: read the weights into memory."
    )
    mlock: bool = Field(
        default=False, description="Keep the weights from being swapped out or dropped."
    )
    models: Models = Field(
        default={},
        description="What single models have to themselves, by name: `context_size`, "
        "`gpu_layers`, `tensor_split`, `main_gpu`, `split_mode`, `cache_type_k`, `cache_type_v`, "
        "`flash_attention`, `mmap`, `mlock`, `threads`, and LoRA `adapters`, each with `path`, `name` "
        "and `scale` (1; 0: only where a request names it).",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads for computing. None: the physical cores.",
    )
    batch_size: int = Field(
        default=512,
        ge=32,
        le=65536,
        description="Most tokens computed in one step; memory to compute in grows with it.",
    )
    prefill_chunk: int | None = Field(
        default=None,
        ge=1,
        description="Most prompt tokens in a step while answers are running. None: paced by time.",
    )
    prefix_cache: bool = Field(
        default=True,
        description="Keep what was computed of prompts and answers for requests that begin the same. "
        "Off: nobody can tell by timing what others asked, and every prompt is computed whole.",
    )
    kv_cache: Literal["auto", "split", "unified"] = Field(
        default="auto", description="Layout of the KV cache: one for each sequence, or one shared."
    )
    keep_alive: float = Field(
        default=300.0, description="Seconds that an idle model stays loaded; negative: for ever."
    )
    max_loaded_models: int = Field(
        default=3, ge=1, description="Models in memory at the same time; others take turns."
    )
    pinned_models: Names = Field(
        default=(),
        description="Models that are loaded at start and stay, whatever else is asked for.",
    )

    # How long things may take
    queue_size: int | None = Field(
        default=None,
        ge=0,
        description="Requests that may wait for one model. None: 4 x parallel_slots, at least 16.",
    )
    queue_timeout: float = Field(
        default=60.0, gt=0, description="Seconds that a request may wait for its turn."
    )
    request_timeout: float = Field(
        default=1800.0, gt=0, description="Seconds that a request may take in all."
    )
    step_timeout: float = Field(
        default=30.0,
        gt=0,
        description="Seconds without progress after which an engine counts as wedged.",
    )
    drain_timeout: float = Field(
        default=60.0, ge=0, description="Seconds that running requests get to finish at shutdown."
    )

    # What it tells of itself
    exporters: bool = Field(
        default=True,
        description="Read GPUs, host and the models' disks every two seconds, and show them in "
        "/metrics. Off: where `python -m exporters` or other programs do that.",
    )
    expected_gpus: int | None = Field(
        default=None,
        ge=0,
        description="GPUs that there should be, to tell when one is missing. None: as many as were seen.",
    )
    price_per_kwh: Decimal | None = Field(
        default=None,
        ge=0,
        description="What a kilowatt-hour costs, in any currency; /metrics then has the cost of each model's energy.",
    )
    vllm_metric_names: bool = Field(
        default=False,
        description="Show vLLM's metric names in /metrics too; they are always at "
        "/metrics/compat/vllm.",
    )

    # What answers look like
    reasoning_fields: Literal["both", "reasoning", "reasoning_content", "none"] = Field(
        default="both", description="Names under which the OpenAI dialect shows a model's thoughts."
    )
    preserve_think_tags: bool = Field(
        default=True,
        description="Leave <think> tags in the text where a client of the Ollama dialect does not "
        "say `think`; false: thoughts in `thinking`, as today's Ollama has them.",
    )
    ollama_truncate: Literal["report", "ollama"] = Field(
        default="report",
        description="What the Ollama dialect leaves of a single prompt that is too long: as much "
        "as fits beside an answer, or about half as Ollama does. Either way the answer says so.",
    )
    ollama_compat_version: str = Field(
        default="0.33.2",
        pattern=r"^\d+(\.\d+)+$",
        description="The version of Ollama that clients are told; they compare it with what they need.",
    )
    completions_default_max_tokens: int = Field(
        default=16,
        ge=1,
        description="Length of a /v1/completions answer that asked for none, in tokens.",
    )
    dev_routes: bool = Field(
        default=False,
        description="Serve the routes that vLLM has in development only: /sleep, /wake_up, "
        "/is_sleeping, /abort_requests. Whoever can ask can then stop what others use.",
    )

    # What it says of itself
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = (
        Field(
            default="INFO",
            description="Least severity that is logged. SIGUSR1 switches a running service to DEBUG and back.",
        )
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="Log lines as JSON or for people. auto: for people on a terminal.",
    )

    @model_validator(mode="after")
    def combination(self) -> Self:
        """Each of these is a set of values that are fine alone and cannot be honoured together."""
        exposed = [host for host in self.hosts if not is_loopback(host)]
        if exposed and not self.insecure_no_auth:
            raise ValueError(
                f"host: {exposed[0]} can be reached from other machines and nothing checks who "
                "asks: bind 127.0.0.1, or say insecure_no_auth"
            )
        model_settings.check(self)
        for name in self.models:
            try:
                self.for_model([name])
            except ValidationError as error:
                raise ValueError(f"models: {name}: {reason(error.errors()[0])}") from None
        if self.parallel_slots > self.batch_size:
            raise ValueError("batch_size: cannot be smaller than parallel_slots")
        if self.prefill_chunk is not None and self.prefill_chunk > self.batch_size:
            raise ValueError("prefill_chunk: cannot be larger than batch_size")
        try:
            Registries.parse(self.pull_from)
        except ValueError as error:
            raise ValueError(f"pull_from: {error}") from None
        if "*" in self.cors_origins:
            raise ValueError("cors_origins: name each origin; `*` is not one")
        return self

    @property
    def store(self) -> Path:
        return self.store_dir or self.state_dir / "store"

    @property
    def hosts(self) -> tuple[str, ...]:
        """All that is listened on, the first port's first."""
        return self.host, *(listener.host or self.host for listener in self.listeners)

    def for_model(self, names: Iterable[str]) -> ModelSettings:
        """How the model with these names is loaded; the first that `models` knows counts, and
        `NAME` is `NAME:latest`."""
        shared = ModelSettings(
            context_size=self.default_context_size,
            **{
                key: getattr(self, key)
                for key in ModelSettings.model_fields
                if key not in ("context_size", "adapters")
            },
        )
        return self.own(names).over(shared)

    def own(self, names: Iterable[str]) -> ModelSettings:
        """What the model with these names has to itself."""
        own = {tagged(name): settings for name, settings in self.models.items()}
        return next((own[key] for key in map(tagged, names) if key in own), ModelSettings())

    @property
    def queue_limit(self) -> int:
        return max(16, 4 * self.parallel_slots) if self.queue_size is None else self.queue_size

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        path = given.get("config") or os.environ.get("LLM_CONFIG")
        file = InitSettingsSource(settings_cls, read_file(Path(path)) if path else {})
        return init_settings, env_settings, file


def load(command_line: Mapping[str, Any]) -> Settings:
    """Raises SettingsError. `command_line` has only what was said there."""
    try:
        return Settings(**command_line)
    except ValidationError as error:
        raise SettingsError("; ".join(map(describe, error.errors()))) from None


def describe(error: Any) -> str:
    key = ".".join(
        str(part) for part in error["loc"][: 3 if error["loc"][:1] == ("models",) else 1]
    )
    message = reason(error)
    return f"{key}: {message}" if key else message


def reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    return str(error["msg"]).removeprefix("Value error, ")


def tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def read_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"config: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = (
            f" in line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        )
        raise SettingsError(f"config: {path} is not YAML{where}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"config: {path} must hold `key: value` lines")
    return without_unset(translate_ollama_paths({str(key): values[key] for key in values}))


def without_unset(values: dict[str, Any]) -> dict[str, Any]:
    """`key:` with nothing behind it, or null, leaves the default in force."""
    return {key: value for key, value in values.items() if value is not None}


def translate_ollama_paths(values: dict[str, Any]) -> dict[str, Any]:
    """Files written for Ollama-backed services name the two halves of its store.

    `models_dir: S/blobs` and `manifests_dir: S/manifests/...` are one store S.
    """
    stores = []
    if blobs := values.pop("models_dir", None):
        path = Path(str(blobs))
        stores.append(path.parent if path.name == "blobs" else path)
    if manifests := values.pop("manifests_dir", None):
        path = Path(str(manifests))
        above = [
            parent for parent in path.parents if (parent / "manifests") in (path, *path.parents)
        ]
        stores.append(above[0] if above else path)
    if stores:
        named = values.get("model_dir") or []
        values["model_dir"] = [
            *([named] if isinstance(named, str) else named),
            *dict.fromkeys(stores),
        ]
    return values


def is_loopback(host: str) -> bool:
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def table() -> str:
    """The settings as a Markdown table, for docs/settings.md."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, field in Settings.model_fields.items():
        default = "" if field.default_factory else shown(field.default)
        later = " **No effect yet.**" if key in WITHOUT_EFFECT else ""
        rows.append(f"| `{key}` | {default} | {field.description}{later} |")
    return "\n".join(rows) + "\n"


def shown(value: Any) -> str:
    if value in (None, (), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(table())
