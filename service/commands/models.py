"""llm-inference models: the models of a running service, from a terminal.

    llm-inference models [list]        llm-inference models pull NAME     … rm NAME [NAME…]
    llm-inference models show NAME     llm-inference models push NAME     … cp SOURCE DESTINATION

It asks the service by HTTP, in Ollama's dialect, as any client does: the service alone writes its
store, and a pull that somebody else has begun is followed, not repeated. Where the service asks for a
key, LLM_API_KEY has it. Exit codes: 0 done,
1 refused or not reached, 2 not understood.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TextIO

import httpx
import msgspec

BAR: Final = 24
# The environment is where a key is seen by least others: arguments are everybody's to read.
KEY: Final = "LLM_API_KEY"
# A pull is silent while it verifies what an earlier one has left.
TIMEOUT: Final = httpx.Timeout(30.0, read=600.0)
DETAILS: Final = {
    "family": "architecture",
    "parameter_size": "parameters",
    "quantization_level": "quantization",
    "context_length": "context length",
    "embedding_length": "embedding length",
}


class Refused(Exception):
    pass


def main(arguments: Sequence[str], out: TextIO | None = None) -> int:
    out = out or sys.stdout
    given = parser().parse_args(arguments)
    try:
        shown = {"Authorization": f"Bearer {key}"} if (key := os.environ.get(KEY)) else {}
        with httpx.Client(
            base_url=given.url, headers=shown, timeout=TIMEOUT, trust_env=False
        ) as http:
            COMMANDS[given.command](http, given, out)
    except Refused as error:
        return failed(str(error))
    except httpx.HTTPError as error:
        return failed(f"no answer from {given.url}: {error}")
    except KeyboardInterrupt:
        return failed("interrupted; a pull goes on from here when it is asked for again")
    return 0


def failed(why: str) -> int:
    sys.stderr.write(f"llm-inference: {why}\n")
    return 1


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-inference models", description="The models of a running service."
    )
    parser.add_argument(
        "--url",
        default=f"http://{os.environ.get('LLM_HOST') or '127.0.0.1'}:{os.environ.get('LLM_PORT') or 11436}",
        help="where the service listens (default: LLM_HOST and LLM_PORT, else %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="what there is")
    for name, text in (
        ("show", "what is known of a model"),
        ("pull", "fetch a model from a registry that `pull_from` names"),
        ("push", "send a model to one"),
    ):
        commands.add_parser(name, help=text).add_argument("name")
    remove = commands.add_parser("rm", help="delete models of the service's own store")
    remove.add_argument("names", nargs="+", metavar="name")
    copy = commands.add_parser("cp", help="give a model a further name")
    copy.add_argument("source")
    copy.add_argument("destination")
    return parser


def list_models(http: httpx.Client, given: argparse.Namespace, out: TextIO) -> None:
    rows = [("NAME", "ID", "SIZE", "MODIFIED", "")]
    rows += [
        (
            model["name"],
            model["digest"][:12],
            size(model["size"]),
            f"{datetime.fromisoformat(model['modified_at']).astimezone():%Y-%m-%d %H:%M}",
            model.get("status", ""),
        )
        for model in asked(http, "GET", "/api/tags")["models"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.write("  ".join(cells).rstrip() + "\n")


def show(http: httpx.Client, given: argparse.Namespace, out: TextIO) -> None:
    model = asked(http, "POST", "/api/show", {"model": given.name})
    details = model["details"]
    rows = {label: details[key] for key, label in DETAILS.items() if details.get(key)}
    rows["capabilities"] = ", ".join(model["capabilities"])
    if "status_reason" in model:
        rows["status"] = f"{model['status']}: it {model['status_reason']}"
    for label, value in rows.items():
        out.write(f"{label:<18}{value}\n")
    for label in ("parameters", "system", "license"):
        if text := model.get(label):
            lines = text.strip().splitlines()
            out.write(f"\n{label}\n" + "".join(f"    {line}\n" for line in lines[:20]))
            if len(lines) > 20:
                out.write(f"    … {len(lines) - 20} lines more\n")


def transfer(http: httpx.Client, given: argparse.Namespace, out: TextIO) -> None:
    body = {"model": given.name}
    with http.stream("POST", f"/api/{given.command}", json=body) as answer:
        if answer.is_error:
            answer.read()
            raise Refused(error_in(answer))
        progress(map(msgspec.json.decode, answer.iter_lines()), out, live=out.isatty())


def remove(http: httpx.Client, given: argparse.Namespace, out: TextIO) -> None:
    for name in given.names:
        asked(http, "DELETE", "/api/delete", {"model": name})
        out.write(f"deleted {name}\n")


def copy(http: httpx.Client, given: argparse.Namespace, out: TextIO) -> None:
    asked(http, "POST", "/api/copy", {"source": given.source, "destination": given.destination})
    out.write(f"copied {given.source} to {given.destination}\n")


COMMANDS: Final[Mapping[str | None, Callable[[httpx.Client, argparse.Namespace, TextIO], None]]] = {
    None: list_models,
    "list": list_models,
    "show": show,
    "pull": transfer,
    "push": transfer,
    "rm": remove,
    "cp": copy,
}


def asked(
    http: httpx.Client, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Raises Refused in the service's own words."""
    answer = http.request(method, path, json=body)
    if answer.is_error:
        raise Refused(error_in(answer))
    return dict(answer.json()) if answer.content else {}


def error_in(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, LookupError, TypeError):
        return f"the service answers {answer.status_code}"


def progress(steps: Iterator[dict[str, Any]], out: TextIO, *, live: bool) -> None:
    """A line for each status. On a terminal it is drawn anew while it has something to count;
    elsewhere it is written once. Raises Refused."""
    shown = ""
    for step in steps:
        if "error" in step:
            if live and shown:
                out.write("\n")
            raise Refused(step["error"])
        status = step["status"]
        if live:
            lead = "\r" if status == shown else "\n" if shown else ""
            out.write(lead + line(step) + "\x1b[K")
        elif status != shown:
            out.write(status + "\n")
        out.flush()
        shown = status
    if live:
        out.write("\n")


def line(step: Mapping[str, Any]) -> str:
    total = step.get("total", 0)
    if not total:
        return str(step["status"])
    done = step.get("completed", 0)
    full = BAR * done // total
    bar = "█" * full + "░" * (BAR - full)
    return f"{step['status']}  {bar} {100 * done // total:>3} %  {size(done)} of {size(total)}"


def size(count: float) -> str:
    units = iter(("B", "KB", "MB", "GB"))
    unit = next(units)
    while count >= 1000 and (larger := next(units, None)):
        count, unit = count / 1000, larger
    return f"{count:.1f} {unit}" if unit != "B" and count < 100 else f"{count:.0f} {unit}"
