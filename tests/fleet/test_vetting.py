"""What is found out about a model's files before an engine may load them."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.catalog.index import Index
from service.fleet import vetting
from service.fleet.vetting import Unloadable, Vetting, probe
from tests.hostile_models import DEMO, HOSTILE


class NoModels:
    def scan(self) -> list[ModelCard]:
        return []


def catalog(folder: Path) -> Catalog:
    made = Catalog([folder], demo=NoModels(), index=Index(folder / "state" / "index.json"))
    made.refresh()
    return made


def card_in(made: Catalog) -> ModelCard:
    [card] = made.cards()
    return card


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were opened, in order."""
    opened: list[str] = []

    async def counted(card: ModelCard, command: tuple[str, ...]) -> Unloadable | None:
        opened.append(card.name)
        return await probe(card, command)

    monkeypatch.setattr(vetting, "probe", counted)
    return opened


async def test_a_good_model_is_opened_once_and_then_known_across_starts(
    tmp_path: Path, probes: list[str]
) -> None:
    shutil.copy(DEMO, tmp_path / "good.gguf")
    for _ in range(2):
        made = catalog(tmp_path)
        assert await Vetting(made, checksums=True)(card_in(made)) is None

    assert probes == ["good:latest"]


async def test_a_file_over_which_llama_cpp_ends_is_found_out_and_remembered(
    tmp_path: Path, probes: list[str]
) -> None:
    file = tmp_path / "hostile.gguf"
    file.write_bytes(HOSTILE["no-blocks"](DEMO.read_bytes()))
    for _ in range(2):
        made = catalog(tmp_path)
        found = await Vetting(made, checksums=True)(card_in(made))
        assert found is not None
        assert (found.kind, found.message) == ("crash", "SIGABRT, assertion failed")
    assert probes == ["hostile:latest"]

    shutil.copy(DEMO, file)
    made = catalog(tmp_path)
    assert await Vetting(made, checksums=True)(card_in(made)) is None
    assert len(probes) == 2


async def test_what_llama_cpp_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "odd.gguf").write_bytes(HOSTILE["wrong-embedding"](DEMO.read_bytes()))
    made = catalog(tmp_path)
    found = await Vetting(made, checksums=True)(card_in(made))

    assert found is not None
    assert found.kind == "bad_file"
    assert "has wrong shape" in found.message


async def test_a_blob_that_is_not_what_its_name_says_is_not_opened(
    tmp_path: Path, probes: list[str]
) -> None:
    digest = hashlib.sha256(b"something else").hexdigest()
    blob = tmp_path / f"sha256-{digest}"
    shutil.copy(DEMO, blob)
    (tmp_path / "named.gguf").symlink_to(blob)
    made = catalog(tmp_path)
    found = await Vetting(made, checksums=True)(card_in(made))

    assert found is not None
    assert found.kind == "bad_file"
    assert f"sha256 mismatch {digest}" in found.message
    assert probes == []
    assert card_in(made).problem is not None


async def test_checksums_are_left_out_where_the_operator_wants_that(tmp_path: Path) -> None:
    blob = tmp_path / f"sha256-{'0' * 64}"
    shutil.copy(DEMO, blob)
    (tmp_path / "named.gguf").symlink_to(blob)
    made = catalog(tmp_path)

    assert await Vetting(made, checksums=False)(card_in(made)) is None


async def test_the_bundled_model_is_not_looked_into(probes: list[str]) -> None:
    made = Catalog([])
    made.refresh()

    assert await Vetting(made, checksums=True)(card_in(made)) is None
    assert probes == []


async def test_opening_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probes: list[str]
) -> None:
    monkeypatch.setattr(vetting, "PROBE_SECONDS", 0.2)
    shutil.copy(DEMO, tmp_path / "slow.gguf")
    made = catalog(tmp_path)
    sleeps = (sys.executable, "-c", "import time; time.sleep(60)")
    found = await asyncio.wait_for(Vetting(made, checksums=True, command=sleeps)(card_in(made)), 20)

    assert found is not None
    assert found.kind == "timeout"
    # It says nothing of the file, so it is tried again.
    await Vetting(made, checksums=True)(card_in(made))
    assert probes == ["slow:latest"] * 2


DEATHS = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "crash"),
    "not started": ("import nothing_of_that_name", "crash"),
    "no memory": ("print('cudaMalloc failed', file=sys.stderr); os.abort()", "out_of_memory"),
    "no GPU": ("print('CUDA error: no driver', file=sys.stderr); os.abort()", "crash"),
    "another processor's": ("os.kill(os.getpid(), signal.SIGILL)", "crash"),
    "hung up": ("sys.exit(3)", "crash"),
}


@pytest.mark.parametrize(("code", "kind"), DEATHS.values(), ids=DEATHS)
async def test_a_death_that_the_file_did_not_cause_is_not_remembered(
    tmp_path: Path, probes: list[str], code: str, kind: str
) -> None:
    shutil.copy(DEMO, tmp_path / "good.gguf")
    made = catalog(tmp_path)
    dies = (sys.executable, "-c", f"import os, signal, sys; {code}")
    found = await Vetting(made, checksums=False, command=dies)(card_in(made))

    assert found is not None
    assert found.kind == kind
    assert await Vetting(made, checksums=False)(card_in(made)) is None
    assert len(probes) == 2


async def test_a_death_by_what_the_file_holds_is_remembered(
    tmp_path: Path, probes: list[str]
) -> None:
    shutil.copy(DEMO, tmp_path / "bad.gguf")
    made = catalog(tmp_path)
    dies = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    for _ in range(2):
        found = await Vetting(made, checksums=False, command=dies)(card_in(made))
        assert found is not None
        assert found.message == "SIGSEGV"
    assert len(probes) == 1
