"""What the operator decides: each setting with its default, its bounds and what it means.

A value out of range and a combination that cannot be honoured are refused with the name of the
key: a typing error must not become a silent default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
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
from service.setting_values import (
    Aliases,
    Listener,
    Listeners,
    Losses,
    Models,
    Names,
    Paths,
    is_loopback,
    upper,
)
from service.settings_errors import SettingsError, reason

__all__ = ["Listener", "Settings", "SettingsError", "is_loopback"]


def credential() -> Path | None:
    """What `LoadCredential=api-keys:FILE` of a systemd unit hands over."""
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY") or "/nowhere", "api-keys")
    return path if path.is_file() else None


def default_state_dir() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "llm-inference"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="LLM_", env_ignore_empty=True, frozen=True, extra="forbid", allow_inf_nan=False
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
    api_keys_file: Path | None = Field(
        default_factory=credential,
        description="The file of API keys, without which nobody is then let in; `llm-inference keys` "
        "writes it. None: `api-keys` among systemd's credentials, else no keys are asked for.",
    )
    shared_prefix_cache: bool = Field(
        default=False,
        description="Let requests of different API keys share what was computed of prompts that "
        "begin the same. Whoever has one key can then tell by timing what others asked.",
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
        description="Compare what files in Ollama's stores say of themselves with what the `ollama` "
        "command says, where it is found; differences are logged, and in `/api/show`.",
    )
    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Where the service keeps what it found out, such as the index of models.",
    )

    presets_file: Path | None = Field(
        default=None,
        description="Presets of one's own, beside `performance`, `balanced` and `conservative`: a "
        "YAML file of names, each with `settings`, and `description` and `extends` if wanted.",
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
        description="Layers to place on GPUs, the output counted as one; `auto`, none said, or more "
        "than there are, such as 999: as many as fit.",
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
        description="CPU threads for computing. None: the physical cores. Models that compute at "
        "the same time share the cores.",
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
    drain_delay: float = Field(
        default=0.0,
        ge=0,
        description="Seconds at shutdown in which new requests are still taken while /health/ready "
        "says no, for balancers to notice.",
    )

    # What it tells of itself
    exporters: bool = Field(
        default=True,
        description="Read GPUs, host and the models' disks every two seconds, and show them in "
        "/metrics. Off: where other programs do that; then the service's advice knows neither.",
    )
    expose_exporters: bool = Field(
        default=True,
        description="Show what they read in /metrics. Off: where `python -m exporters` beside the "
        "service shows it, so that nothing is there twice.",
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
    optimization_losses: Losses = Field(
        default={},
        description="The share of service, of 0 to 1, that a component of the optimisation score "
        "costs at its worst, as `cpu.threads: 0.2`, where it is another than docs/optimization.md says.",
    )
    auto_rollback: bool = Field(
        default=False,
        description="Take a change of the settings back by itself when it is sure to have made "
        "answers more than a tenth slower, or memory ran out, an engine died or a GPU throttled after "
        "it as it had not before. Off: that is recommended only.",
    )
    grafana_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="Where Grafana is for browsers, as `http://127.0.0.1:3000`: /dashboard and the "
        "pages below it lead there. None: they say how to have it.",
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
        if exposed and not self.insecure_no_auth and self.api_keys_file is None:
            raise ValueError(
                f"host: {exposed[0]} can be reached from other machines and nothing checks who "
                "asks: set api_keys_file, bind 127.0.0.1, or say insecure_no_auth"
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
        # The others are read by `settings_sources`, and once: what is in force changes when it is told to.
        return (init_settings,)


def tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
