from __future__ import annotations

from typing import Any

import pytest

from service.catalog import names
from service.catalog.card import Said
from service.dialects.fields import Fields
from service.dialects.ollama.recipe import parse_create, parse_name, word_of
from service.errors import InvalidRequest

NAME = names.parse("x")
DIGEST = "sha256:" + "a" * 64


def test_all_that_a_modelfile_says_is_in_the_recipe() -> None:
    body = {
        "from": "base",
        "adapters": {"lora.gguf": DIGEST},
        "template": "{{ .Prompt }}",
        "system": "Be brief.",
        "parameters": {"temperature": 0.5, "stop": ["a", "b"], "use_mmap": True},
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant"}],
        "license": "MIT",
        "renderer": "r",
        "parser": "p",
        "quantize": "Q4_k_m",
    }
    wanted = parse_create(Fields(body), NAME)
    recipe = wanted.recipe

    assert (wanted.base, recipe.name, recipe.files) == ("base", NAME, {})
    assert recipe.adapters == {"lora.gguf": DIGEST}
    assert (recipe.template, recipe.system) == ("{{ .Prompt }}", "Be brief.")
    assert recipe.parameters == body["parameters"]
    assert recipe.messages == (Said("user", "Hi"), Said("assistant", ""))
    assert recipe.licenses == ("MIT",)
    assert (recipe.renderer, recipe.parser, recipe.quantize) == ("r", "p", "Q4_K_M")


def test_every_field_is_read() -> None:
    fields = Fields({"from": "base", "unheard_of": 1})
    parse_create(fields, NAME)
    assert fields.unread() == ["unheard_of"]


def test_what_is_not_said_stays_as_in_the_base() -> None:
    recipe = parse_create(Fields({"from": "base", "system": None, "messages": None}), NAME).recipe

    assert (recipe.template, recipe.system, recipe.messages) == (None, None, None)
    assert (recipe.parameters, recipe.licenses, recipe.quantize) == ({}, (), None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": "", "files": {}},
        {"files": {"a.gguf": "sha256:1"}},
        {"files": {"a.gguf": 5}},
        {"files": {"a.bin": DIGEST}},
        {"files": {f"{n}.gguf": DIGEST for n in range(65)}},
        {"files": [DIGEST]},
        {"from": "a", "files": {"a.gguf": DIGEST}},
        {"from": 5},
        {"from": "a", "parameters": {"a": {}}},
        {"from": "a", "parameters": {"a": None}},
        {"from": "a", "parameters": {"a": [[1]]}},
        {"from": "a", "messages": {}},
        {"from": "a", "messages": ["hi"]},
        {"from": "a", "messages": [{"content": "hi"}]},
        {"from": "a", "messages": [{"role": "user", "content": 5}]},
        {"from": "a", "quantize": "q4"},
        {"from": "a", "license": [5]},
        {"from": "a", "template": "x" * (1024 * 1024 + 1)},
    ],
)
def test_what_makes_no_model_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        parse_create(Fields(body), NAME)


@pytest.mark.parametrize(
    ("body", "word"), [({"model": "a"}, "a"), ({"name": "b"}, "b"), ({"model": "", "name": "c"}, "c"), ({}, "")]
)  # fmt: skip
def test_a_model_is_named_in_either_field(body: dict[str, Any], word: str) -> None:
    assert word_of(Fields(body)) == word


@pytest.mark.parametrize("text", ["", "a/b/c/d/e", "ftp://r.example/a/b", "a:b:c/d", "-a", "a b"])
def test_a_name_that_ollama_does_not_take_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_name(text)
