"""How models are shared out over GPUs: shown, tried and changed.

    GET  /api/dashboard/weight-distribution            as configured, as estimated, as measured
    POST /api/dashboard/weight-distribution            changes it: {"preset"} or {"gpu_weights"}, {"model_config"}
    GET  /api/dashboard/weight-distribution/presets    the ways that there are
    POST /api/dashboard/weight-distribution/validate   what would be wrong with one; changes nothing

`gpu_weights` are percentages, by the cards' ids; cards that nobody names share what is left, and
where all are named a sum beside 100 is scaled to it. With `model_name` all is said of that model,
else of every one. A change goes the way of every change of settings: models are loaded anew behind
those that serve, and where that fails everything stays as it was. `"dry_run": true` tries it on paper.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporters.readings import GpuReading
from service.catalog.card import ModelCard
from service.control import weights
from service.control.config import made, patched
from service.control.hardware import hardware
from service.control.rule import own_key, with_own
from service.control.weights import Card, written
from service.dialects.body import read_object
from service.dialects.fields import Fields
from service.dialects.framing import json_response
from service.dialects.seed.changes import recorded
from service.dialects.seed.configure import version_of
from service.dialects.seed.weights_encode import Summary, encode_presets, encode_summary
from service.dialects.state import State
from service.errors import ChangeRefused, InvalidRequest, InvalidSettings, ServiceError
from service.fleet.calibration import Learnt
from service.fleet.constraints import PlacementError
from service.fleet.devices import RESERVE, built_for_gpus
from service.serving.model_status import ModelStatus
from service.settings import Settings
from service.telemetry.http import exchange_of
from service.tuning.distribution import Estimate, Source, concerned, estimate, held, pids, present

WITHOUT_GPU_BUILD: Final = (
    "llama.cpp is installed here without GPU support: shares are kept, and count once it has it"
)


class NoGpuMetrics(ServiceError):
    status = 503
    code = "no_gpu_metrics"

    def __init__(self) -> None:
        super().__init__("GPU metrics not available")


class Sizes(Struct, frozen=True):
    """Of a change; None: as it is."""

    context_size: int | None = None
    batch_size: int | None = None
    gpu_layers: int | None = None


@dataclass(frozen=True)
class Wanted:
    """percentages: of each card; None: as they are. basis: what they come from, in words."""

    percentages: Sequence[float] | None
    basis: str
    sizes: Sizes


@dataclass(frozen=True)
class Scene:
    """What a question is about: all that is known at this moment. `model` None: every one."""

    settings: Settings
    gpus: tuple[GpuReading, ...]
    cards: tuple[Card, ...]
    statuses: tuple[ModelStatus, ...]
    learnt: Learnt
    model: ModelCard | None

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.model is None else (self.model.name, *self.model.aliases)


async def shown(request: Request[State]) -> Response:
    scene = scene_of(request, request.query_params.get("model_name"))
    return json_response(encode_summary(await summary(scene, scene.settings, None)))


async def presets(request: Request[State]) -> Response:
    return json_response(encode_presets())


async def validate(request: Request[State]) -> Response:
    fields = await body(request)
    scene, wanted = asked(request, fields, rescale=False)
    tell_unread(request, fields)
    try:
        settings, wrong = candidate(request, scene, wanted), list[str]()
    except InvalidSettings as error:
        settings, wrong = scene.settings, [error.message]
    found = await summary(scene, settings, wanted)
    return json_response(
        {
            "is_valid": found.valid and not wrong,
            "validation_errors": [*wrong, *found.errors],
            "tensor_split": written(found.fractions),
            "config_summary": encode_summary(found),
        }
    )


async def change(request: Request[State]) -> Response:
    """(1) The settings are in order, (2) it is a distribution, (3) memory can hold it, (4) apply."""
    fields = await body(request)
    version, dry_run = version_of(request, fields), fields.flag("dry_run")
    scene, wanted = asked(request, fields, rescale=True)
    if wanted.percentages is None and wanted.sizes == Sizes():
        raise InvalidRequest("Invalid configuration data")
    tell_unread(request, fields)
    settings = candidate(request, scene, wanted)  # (1)
    found, patch = await summary(scene, settings, wanted), patch_of(scene, wanted)
    if found.problems:
        raise InvalidRequest("; ".join(found.problems))  # (2)
    with recorded(request, "weights") as line:
        if found.cramped:
            raise ChangeRefused("; ".join(found.cramped))  # (3)
        applied = await request.state["reconfiguration"].apply(
            patch, by=line.by, why="weights", expected=version, dry_run=dry_run
        )  # (4)
        line.of(applied)
    config = encode_summary(found) | {"config_version": applied.version.number}
    words = "would be applied" if dry_run else "applied"
    return json_response(
        {
            "status": "success",
            "message": f"Weight distribution {words}: {found.basis}",
            "config": config,
            "warnings": list(found.warnings) + ([] if built_for_gpus() else [WITHOUT_GPU_BUILD]),
            "requires_reload": list(applied.reloads),
            "config_hash": applied.version.hash,
            "dry_run": dry_run,
        }
    )


# What is asked


async def body(request: Request[State]) -> Fields:
    limit = request.state["settings"].max_body_bytes
    return Fields(await read_object(request.scope, request.receive, limit))


def tell_unread(request: Request[State], fields: Fields) -> None:
    exchange_of(request.scope).ignored += fields.unread()


def scene_of(request: Request[State], name: str | None) -> Scene:
    """Raises NoGpuMetrics, and ModelNotFound for a name."""
    runtime = request.state["runtime"]
    statuses = concerned(runtime, name)
    gpus = hardware(request.state["monitors"]).gpus
    cards = weights.cards(gpus, pids(statuses))
    if not cards:
        raise NoGpuMetrics
    model = None if name is None else runtime.resolve(name)
    settings = request.state["reconfiguration"].settings
    return Scene(settings, gpus, cards, tuple(statuses), runtime.learnt, model)


def asked(request: Request[State], fields: Fields, *, rescale: bool) -> tuple[Scene, Wanted]:
    name = fields.text("model_name", longest=256)
    config = fields.object("model_config")
    sizes = Sizes()
    if config is not None:
        name = config.text("model_name", longest=256) or name
        sizes = Sizes(
            config.integer("context_size", low=32, high=1 << 26),
            config.integer("batch_size", low=1, high=65536),
            config.integer("gpu_layers", low=0, high=1 << 20),
        )
        if unread := config.unread():
            raise config.bad(unread[0], "is not known")
    scene = scene_of(request, name or None)
    if scene.model is not None and sizes.batch_size not in (None, scene.settings.batch_size):
        raise InvalidRequest(
            "model_config.batch_size: is that of all models; leave model_name out",
            param="model_config.batch_size",
        )
    preset, given = fields.text("preset", longest=64), weights_of(fields)
    if preset is not None and given:
        raise InvalidRequest("preset and gpu_weights: only one of them", param="preset")
    if preset is not None:
        found = weights.distribute(weights.find(preset).strategy, scene.cards)
        return scene, Wanted([100 * share for share in found.shares], found.basis, sizes)
    if given:
        now = present(scene.settings, scene.model, scene.statuses, scene.cards).shares
        whole = weights.completed(given, now, scene.cards)
        if rescale and len(given) == len(scene.cards) and min(whole) >= 0 and sum(whole) > 0:
            whole = [100 * share for share in weights.in_parts(whole)]
        return scene, Wanted(whole, "as asked for", sizes)
    return scene, Wanted(None, "as before", sizes)


def weights_of(fields: Fields) -> dict[int, float]:
    found: dict[int, float] = {}
    for each in fields.objects("gpu_weights"):
        id, weight = each.integer("gpu_id", low=0, high=1 << 16), each.number("weight")
        if id is None or weight is None:
            raise each.bad("gpu_id" if id is None else "weight", "is missing")
        if id in found:
            raise each.bad("gpu_id", f"GPU {id} is there twice")
        found[id] = weight
    return found


# What comes of it


def patch_of(scene: Scene, wanted: Wanted) -> dict[str, Any]:
    """Of the settings: of all models, or of the one that is asked about."""
    own = {
        "gpu_layers": wanted.sizes.gpu_layers,
        "tensor_split": None if wanted.percentages is None else fractions(wanted.percentages),
    }
    own = {key: value for key, value in own.items() if value is not None}
    context, batch = wanted.sizes.context_size, wanted.sizes.batch_size
    if scene.model is None:
        shared = {"default_context_size": context, "batch_size": batch}
        return own | {key: value for key, value in shared.items() if value is not None}
    if context is not None:
        own["context_size"] = context
    key = own_key(scene.settings, scene.names) or scene.model.name
    return {"models": with_own(scene.settings, {key: own})}


def fractions(percentages: Sequence[float]) -> list[float]:
    return list(weights.in_parts(percentages))


def candidate(request: Request[State], scene: Scene, wanted: Wanted) -> Settings:
    """As they would be. Raises InvalidSettings. Shares that are none are judged, not applied."""
    if wanted.percentages is not None and weights.wrong(wanted.percentages, scene.cards):
        return scene.settings
    reconfiguration = request.state["reconfiguration"]
    overrides = patched(reconfiguration.version.overrides, patch_of(scene, wanted))
    return made(reconfiguration.given, overrides)


async def summary(scene: Scene, settings: Settings, wanted: Wanted | None) -> Summary:
    source: Source
    now = present(settings, scene.model, scene.statuses, scene.cards)
    if wanted is not None and wanted.percentages is not None:
        percentages, source, basis = list(wanted.percentages), "configured", wanted.basis
    else:
        percentages = [100 * share for share in now.shares]
        source, basis = now.source, now.basis
    problems = [*weights.wrong(percentages, scene.cards), *now.problems]
    estimated, cramped = Estimate(), list[str]()
    if not problems:
        try:
            estimated = await estimate(settings, scene.statuses, scene.cards, scene.learnt)
        except PlacementError as error:
            problems = [str(error)]
        if estimated.needs:
            cramped = weights.cramped(estimated.needs, scene.cards, RESERVE)
    own = settings.for_model(scene.names)
    facts = scene.statuses[0].facts if len(scene.statuses) == 1 else None
    loaded = (None, None) if facts is None else (facts.n_ctx, facts.gpu_layers)
    return Summary(
        cards=scene.cards,
        percentages=percentages,
        source=source,
        basis=basis,
        model=None if scene.model is None else scene.model.name,
        context=loaded[0] if own.context_size is None else own.context_size,
        layers=loaded[1] if own.gpu_layers is None else own.gpu_layers,
        batch=settings.batch_size,
        problems=tuple(problems),
        cramped=tuple(cramped),
        warnings=tuple(weights.hot(percentages, scene.cards)),
        estimated=estimated,
        held=held(scene.statuses, scene.gpus),
        made_at=time.time(),
    )


PATH: Final = "/api/dashboard/weight-distribution"
at_root: Final = [
    Route(PATH, shown),
    Route(PATH, change, methods=["POST"]),
    Route(f"{PATH}/presets", presets),
    Route(f"{PATH}/validate", validate, methods=["POST"]),
]
