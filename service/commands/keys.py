"""llm-inference keys: the keys that clients show, in a file that the service follows.

    llm-inference keys add NAME --scope inference,read [--expires TIME] [--rpm N]
                               [--max-concurrent N] [--models PATTERN,…]
    llm-inference keys list
    llm-inference keys remove NAME

A key is shown once, when it is made: the file has its digest alone. Exit codes: 0 done, 1 refused,
2 not understood.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from service.access.key_file import read
from service.access.keys import KeyFileError, Keys, parse
from service.settings import SettingsError
from service.settings_sources import load

# So that a key is known as one wherever it turns up.
PREFIX: Final = "llm-"
KEY_BYTES: Final = 32


class Refused(Exception):
    pass


def main(arguments: Sequence[str], out: TextIO | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        COMMANDS[given.command](file_of(given), given, out or sys.stdout)
    except (Refused, KeyFileError) as error:
        sys.stderr.write(f"llm-inference: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"llm-inference: {error.filename}: {error.strerror}\n")
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llm-inference keys", description="The keys of clients.")
    parser.add_argument("--file", type=Path, help="the key file (default: api_keys_file)")
    parser.add_argument("--config", type=Path, help="the settings that name it")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="what keys there are")
    new = commands.add_parser("add", help="make a key, and show it once")
    new.add_argument("name")
    new.add_argument(
        "--scope",
        required=True,
        help="of inference, read, metrics, admin and grammar, separated by commas",
    )
    new.add_argument("--expires", metavar="TIME", help="as 2027-01-01 or 2027-01-01T12:00:00Z")
    new.add_argument("--rpm", metavar="N", help="requests a minute that generate")
    new.add_argument("--max-concurrent", metavar="N", help="requests at a time that generate")
    new.add_argument("--models", metavar="PATTERNS", help="names that it may use, as qwen*,demo")
    commands.add_parser("remove", help="let a key in no longer").add_argument("name")
    return parser


def file_of(given: argparse.Namespace) -> Path:
    """Raises Refused."""
    if given.file is not None:
        return Path(given.file)
    try:
        settings = load({"config": given.config} if given.config else {})
    except SettingsError as error:
        raise Refused(str(error)) from None
    if settings.api_keys_file is None:
        raise Refused("say --file FILE, or set api_keys_file (LLM_API_KEYS_FILE)")
    return settings.api_keys_file


def add(path: Path, given: argparse.Namespace, out: TextIO) -> None:
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    options = {
        "expires": given.expires,
        "rpm": given.rpm,
        "max_concurrent": given.max_concurrent,
        "models": given.models,
    }
    words = [given.name, given.scope, f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"]
    words += [f"{name}={value}" for name, value in options.items() if value is not None]
    if any(len(word.split()) != 1 or "#" in word for word in words):
        raise Refused("no word may have spaces or `#` in it")
    line = " ".join(words)
    try:
        parse(line)
    except KeyFileError as error:
        raise Refused(str(error).removeprefix("line 1: ")) from None
    with changed(path) as lines:
        if given.name in parse("".join(lines)).names:
            raise Refused(f"there is a key of the name {given.name}")
        lines.append(f"{line}\n")
    out.write(f"{key}\n")
    if out.isatty():
        sys.stderr.write("This key is not shown again.\n")


def remove(path: Path, given: argparse.Namespace, out: TextIO) -> None:
    with changed(path) as lines:
        kept = [line for line in lines if line.split()[:1] != [given.name]]
        if len(kept) == len(lines):
            raise Refused(f"there is no key of the name {given.name}")
        lines[:] = kept
    out.write(f"removed {given.name}\n")


def list_keys(path: Path, given: argparse.Namespace, out: TextIO) -> None:
    rows: list[tuple[str, ...]] = [("NAME", "SCOPES", "EXPIRES", "RPM", "CONCURRENT", "MODELS")]
    rows += rows_of(read(path))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.write("  ".join(cells).rstrip() + "\n")


def rows_of(keys: Keys) -> Iterator[tuple[str, ...]]:
    for key in keys.all:
        expires = ""
        if key.expires is not None:
            expires = f"{datetime.fromtimestamp(key.expires, UTC):%Y-%m-%d %H:%M}"
            expires += " (over)" if key.expires <= time.time() else ""
        limits = (str(limit or "") for limit in (key.rpm, key.max_concurrent))
        yield key.name, ",".join(sorted(key.scopes)), expires, *limits, ",".join(key.models)


COMMANDS: Final[Mapping[str | None, Callable[[Path, argparse.Namespace, TextIO], None]]] = {
    None: list_keys,
    "list": list_keys,
    "add": add,
    "remove": remove,
}


@contextmanager
def changed(path: Path) -> Iterator[list[str]]:
    """The file's lines, to be changed in place. It is replaced whole, by one command at a time; what
    is wrong with it stays as it is. Raises KeyFileError and OSError."""
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            read(path)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        yield lines
        replace(path.resolve(), "".join(lines))
        os.fsync(folder)
    finally:
        os.close(folder)


def replace(path: Path, text: str) -> None:
    """Who may read the file stays as it is, and its owner where that can be."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "w") as writing:
            writing.write(text)
            writing.flush()
            if path.exists() and os.geteuid() == 0:
                status = path.stat()
                os.fchown(writing.fileno(), status.st_uid, status.st_gid)
            os.fsync(writing.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
