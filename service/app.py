"""The only place that wires: settings in, an ASGI application out."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import Scope

from service import admin
from service.access.caller import Caller
from service.access.key_file import KeyFile
from service.access.keys import KeyFileError
from service.catalog.configured import catalog_of
from service.catalog.ollama_inspection import Inspection
from service.control.analyst import Analyst
from service.control.audit import Audit
from service.control.config import Applied
from service.control.history import History
from service.control.incidents import tally
from service.control.machine import machine_name
from service.control.presets import BUILT_IN, read_presets
from service.control.recommending import RULES
from service.control.records import Change
from service.control.versions import Start, afresh
from service.dialects import routing
from service.dialects.body import ClientGone
from service.dialects.failures import ErrorPages, Failure, GenerationFailed
from service.dialects.responses.store import ResponseStore
from service.dialects.turnstile import Turnstile
from service.edge.gate import Gate
from service.edge.host_guard import HostGuard
from service.edge.in_force import InForce
from service.edge.origins import Origins
from service.errors import ServiceError
from service.fleet.quantizing import quantize
from service.fleet.vetting import Vetting
from service.lifetime import beside, starting
from service.observing import Observing, observing
from service.registries import Registries
from service.serving.keyed_runtime import as_the_key_finds_it
from service.serving.runtime import Runtime
from service.settings import Settings, SettingsError
from service.stats import Observer
from service.store.library import Library
from service.store.own_store import OwnStore
from service.telemetry import logs
from service.telemetry.advice import Advice
from service.telemetry.api_keys import ApiKeys
from service.telemetry.configuration import Configuration
from service.telemetry.energy import EnergyLedger
from service.telemetry.http import Telemetry
from service.telemetry.verdicts import Verdicts
from service.tuning.estimation import analyst_of
from service.tuning.optimization import AUTOMATIC, Optimization
from service.tuning.reconfiguration import Reconfiguration
from service.tuning.trial import Trial

try:
    VERSION = version("llm-inference-service")
except PackageNotFoundError:
    # Run from a checkout that nobody installed.
    VERSION = "0+checkout"
logger = logging.getLogger(__name__)


MakeRuntime = Callable[[Settings, Observer], Runtime]


def default_runtime(settings: Settings, observer: Observer) -> Runtime:
    catalog = catalog_of(settings)
    vet = Vetting(catalog, checksums=settings.verify_checksums)
    return Runtime(catalog, settings, observer, vet=vet)


def create_app(
    settings: Settings | Start, make_runtime: MakeRuntime = default_runtime
) -> Starlette:
    """Of bare settings nothing that was changed at run time is read."""
    start = afresh(settings, time.time()) if isinstance(settings, Settings) else settings
    settings = start.settings
    presets = BUILT_IN if settings.presets_file is None else read_presets(settings.presets_file)
    seen = observing(settings, VERSION)
    recorder, registry, monitors = seen.recorder, seen.registry, seen.monitors
    runtime = make_runtime(settings, seen.observer)
    reconfiguration = Reconfiguration(start, runtime)
    reconfiguration.listen(follow_level)
    registry.register(Configuration(reconfiguration, seen.engine_gpus))

    def in_force() -> Settings:
        return reconfiguration.settings

    audit = Audit(settings.state_dir, on_lost=recorder.families.audit_lost.inc)
    analyst = analyst_of(
        seen.workload,
        monitors,
        recorder.families.loop_lag,
        lambda: runtime.models(),
        in_force,
        runtime.learnt,
    )
    reconfiguration.listen(lambda applied: analyst.on_change(applied.changed))
    registry.register(Advice(lambda: analyst.latest))
    optimization = optimization_of(seen, runtime, reconfiguration, analyst, audit)
    analyst.learned, analyst.dismissed = optimization.learned, optimization.dismissed
    registry.register(Verdicts(optimization.judging.changes.outcomes))
    trial = Trial(
        runtime,
        reconfiguration,
        optimization.judging,
        seen.sampled,
        lambda: machine_name(monitors),
    )
    library = Library(
        OwnStore(settings.store),
        Registries.parse(settings.pull_from),
        lambda: runtime.refresh(),
        quantize,
    )
    inspection = Inspection(lambda: [model.card for model in runtime.models()], in_force)
    pages = ErrorPages(routing.WORDINGS)
    keys = keys_of(settings)
    registry.register(ApiKeys(keys))
    gate = Gate(
        keys,
        as_the_key_finds_it,
        lambda why: recorder.families.auth_failures.labels(why).inc(),
        audit,
    )

    def leaving() -> bool:
        return runtime.leaving or runtime.draining

    def misdirected(scope: Scope) -> Response:
        return pages.page(scope, Failure(421, "The Host header names another server"))

    def state() -> dict[str, Any]:
        """What endpoints find in `request.state`."""
        return {
            "runtime": runtime,
            "library": library,
            "settings": settings,
            "reconfiguration": reconfiguration,
            "analyst": analyst,
            "optimization": optimization,
            "trial": trial,
            "inspection": inspection,
            "presets": presets,
            "turnstile": Turnstile(),
            "responses": ResponseStore(),
            "recorder": recorder,
            "exposition": seen.exposition,
            "mirror": seen.mirror,
            "monitors": monitors,
            "energy": EnergyLedger(),
            "audit": audit,
            "version": VERSION,
        }

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        """What is named first is closed last."""
        asyncio.get_running_loop().set_default_executor(seen.workers.executor())
        async with AsyncExitStack() as closing:
            if seen.spans is not None:
                closing.push_async_callback(asyncio.to_thread, seen.spans.shutdown)
            closing.push_async_callback(asyncio.to_thread, audit.close)
            closing.push_async_callback(runtime.close)
            closing.push_async_callback(library.close)
            closing.push_async_callback(optimization.judging.close)
            await closing.enter_async_context(
                beside(
                    recorder.sample_loop_lag(),
                    reconfiguration.follow_file(),
                    inspection.follow(),
                    analyst.run(),
                    optimization.judging.run(),
                    *([keys.watch()] if keys is not None else []),
                )
            )
            closing.push_async_callback(trial.close)
            await closing.enter_async_context(starting(runtime, partial(stop, app)))
            # What was imported stays: no collection needs to look at it again, while streams wait.
            gc.collect()
            gc.freeze()
            closing.enter_context(monitors.running())
            yield state()

    middleware = [
        Middleware(Telemetry, recorder, pages.crash, leaving, spans=seen.spans),
        Middleware(InForce, in_force),
        Middleware(HostGuard, in_force, misdirected),
        Middleware(routing.DialectHeader),
        Middleware(Origins, in_force),
    ]
    app = Starlette(
        routes=gate.guarded([*routing.routes(), *admin.routes]),
        middleware=middleware,
        exception_handlers={
            ServiceError: pages.service_error,
            GenerationFailed: pages.generation_failed,
            ClientGone: pages.client_gone,
            HTTPException: pages.http_error,
        },
        lifespan=lifespan,
    )
    app.state.runtime = runtime
    app.state.reconfiguration = reconfiguration
    app.state.keys = keys
    app.state.failed = False
    return app


def keys_of(settings: Settings) -> KeyFile | None:
    """Raises SettingsError."""
    if settings.api_keys_file is None:
        return None
    try:
        return KeyFile(settings.api_keys_file)
    except KeyFileError as error:
        raise SettingsError(f"api_keys_file: {error}") from None


def follow_level(applied: Applied) -> None:
    """Of its own accord: SIGUSR1 may have switched it since."""
    if "log_level" in applied.changed:
        logs.set_level(applied.changed["log_level"][1])


def optimization_of(
    seen: Observing,
    runtime: Runtime,
    reconfiguration: Reconfiguration,
    analyst: Analyst,
    audit: Audit,
) -> Optimization:
    def on_automatic(change: Change, applied: Applied | None, result: str) -> None:
        audit.write(
            Caller(AUTOMATIC, frozenset(), ""),
            f"rollback of change {change.id}",
            applied.changed if applied is not None else {},
            result,
            applied.version.number if applied is not None else None,
        )

    return Optimization(
        reconfiguration,
        analyst,
        seen.samples,
        History(reconfiguration.settings.state_dir / "optimization"),
        known=frozenset(rule.id for rule in RULES).__contains__,
        tally=lambda: tally(
            seen.monitors.gpus,
            seen.monitors.machine,
            sum(model.deaths for model in runtime.models()),
            seen.samples.load_failures,
        ),
        hardware=lambda: machine_name(seen.monitors),
        automatic=lambda: reconfiguration.settings.auto_rollback,
        on_automatic=on_automatic,
    )


def stop(app: Starlette, error: BaseException) -> None:
    logger.critical("The service cannot start", exc_info=error)
    app.state.failed = True
    signal.raise_signal(signal.SIGTERM)
