"""Every byte that the dialects send, held against golden/. `make golden` writes the files anew,
and their difference is what a reviewer reads."""

from __future__ import annotations

import difflib
import json
import re
import time
from pathlib import Path

import pytest

from service.app import VERSION
from tests.dialects.golden_cases import CASES, Case
from tests.dialects.transcripts import stable, transcript
from tests.dialects.wire_schemas import answer_faults, error_faults, route

FOLDER = Path(__file__).parent / "golden"
ALL = [(dialect, name, case) for dialect, cases in CASES.items() for name, case in cases.items()]
IDS = [f"{dialect}/{name}" for dialect, name, _ in ALL]


@pytest.mark.parametrize(("dialect", "name", "case"), ALL, ids=IDS)
def test_the_wire_is_as_it_was(
    dialect: str, name: str, case: Case, request: pytest.FixtureRequest
) -> None:
    path = FOLDER / dialect / f"{name}.txt"
    now = transcript(case)
    if request.config.getoption("--regenerate-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(now.encode())
    golden = path.read_bytes().decode()

    assert now == golden, difference(golden, now, path)


def difference(golden: str, now: str, path: Path) -> str:
    """Frame by frame: a line of a stream is short enough to be read."""
    lines = difflib.unified_diff(
        golden.splitlines(), now.splitlines(), str(path), "now", n=1, lineterm=""
    )
    return "make golden writes it anew.\n" + "\n".join(lines)


def test_there_is_no_transcript_without_its_case() -> None:
    there = {f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.txt")}

    assert there == set(IDS)


def test_each_dialect_has_a_dozen() -> None:
    assert {dialect: len(cases) >= 12 for dialect, cases in CASES.items()} == dict.fromkeys(
        CASES, True
    )


# ---- the same transcripts, against the schemas


@pytest.mark.parametrize(("dialect", "name", "case"), ALL, ids=IDS)
def test_a_transcript_fits_its_schema(dialect: str, name: str, case: Case) -> None:
    text = (FOLDER / dialect / f"{name}.txt").read_bytes().decode()
    head, _, body = text.partition("\n\n")
    head, _, content = body.partition("\n\n")
    status = int(head.split("\n")[0])
    media_type = re.search(r"^content-type: ([^;\n]*)", head, re.M)
    speaker, path = spoken(dialect, case.path)
    if status >= 400:
        assert worded(speaker, content, media_type) == []
        return
    found = route(speaker, case.method, path)
    if found is None or name == "chosen-fields":
        # It has no shape of its own: text for people, or the keys that the client chose.
        assert name in {"root", "card", "version", "invoked", "detokenize", "chosen-fields"}
        return
    assert media_type is not None
    assert answer_faults(found, media_type[1], unmarked(content)) == []


# What vLLM serves in others' shapes.
LENT = {("vllm", "/v1/responses"): "openai", ("vllm", "/v1/messages"): "anthropic"}


def spoken(dialect: str, path: str) -> tuple[str, str]:
    """Whose schemas are meant, and the path without a prefix."""
    for prefix in CASES:
        if path.startswith(f"/{prefix}/"):
            path = path.removeprefix(f"/{prefix}")
            return LENT.get((prefix, path), prefix), path
    if dialect == "seed":
        return {"/api/chat/completions": "openai", "/hf/v1/completions": "tgi"}.get(
            path, "ollama"
        ), path
    return dialect, path


def worded(dialect: str, content: str, media_type: re.Match[str] | None) -> list[str]:
    assert media_type is not None
    assert media_type[1] == "application/json"
    return error_faults(dialect, json.loads(content))


def unmarked(content: str) -> bytes:
    """With a value of its kind for each placeholder."""
    marks = {
        "<unix seconds>": str(int(time.time())),
        "<instant>": "2026-01-02T03:04:05.000000006Z",
        "<nanoseconds>": "1",
    }
    for mark, value in marks.items():
        content = content.replace(mark, value)
    return re.sub(r"<call (\d)>", r"00000000000000000000000\1", content).encode()


# ---- what is never the same twice


def test_times_of_now_have_a_name_and_other_times_stay() -> None:
    now = int(time.time())

    assert stable(f'{{"created":{now},"x":1760000000}}') == (
        '{"created":<unix seconds>,"x":1760000000}'
    )
    assert stable(f'"{time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())}.123456789Z"') == (
        '"<instant>"'
    )
    assert stable('"2025-10-09T08:53:20.000000000Z"') == '"2025-10-09T08:53:20.000000000Z"'


def test_numbers_that_are_no_times_stay() -> None:
    now = int(time.time())
    for text in (f"{now}0", f"1.{now}", f"{now}.5", "0123456789"):
        assert stable(text) == text


def test_an_id_keeps_its_identity() -> None:
    one, other = "ab" * 12, "cd" * 12

    assert stable(f"call_{one} call_{other} toolu_{one} chatcmpl-tool-{other}") == (
        "call_<call 1> call_<call 2> toolu_<call 1> chatcmpl-tool-<call 2>"
    )
    assert stable(f"call_{one[:-1]} x{one}") == f"call_{one[:-1]} x{one}"


def test_only_a_whole_duration_and_the_release_are_replaced() -> None:
    assert stable('"total_duration":123,"load_duration":1') == (
        '"total_duration":<nanoseconds>,"load_duration":1'
    )
    assert stable(f'{{"version":"{VERSION}"}}') == '{"version":"<version>"}'
    assert stable('{"version":"0.33.2"}') == '{"version":"0.33.2"}'
