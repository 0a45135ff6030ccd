"""The only place that wires: settings in, an ASGI application out."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import Scope

from exporters.collector import Guards
from exporters.monitors import NAMES, Monitors
from exporters.readings import GpuReading
from service import admin
from service.access.caller import Caller
from service.access.key_file import KeyFile
from service.access.keys import KeyFileError
from service.catalog.configured import catalog_of, places_of
from service.control.audit import Audit
from service.control.config import Applied
from service.control.hardware import engine_gpus
from service.control.history import History
from service.control.incidents import tally
from service.control.machine import machine_name
from service.control.presets import BUILT_IN, read_presets
from service.control.recommending import RULES
from service.control.samples import Sampled, Samples
from service.control.versions import Start, afresh
from service.control.workload import Tallied, Workload
from service.dialects import routing
from service.dialects.body import ClientGone
from service.dialects.failures import ErrorPages, Failure, GenerationFailed
from service.dialects.responses_store import ResponseStore
from service.dialects.turnstile import Turnstile
from service.errors import ServiceError
from service.estimation import analyst_of
from service.fleet.quantizing import quantize
from service.fleet.vetting import Vetting
from service.gate import Gate
from service.host_guard import HostGuard
from service.in_force import InForce
from service.inspection import Inspection
from service.keyed_runtime import as_the_key_finds_it
from service.optimization import AUTOMATIC, Optimization
from service.origins import Origins
from service.reconfiguration import Reconfiguration
from service.registries import Registries
from service.runtime import Runtime
from service.settings import Settings, SettingsError
from service.stats import Observer
from service.store.library import Library
from service.store.own_store import OwnStore
from service.telemetry import logs
from service.telemetry.advice import Advice
from service.telemetry.api_keys import ApiKeys
from service.telemetry.configuration import Configuration
from service.telemetry.energy import EnergyLedger
from service.telemetry.exposition import Exposition, add_build_info, own_collectors
from service.telemetry.http import Telemetry
from service.telemetry.mirror import StateCollector
from service.telemetry.recorder import Recorder
from service.telemetry.tracing import Traced, tracing
from service.telemetry.verdicts import Verdicts
from service.telemetry.worker_threads import WorkerThreads
from service.trial import Trial

try:
    VERSION = version("llm-inference-service")
except PackageNotFoundError:
    # Run from a checkout that nobody installed.
    VERSION = "0+checkout"
logger = logging.getLogger(__name__)

# The scan of a large or slow disk goes on behind an open port.
START_SECONDS: Final = 0.5


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
    registry = CollectorRegistry()
    apis = [dialect.name for dialect in routing.DIALECTS]
    recorder = Recorder(CollectorRegistry(), apis, time.time)
    mirror = StateCollector()
    monitors = Monitors(
        mirror.is_engine,
        [root.path for root in places_of(settings)],
        settings.expected_gpus,
        without=() if settings.exporters else NAMES,
    )
    exposed = monitors.collectors if settings.expose_exporters else {}
    registry.register(Guards({**own_collectors(mirror), **exposed}))
    workers = WorkerThreads()
    registry.register(workers)
    add_build_info(registry, VERSION)
    spans = tracing(os.environ, VERSION, recorder.families.trace_spans_dropped.inc)
    workload = Workload(time.monotonic)
    samples = Samples()
    told = Tallied(recorder if spans is None else Traced(recorder, spans), workload)
    sampled = Sampled(told, samples)
    runtime = make_runtime(settings, sampled)
    reconfiguration = Reconfiguration(start, runtime)
    reconfiguration.listen(follow_level)

    def shown() -> tuple[GpuReading, ...] | None:
        reading, visible = monitors.gpus, os.environ.get("CUDA_VISIBLE_DEVICES")
        return None if reading is None else engine_gpus(reading, visible)

    registry.register(Configuration(reconfiguration, shown))

    def in_force() -> Settings:
        return reconfiguration.settings

    analyst = analyst_of(
        workload,
        monitors,
        recorder.families.loop_lag,
        lambda: runtime.models(),
        in_force,
        runtime.learnt,
    )
    reconfiguration.listen(lambda applied: analyst.on_change(applied.changed))
    registry.register(Advice(lambda: analyst.latest))
    optimization = Optimization(
        reconfiguration,
        analyst,
        samples,
        History(settings.state_dir / "optimization"),
        known=frozenset(rule.id for rule in RULES).__contains__,
        tally=lambda: tally(
            monitors.gpus,
            monitors.machine,
            sum(model.deaths for model in runtime.models()),
            samples.load_failures,
        ),
        hardware=lambda: machine_name(monitors),
        automatic=lambda: in_force().auto_rollback,
        on_automatic=lambda change, applied, result: audit.write(
            Caller(AUTOMATIC, frozenset(), ""),
            f"rollback of change {change.id}",
            applied.changed if applied is not None else {},
            result,
            applied.version.number if applied is not None else None,
        ),
    )
    analyst.learned, analyst.dismissed = optimization.learned, optimization.dismissed
    registry.register(Verdicts(optimization.judging.changes.outcomes))
    trial = Trial(
        runtime, reconfiguration, optimization.judging, sampled, lambda: machine_name(monitors)
    )
    library = Library(
        OwnStore(settings.store),
        Registries.parse(settings.pull_from),
        lambda: runtime.refresh(),
        quantize,
    )
    inspection = Inspection(lambda: [model.card for model in runtime.models()], in_force)
    audit = Audit(settings.state_dir, on_lost=recorder.families.audit_lost.inc)
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

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        asyncio.get_running_loop().set_default_executor(workers.executor())
        lag = asyncio.create_task(recorder.sample_loop_lag())
        following = asyncio.create_task(reconfiguration.follow_file())
        inspecting = asyncio.create_task(inspection.follow())
        analysing = asyncio.create_task(analyst.run())
        judging = asyncio.create_task(optimization.judging.run())
        watching = asyncio.create_task(keys.watch()) if keys is not None else None
        starting = asyncio.create_task(runtime.start())
        await asyncio.wait({starting}, timeout=START_SECONDS)
        if starting.done():
            starting.result()
        else:
            starting.add_done_callback(partial(stop_if_failed, app))
        # What was imported stays: no collection needs to look at it again, while streams wait.
        gc.collect()
        gc.freeze()
        with monitors.running():
            yield {
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
                "exposition": Exposition(recorder.families.all, registry),
                "mirror": mirror,
                "monitors": monitors,
                "energy": EnergyLedger(),
                "audit": audit,
                "version": VERSION,
            }
        lag.cancel()
        following.cancel()
        inspecting.cancel()
        await trial.close()
        analysing.cancel()
        judging.cancel()
        ending = {starting, lag, following, inspecting, analysing, judging}
        if watching is not None:
            watching.cancel()
            ending.add(watching)
        await asyncio.wait(ending)
        await optimization.judging.close()
        await library.close()
        await runtime.close()
        await asyncio.to_thread(audit.close)
        if spans is not None:
            await asyncio.to_thread(spans.shutdown)

    middleware = [
        Middleware(Telemetry, recorder, pages.crash, leaving, spans=spans),
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


def stop_if_failed(app: Starlette, starting: asyncio.Task[None]) -> None:
    if not starting.cancelled() and (error := starting.exception()) is not None:
        logger.critical("The service cannot start", exc_info=error)
        app.state.failed = True
        signal.raise_signal(signal.SIGTERM)
