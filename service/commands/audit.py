"""llm-inference audit: who changed what, and whether the record is as it was written.

    llm-inference audit show [--last N]
    llm-inference audit verify

Exit codes: 0 done and whole, 1 not whole or not readable, 2 not understood.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from service.control.audit_chain import entries, verified
from service.settings import SettingsError
from service.settings_sources import load
from service.telemetry.logs import printable


def main(arguments: Sequence[str], out: TextIO | None = None) -> int:
    given = parser().parse_args(arguments)
    out = out or sys.stdout
    try:
        folder = given.state_dir or load({"config": given.config} if given.config else {}).state_dir
        return verify(folder, out) if given.command == "verify" else show(folder, given.last, out)
    except SettingsError as error:
        sys.stderr.write(f"llm-inference: {error}\n")
    except OSError as error:
        sys.stderr.write(f"llm-inference: {error.filename}: {error.strerror}\n")
    return 1


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-inference audit", description="What was changed, and by whom."
    )
    parser.add_argument("--state-dir", type=Path, help="where audit.log is (default: state_dir)")
    parser.add_argument("--config", type=Path, help="the settings that name it")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    shown = commands.add_parser("show", help="what was changed, oldest first")
    shown.add_argument("--last", type=int, default=50, metavar="N", help="so many (default: 50)")
    commands.add_parser("verify", help="whether each line is as it was written")
    parser.set_defaults(last=50)
    return parser


def show(folder: Path, last: int, out: TextIO) -> int:
    for entry in deque(entries(folder), maxlen=max(last, 0)):
        out.write(line(entry) + "\n")
    return 0


def line(entry: Mapping[str, Any]) -> str:
    who = entry.get("key") or "(nobody)"
    where = f" from {entry['address']}" if entry.get("address") else ""
    version = f" (version {entry['version']})" if "version" in entry else ""
    text = f"{entry.get('time')} {who}{where}: {entry.get('action')}"
    text += "".join(f" {key}: {change(pair)}" for key, pair in entry.get("changes", {}).items())
    return printable(f"{text}, {entry.get('result')}{version}")


def change(pair: Sequence[Any]) -> str:
    return " → ".join("–" if value is None else word(value) for value in pair)


def word(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def verify(folder: Path, out: TextIO) -> int:
    found = verified(folder)
    for problem in found.problems:
        out.write(f"{problem}\n")
    whole = "not whole" if found.problems else "whole"
    out.write(
        f"{found.lines} lines in {len(found.files)} files, {whole}; the last is {found.last}\n"
    )
    return 1 if found.problems else 0
