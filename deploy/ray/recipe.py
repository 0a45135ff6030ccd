"""What the `args` of serve.yaml say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """`name` as clients ask for it. `slots` and `queue`: requests that one replica computes and lets
    wait, as the service's `parallel_slots` and `queue_size`. `arguments`: further ones of the service,
    such as the directory of this model; it should have no other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    aliases: tuple[str, ...] = ()
    replicas: Annotated[int, Field(ge=1)] = 1
    max_replicas: Annotated[int, Field(ge=1)] | None = None
    slots: Annotated[int, Field(ge=1)] = 4
    queue: Annotated[int, Field(ge=0)] = 16
    cpus: Annotated[float, Field(ge=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    arguments: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """As a deployment can be called."""
        return "".join(each if each.isalnum() else "-" for each in self.name)


class Recipe(BaseModel):
    """`command` starts the service on a node. `host`: where the services of replicas listen, which
    Prometheus asks; the replica itself asks there too. `targets`: the folder of files for Prometheus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    command: Annotated[tuple[str, ...], Field(min_length=1)] = ("llm-inference",)
    host: str = "127.0.0.1"
    targets: str | None = None
    arguments: tuple[str, ...] = ()

    def service(self, model: Model, state: str) -> tuple[str, ...]:
        """The command of one replica, but for its address."""
        return (
            *self.command,
            "serve",
            *("--default-model", model.name, "--pinned-models", model.name),
            *("--max-loaded-models", "1", "--keep-alive", "-1"),
            *("--parallel-slots", str(model.slots), "--queue-size", str(model.queue)),
            *("--state-dir", state, "--log-format", "json"),
            *self.arguments,
            *model.arguments,
        )
