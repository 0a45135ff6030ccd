"""The one place where settings change while the service runs. Belongs to the event loop.

A change is (1) checked, (2) written to disk without counting yet, (3) tried: models that it
concerns are loaded anew beside those that serve, and only then does it (4) count and (5) apply, all
at once and without a pause. What fails before (5) leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from service.control.config import (
    Applied,
    Version,
    differences,
    fingerprint,
    in_force,
    is_meant,
    made,
    patched,
    pending,
)
from service.control.versions import (
    KEPT,
    Staged,
    Start,
    Versions,
    folder_of,
    preset_of,
    source_of,
)
from service.errors import ServiceError, StaleVersion, VersionNotFound
from service.followed_file import FollowedFile
from service.serving.runtime import Runtime
from service.settings import Settings, SettingsError
from service.settings_needs import need
from service.settings_sources import Given, read

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
Listener = Callable[[Applied], None]
# The label of what came of a change; what is not here is no one's fault but ours.
RESULTS: Final = {400: "invalid", 409: "refused", 507: "not_written"}


class Reconfiguration:
    def __init__(
        self, start: Start, runtime: Runtime, clock: Callable[[], float] = time.time
    ) -> None:
        self._given = start.given
        self._started = start.settings
        self._wanted = start.settings
        self._settings = start.settings
        self._version = start.version
        self._kept = [version for version in start.kept if version.number < start.version.number]
        self._store = Versions(folder_of(start.given.settings()))
        self._runtime = runtime
        self._clock = clock
        self._listeners: list[Listener] = []
        self._changing = asyncio.Lock()
        self._file = FollowedFile(lambda: self._given.path)
        # Why what lies on disk is not what is in force, if that is so: of versions, and of the file.
        self._passed_over = start.problems
        self._file_problem: str | None = None
        self.changed_at = start.version.made_at
        self.outcomes: Counter[tuple[str, str]] = Counter()
        for problem in start.problems:
            logger.error("Settings: %s", problem)

    @property
    def settings(self) -> Settings:
        """What is in force."""
        return self._settings

    @property
    def given(self) -> Given:
        return self._given

    @property
    def version(self) -> Version:
        return self._version

    @property
    def problems(self) -> tuple[str, ...]:
        """Why what lies on disk is not what is in force; empty where it is."""
        file = (self._file_problem,) if self._file_problem is not None else ()
        return (*self._passed_over, *file)

    @property
    def successful(self) -> bool:
        return not self.problems

    @property
    def number(self) -> int:
        return self._version.number

    @property
    def preset(self) -> str:
        return preset_of(self._version)

    @property
    def pending(self) -> tuple[str, ...]:
        """What waits for the next start."""
        return pending(self._wanted, self._started)

    @property
    def wanted(self) -> Settings:
        """What is in force, or will be from the next start on."""
        return self._wanted

    def versions(self) -> list[Version]:
        """Newest first."""
        return [self._version, *self._kept][:KEPT]

    def listen(self, listener: Listener) -> None:
        """It is called after every change in force."""
        self._listeners.append(listener)

    async def apply(
        self,
        patch: Mapping[str, Any],
        *,
        by: str,
        why: str,
        expected: str | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """`patch`: values of settings' keys; None takes an override away. `expected`: the number or
        the hash of the version that the change was thought out for.

        Raises InvalidSettings, StaleVersion, ChangeRefused, StateNotWritten."""
        with self._told(why, dry_run=dry_run):
            overrides = patched(self._version.overrides, patch)
            return await self._over(overrides, by, why, expected, dry_run=dry_run)

    async def rollback(
        self,
        number: int,
        *,
        by: str,
        why: str | None = None,
        expected: str | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """A new version with the overrides of an old one. Raises VersionNotFound beside what
        `apply` raises."""
        why = why or f"rollback:{number}"
        with self._told(why, dry_run=dry_run):
            found = next((each for each in self.versions() if each.number == number), None)
            if found is None:
                raise VersionNotFound(f"There is no version {number}.")
            return await self._over(dict(found.overrides), by, why, expected, dry_run=dry_run)

    async def replace(
        self,
        overrides: Mapping[str, Any],
        *,
        by: str,
        why: str,
        expected: str | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """As `apply`, with these overrides and no others."""
        with self._told(why, dry_run=dry_run):
            return await self._over(patched({}, overrides), by, why, expected, dry_run=dry_run)

    async def reload(self) -> Applied | None:
        """The file anew. None where it is none, or cannot be honoured: what ran goes on, and
        `problems` says why."""
        try:
            with self._told("file", dry_run=False):
                # Before it is read: what is written meanwhile is seen the next time.
                await asyncio.to_thread(self._file.look)
                given = await asyncio.to_thread(read, self._given.command_line)
                for remark in given.remarks:
                    logger.warning("Settings: %s", remark)
                async with self._changing:
                    plan = self._plan(given, self._version.overrides, "file", "file")
                    applied = await self._put_in_force(given, plan)
        except (SettingsError, ServiceError) as error:
            self._file_problem = str(error)
            logger.error("The file's settings are not in force: %s", error)
            return None
        self._file_problem = None
        return applied

    def file_differs(self) -> bool:
        """Whether the file says something else than what was read of it; looks at the disk."""
        if self._given.path is None:
            return False
        try:
            return read(self._given.command_line).file != self._given.file
        except SettingsError:
            return True

    async def follow_file(self) -> None:
        """Reads it anew when it has changed, until it is cancelled."""
        while self._given.path is not None:
            await asyncio.sleep(LOOK_SECONDS)
            if await asyncio.to_thread(self._file.changed):
                await self.reload()

    @contextmanager
    def _told(self, why: str, *, dry_run: bool) -> Iterator[None]:
        """What came of it is counted, unless it was no change at all."""
        result, before = "failed", self._version
        try:
            yield
            result = "applied"
        except (ServiceError, SettingsError) as error:
            result = RESULTS.get(getattr(error, "status", 400), "failed")
            raise
        finally:
            if not dry_run and (result != "applied" or self._version is not before):
                self.outcomes[source_of(why), result] += 1

    async def _over(
        self,
        overrides: dict[str, Any],
        by: str,
        why: str,
        expected: str | None,
        *,
        dry_run: bool,
    ) -> Applied:
        base = self._version
        if expected is not None and not is_meant(base, expected):
            raise StaleVersion(
                f"The settings have changed: version {base.number} is in force, with the hash "
                f"{base.hash}."
            )
        if dry_run:
            return self._plan(self._given, overrides, by, why).applied
        if self._changing.locked():
            raise StaleVersion("Another change is being made at this moment.")
        # Once begun it comes to its end, whoever stops waiting for it.
        return await asyncio.shield(asyncio.create_task(self._after(base, overrides, by, why)))

    async def _after(self, base: Version, overrides: dict[str, Any], by: str, why: str) -> Applied:
        async with self._changing:
            if self._version is not base:
                raise StaleVersion("Another change was made at the same moment.")
            plan = self._plan(self._given, overrides, by, why)
            return await self._put_in_force(self._given, plan)

    def _plan(self, given: Given, overrides: dict[str, Any], by: str, why: str) -> Plan:
        """(1) Raises InvalidSettings."""
        wanted = made(given, overrides)
        settings = in_force(wanted, self._started)
        changed = differences(self._wanted, wanted)
        number = max(self._version.number, self._store.next_number() - 1) + 1
        version = Version(number, fingerprint(wanted), self._clock(), by, why, overrides)
        restart = tuple(key for key in changed if need(key) == "restart")
        reloads = tuple(self._runtime.affected(settings))
        applied = Applied(version, self._version, changed, reloads, restart, dry_run=True)
        return Plan(wanted, settings, applied)

    async def _put_in_force(self, given: Given, plan: Plan) -> Applied:
        applied = replace(plan.applied, dry_run=False)
        if not applied.changed and applied.version.overrides == self._version.overrides:
            self._given = given
            return replace(applied, version=self._version)
        staged = await asyncio.to_thread(self._stage, applied.version)  # (2)
        try:
            succession = await self._runtime.prepare(plan.settings)  # (3)
        except BaseException:
            await asyncio.to_thread(staged.drop)
            raise
        try:
            await asyncio.to_thread(staged.commit)  # (4)
        except BaseException:
            await succession.abandon()
            raise
        reloads = succession.reloaded
        self._kept = self.versions()[: KEPT - 1]
        self._given, self._wanted, self._settings = given, plan.wanted, plan.settings
        self._passed_over = ()
        self._version, self.changed_at = applied.version, applied.version.made_at
        await self._runtime.adopt(plan.settings, succession)  # (5)
        applied = replace(applied, reloads=reloads)
        self._tell(applied)
        return applied

    def _stage(self, version: Version) -> Staged:
        """With the first change what was before it is kept as well, so that there is a way back."""
        if not self._store.read()[0]:
            self._store.stage(self._version).commit()
        return self._store.stage(version)

    def _tell(self, applied: Applied) -> None:
        names = ", ".join(applied.changed) or "nothing that is in force"
        version = applied.version
        logger.info("Settings: version %d (%s): %s", version.number, version.why, names)
        for listener in self._listeners:
            try:
                listener(applied)
            except Exception:
                logger.exception("a listener to changes of settings failed")


@dataclass(frozen=True)
class Plan:
    wanted: Settings
    settings: Settings
    applied: Applied
