"""How one model is loaded: of the settings, those that a model may have to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import NoDecode

from service.facts import SplitMode

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
QUANTIZED = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0"})


def shares(value: Any) -> Any:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def automatic(value: Any) -> Any:
    """`auto` is what nobody has chosen."""
    return None if value == "auto" else value


def on_or_off(value: Any) -> Any:
    """YAML reads `on` and `off` as true and false."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Shares = Annotated[tuple[float, ...], NoDecode, BeforeValidator(shares)]
Layers = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(automatic)]
Device = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(automatic)]
Splitting = Annotated[SplitMode | None, BeforeValidator(automatic)]
FlashAttention = Annotated[Literal["auto", "on", "off"], BeforeValidator(on_or_off)]


class AdapterSettings(BaseModel):
    """A LoRA adapter as GGUF. scale: of requests that choose none; 0: it is for those alone that ask
    for it by its name, which is the file's where none is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    name: str = Field(default="", max_length=128)
    scale: float = Field(default=1.0, ge=-100, le=100)

    @property
    def called(self) -> str:
        return self.name or self.path.stem


class ModelSettings(BaseModel):
    """None: as for all models, whose names are the same but for `default_context_size`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context_size: int | None = Field(default=None, ge=32)
    gpu_layers: Layers = None
    tensor_split: Shares | None = None
    main_gpu: Device = None
    split_mode: Splitting = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    flash_attention: FlashAttention | None = None
    mmap: bool | None = None
    mlock: bool | None = None
    threads: int | None = Field(default=None, ge=1, le=1024)
    adapters: tuple[AdapterSettings, ...] = Field(default=(), max_length=64)

    @model_validator(mode="after")
    def combination(self) -> Self:
        check(self)
        names = [adapter.called for adapter in self.adapters]
        if len(set(names)) < len(names):
            raise ValueError("adapters: two have the same name")
        return self

    def over(self, others: ModelSettings) -> ModelSettings:
        """Its own values, and those of `others` where it has none. Raises ValidationError where
        the two do not go together."""
        return ModelSettings(**others.model_dump() | self.model_dump(exclude_unset=True))


def check(settings: Any) -> None:
    """What can be honoured alone and not together; raises ValueError."""
    split = settings.tensor_split or ()
    if any(share < 0 for share in split):
        raise ValueError("tensor_split: a share cannot be negative")
    if split and not sum(split) > 0:
        raise ValueError("tensor_split: at least one share must be above 0")
    if split and settings.gpu_layers == 0:
        raise ValueError("tensor_split: there is nothing to split with gpu_layers 0")
    if split and settings.split_mode == "none":
        raise ValueError("tensor_split: there is nothing to split with split_mode none")
    if settings.cache_type_v in QUANTIZED and settings.flash_attention == "off":
        raise ValueError("cache_type_v: a quantized V cache needs flash_attention")
