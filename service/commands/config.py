"""llm-inference config: the settings of a service, from a terminal.

    llm-inference config show [--all]      llm-inference config history
    llm-inference config validate FILE     llm-inference config rollback NUMBER
    llm-inference config export

A service that runs is asked by HTTP: what is in force only it knows, and it alone may write its
state. Where none answers, the versions in the state directory are read, and a rollback is what the
next start begins with. `validate` asks nobody. An API key is taken from LLM_API_KEY. Exit codes:
0 done, 1 refused or not in order, 2 not understood.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import httpx
from pydantic import ValidationError

from service.control.config import Version, fingerprint, made, reasons, written
from service.control.versions import Start, Versions, folder_of, started
from service.dialects.seed.configure import PATH, encode_version, exported
from service.edge.host_guard import WILDCARDS
from service.errors import ServiceError
from service.settings import SettingsError
from service.settings_errors import complaint
from service.settings_file import read_file
from service.settings_sources import Given, read

# A change may have to load models.
TIMEOUT: Final = httpx.Timeout(10.0, read=3600.0)


class Refused(Exception):
    pass


class Keeper(Protocol):
    """Who has the settings: a service that runs, or its state directory."""

    def show(self) -> Mapping[str, Any]: ...
    def history(self) -> Sequence[Mapping[str, Any]]: ...
    def rollback(self, number: int) -> str: ...
    def export(self) -> str: ...


def main(arguments: Sequence[str], out: TextIO | None = None) -> int:
    out = out or sys.stdout
    given = parser().parse_args(arguments)
    try:
        if given.command == "validate":
            validate(given.file, out)
        else:
            with httpx.Client(timeout=TIMEOUT, trust_env=False) as http:
                COMMANDS[given.command](keeper(http, given), given, out)
    except (Refused, SettingsError) as error:
        return failed(str(error))
    except ServiceError as error:
        return failed(error.message)
    except httpx.HTTPError as error:
        return failed(f"no answer: {error}")
    return 0


def failed(why: str) -> int:
    sys.stderr.write(f"llm-inference: {why}\n")
    return 1


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-inference config", description="The settings of a service."
    )
    parser.add_argument("--url", help="where the service listens; otherwise as its settings say")
    parser.add_argument("--config", metavar="FILE", help="the service's file of settings")
    parser.add_argument("--state-dir", metavar="DIR", help="the service's state directory")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="what is in force, and who said so")
    show.add_argument("--all", action="store_true", help="what nobody said as well")
    check = commands.add_parser("validate", help="whether a file of settings is in order")
    check.add_argument("file", type=Path)
    commands.add_parser("history", help="the last versions")
    back = commands.add_parser("rollback", help="the changes of an old version, as a new one")
    back.add_argument("number", type=int)
    commands.add_parser("export", help="what is not as it comes, as a file of settings")
    return parser


def validate(path: Path, out: TextIO) -> None:
    file = read_file(path)
    try:
        Given(file=file.values).settings()
    except ValidationError as error:
        lines = [f"{key}: {reason}" if key else reason for key, reason in reasons(error).items()]
        raise Refused("\n  ".join([f"{path} is not in order:", *lines])) from None
    out.write(f"{path} is in order: {len(file.values)} settings\n")
    out.writelines(f"{remark}\n" for remark in file.remarks)


def show(keeper: Keeper, given: argparse.Namespace, out: TextIO) -> None:
    found = keeper.show()
    out.write(f"version {found['version']}, {found['hash']}: {found['why']} by {found['by']}\n")
    sources = found["sources"]
    for key, value in found["config"].items():
        if given.all or sources[key] != "default":
            shown = f"{key}: {value}"
            if key in found["restart"]:
                shown += f" (from the next start on: {found['restart'][key]})"
            out.write(f"{shown:<60} {sources[key]}\n")
    for problem in found["drift"]["problems"]:
        out.write(f"not in force: {problem}\n")


def history(keeper: Keeper, given: argparse.Namespace, out: TextIO) -> None:
    for version in keeper.history():
        made_at = datetime.fromisoformat(version["made_at"]).astimezone()
        keys = ", ".join(f"{key}={value}" for key, value in version["overrides"].items())
        out.write(
            f"{version['version']:>5}  {made_at:%Y-%m-%d %H:%M:%S}  {version['by']:<12} "
            f"{version['why']:<24} {keys}\n"
        )


def rollback(keeper: Keeper, given: argparse.Namespace, out: TextIO) -> None:
    out.write(keeper.rollback(given.number) + "\n")


def export(keeper: Keeper, given: argparse.Namespace, out: TextIO) -> None:
    out.write(keeper.export())


COMMANDS: Final[Mapping[str, Callable[[Keeper, argparse.Namespace, TextIO], None]]] = {
    "show": show,
    "history": history,
    "rollback": rollback,
    "export": export,
}


def keeper(http: httpx.Client, given: argparse.Namespace) -> Keeper:
    start = begun(given)
    host, port = start.settings.host, start.settings.port
    address = "127.0.0.1" if host in WILDCARDS else f"[{host}]" if ":" in host else host
    http.base_url = httpx.URL(given.url or f"http://{address}:{port}")
    if key := os.environ.get("LLM_API_KEY"):
        http.headers["Authorization"] = f"Bearer {key}"
    running = Running(http)
    try:
        running.show()
    except httpx.ConnectError:
        if given.url:
            raise
        return Stopped(start)
    return running


def begun(given: argparse.Namespace) -> Start:
    said = {"config": given.config, "state_dir": given.state_dir}
    try:
        return started(
            read({key: value for key, value in said.items() if value is not None}), time.time()
        )
    except ValidationError as error:
        raise SettingsError(complaint(error)) from None


class Running:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def show(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._asked("GET", PATH).json()
        return found

    def history(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self._asked("GET", f"{PATH}/versions").json()[
            "versions"
        ]
        return found

    def rollback(self, number: int) -> str:
        done = self._asked("POST", f"{PATH}/rollback", {"version": number}).json()
        words = [f"version {done['version']} is in force"]
        if done["requires_reload"]:
            words.append(f"loaded anew: {', '.join(done['requires_reload'])}")
        if done["restart"]:
            words.append(f"from the next start on: {', '.join(done['restart'])}")
        return "; ".join(words)

    def export(self) -> str:
        return self._asked("GET", f"{PATH}/export").text

    def _asked(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = self._http.request(method, path, json=body)
        if answer.is_success:
            return answer
        try:
            why = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            why = f"status {answer.status_code}"
        raise Refused(why if isinstance(why, str) else why.get("message", str(why)))


class Stopped:
    """Nothing runs; `start` is what the next start would begin with."""

    def __init__(self, start: Start) -> None:
        self._start = start

    def show(self) -> Mapping[str, Any]:
        start = self._start
        config = written(start.settings)
        sources = {key: start.given.source(key, start.version.overrides) for key in config}
        return encode_version(start.version) | {
            "config": config,
            "sources": sources,
            "restart": {},
            "drift": {"problems": start.problems},
        }

    def history(self) -> Sequence[Mapping[str, Any]]:
        return [encode_version(version) for version in self._start.kept or (self._start.version,)]

    def rollback(self, number: int) -> str:
        start = self._start
        found = next((each for each in start.kept if each.number == number), None)
        if found is None:
            raise Refused(f"There is no version {number}.")
        store = Versions(folder_of(start.given.settings()))
        settings = made(start.given, found.overrides)
        version = Version(
            store.next_number(),
            fingerprint(settings),
            time.time(),
            "local",
            f"rollback:{number}",
            found.overrides,
        )
        store.stage(version).commit()
        return f"version {version.number} is what the next start begins with; no service answers"

    def export(self) -> str:
        return exported(self._start.settings, self._start.version)
