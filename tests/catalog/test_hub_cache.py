from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from service.catalog.card import ModelCard
from service.catalog.hub_cache import HubCache
from tests.catalog.gguf_files import METADATA, TENSORS, gguf
from tests.catalog.stores import PROJECTOR, Hub, weights

OLD, NEW = "b" * 40, "c" * 40


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


def scanned(hub: Hub) -> dict[str, ModelCard]:
    return {card.name: card for card in HubCache(hub.root).scan()}


def test_a_file_is_named_by_repository_and_quantization(hub: Hub) -> None:
    link = hub.file("ggml-org/Tiny-GGUF", "Tiny-UD-Q4_K_XL.gguf", weights())
    (card,) = scanned(hub).values()

    assert card.name == "hf.co/ggml-org/Tiny-GGUF:UD-Q4_K_XL"
    assert card.aliases == ("ggml-org/Tiny-GGUF:UD-Q4_K_XL", "Tiny-UD-Q4_K_XL:latest")
    assert card.path == str(link)
    assert card.digest == f"sha256:{link.resolve().name}"
    assert (card.source, card.problem) == ("hub", None)


def test_without_one_in_the_file_name_the_header_tells_the_quantization(hub: Hub) -> None:
    hub.file("me/tiny", "model.gguf", weights())

    assert list(scanned(hub)) == ["hf.co/me/tiny:Q4_K_M"]


def test_two_files_of_one_quantization_are_told_apart_by_their_names(hub: Hub) -> None:
    hub.file("me/two", "base-Q8_0.gguf", weights(1))
    hub.file("me/two", "chat-Q8_0.gguf", weights(2))

    assert list(scanned(hub)) == ["hf.co/me/two:Q8_0", "hf.co/me/two:chat-Q8_0"]


def test_the_revision_that_main_names_is_the_one(hub: Hub) -> None:
    hub.file("me/tiny", "a-Q8_0.gguf", weights(1), OLD)
    hub.file("me/tiny", "b-Q4_0.gguf", weights(2), NEW, main=False)

    assert list(scanned(hub)) == ["hf.co/me/tiny:Q8_0"]


def test_where_main_names_none_it_is_the_newest(hub: Hub) -> None:
    for age, revision in ((100, OLD), (50, NEW)):
        link = hub.file("me/tiny", f"{revision[0]}-Q8_0.gguf", weights(age), revision, main=False)
        os.utime(link.parent, (1_700_000_000 - age,) * 2)
    (card,) = scanned(hub).values()

    assert Path(card.path).name == "c-Q8_0.gguf"


def test_shards_are_one_model_and_a_missing_one_is_told(hub: Hub) -> None:
    metadata = {"split.count": 2}
    for number in (2, 1):
        name = f"Q4_K_M/big-Q4_K_M-0000{number}-of-00002.gguf"
        hub.file("me/big", name, weights(number, metadata=metadata))
    hub.file("me/half", "half-Q8_0-00001-of-00002.gguf", weights(3, metadata=metadata))
    cards = scanned(hub)

    whole = cards["hf.co/me/big:Q4_K_M"]
    assert (whole.problem, len(whole.shards)) == (None, 2)
    assert whole.path.endswith("-00001-of-00002.gguf")
    assert cards["hf.co/me/half:Q8_0"].problem == "shard 2 of 2 is missing"


def test_a_projector_serves_every_quantization_of_its_repository(hub: Hub) -> None:
    hub.file("me/sees", "sees-Q4_0.gguf", weights(1))
    hub.file("me/sees", "Q8_0/sees-Q8_0.gguf", weights(2))
    projector = hub.file("me/sees", "mmproj-F16.gguf", gguf(PROJECTOR, TENSORS))
    cards = scanned(hub)

    assert [card.projector for card in cards.values()] == [str(projector)] * 2
    assert all(card.sees for card in cards.values())


def test_links_that_lead_out_of_the_cache_are_not_followed(hub: Hub, tmp_path: Path) -> None:
    link = hub.file("me/out", "out-Q8_0.gguf", weights())
    secret = tmp_path / "secret.gguf"
    secret.write_bytes(weights())
    link.unlink()
    link.symlink_to(secret)
    (hub.root / "models--me--other").symlink_to(tmp_path)
    home = hub.root / "models--me--up"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("../../../..")
    (home / "snapshots").mkdir()

    assert {card.reason for card in scanned(hub).values()} == {"outside"}


def test_other_repositories_and_other_files_are_no_models(hub: Hub, tmp_path: Path) -> None:
    hub.file("me/text", "model.safetensors", b"x")
    (hub.root / "datasets--me--data/snapshots").mkdir(parents=True)
    (hub.root / "version.txt").touch()

    assert scanned(hub) == {}
    assert HubCache(tmp_path / "nowhere").scan() == []


@pytest.mark.parametrize("damage", ["no snapshots", "a pipe", "a folder"])
def test_a_damaged_repository_takes_nothing_from_the_others(hub: Hub, damage: str) -> None:
    hub.file("me/good", "good-Q8_0.gguf", weights())
    home = hub.root / "models--me--bad"
    (home / "refs").mkdir(parents=True)
    make: dict[str, Any] = {"a pipe": os.mkfifo, "a folder": os.mkdir}
    if damage in make:
        make[damage](home / "refs/main")
        (home / "snapshots").mkdir()

    assert list(scanned(hub)) == ["hf.co/me/good:Q8_0"]


def test_a_metadata_only_file_is_told_apart(hub: Hub) -> None:
    hub.file("me/vocabulary", "v-Q8_0.gguf", gguf(METADATA, {}))

    assert [card.reason for card in scanned(hub).values()] == ["no-weights"]
