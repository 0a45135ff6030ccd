from __future__ import annotations

import itertools
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.catalog.names import DIGEST, Name, from_path, parse, parse_bare

EIGHTY, MOST = "8" * 80, "3" * 350

# What Ollama makes of a name: host, namespace, model, tag.
PARTS = {
    "registry.ollama.ai/library/dolphin-mistral:7b-v2.6-dpo-laser-q6_K": (
        "registry.ollama.ai", "library", "dolphin-mistral", "7b-v2.6-dpo-laser-q6_K",
    ),
    "scheme://host:port/namespace/model:tag": ("host:port", "namespace", "model", "tag"),
    "host/namespace/model:tag": ("host", "namespace", "model", "tag"),
    "host:port/namespace/model:tag": ("host:port", "namespace", "model", "tag"),
    "host/namespace/model": ("host", "namespace", "model", ""),
    "host:port/namespace/model": ("host:port", "namespace", "model", ""),
    "namespace/model": ("", "namespace", "model", ""),
    "model": ("", "", "model", ""),
    "model:tag": ("", "", "model", "tag"),
    "h/nn/mm:t": ("h", "nn", "mm", "t"),
    "a/b/c/d:e": ("a/b", "c", "d", "e"),
    "m@d": ("", "", "m@d", ""),
    "n/m:": ("", "n", "m", "!MISSING!"),
    ":t": ("", "", "!MISSING!", "t"),
    "/nn/mm": ("!MISSING!", "nn", "mm", ""),
    "//": ("!MISSING!", "!MISSING!", "!MISSING!", ""),
    "hh//": ("hh", "!MISSING!", "!MISSING!", ""),
    f"{EIGHTY}/{EIGHTY}/{EIGHTY}:{EIGHTY}": (EIGHTY, EIGHTY, EIGHTY, EIGHTY),
    f"{MOST}/{EIGHTY}/{EIGHTY}:{EIGHTY}": (MOST, EIGHTY, EIGHTY, EIGHTY),
}  # fmt: skip

# Written in full; what is left out is not filled in.
VERDICTS = {
    "": False,
    "_why/_the/_lucky:_stiff": True,
    "h/n/m:t": True,
    "host/namespace/model:tag": True,
    "host/namespace/model": False,
    "namespace/model": False,
    "model": False,
    f"{EIGHTY}/{EIGHTY}/{EIGHTY}:{EIGHTY}": True,
    f"{MOST}/{EIGHTY}/{EIGHTY}:{EIGHTY}": True,
    f"{MOST}3/{EIGHTY}/{EIGHTY}:{EIGHTY}": False,
    f"h/{EIGHTY}8/m:t": False,
    f"h/n/{EIGHTY}8:t": False,
    f"h/n/m:{EIGHTY}8": False,
    "m": False,
    "n/m:": False,
    "h/n/m": False,
    "@t": False,
    "m@d": False,
    "^": False,
    "mm:": False,
    "/nn/mm": False,
    "//": False,
    "//mm": False,
    "hh//": False,
    "//mm:@": False,
    "00@": False,
    "@": False,
    "-hh/nn/mm:tt": False,
    "hh/-nn/mm:tt": False,
    "hh/nn/-mm:tt": False,
    "hh/nn/mm:-tt": False,
    "host:https/namespace/model:tag": True,
    "host/name:space/model:tag": False,
    "host/name.space/model:tag": False,
    "h/n/m:t\n": False,
    "h/n/m\0:t": False,
    "h/n/m:t ": False,
    "hö/n/m:t": False,
    "h/n/m\u0664:t": False,
    "../../etc/passwd:t": False,
    "h/../m:t": False,
    "h/n/..:t": False,
    "h/n/m:..": False,
    "h/n/m:.hidden": False,
    "h\\x/n/m:t": False,
    "h/n%2f/m:t": False,
}

# A part and whether it may stand as host, namespace, model, tag. Their combinations are whole names.
KINDS: dict[str, tuple[bool, bool, bool, bool]] = {
    "a": (True, True, True, True),
    "_x-1": (True, True, True, True),
    "a.b": (True, False, True, True),
    "-a": (False, False, False, False),
    "a b": (False, False, False, False),
}


@pytest.mark.parametrize("text", PARTS)
def test_a_name_falls_into_the_parts_that_ollama_sees(text: str) -> None:
    name = parse_bare(text)

    assert (name.host, name.namespace, name.model, name.tag) == PARTS[text]


@pytest.mark.parametrize("text", VERDICTS)
def test_a_name_is_valid_where_ollama_says_so(text: str) -> None:
    name = parse_bare(text)

    assert name.valid is VERDICTS[text]
    if name.valid:
        assert str(name) == text
        assert from_path(tuple(name.path.split("/"))) == name
    else:
        with pytest.raises(ValueError, match="not valid"):
            _ = name.path


@pytest.mark.parametrize("parts", list(itertools.product(KINDS, repeat=3)))
def test_every_part_has_its_own_rule(parts: tuple[str, str, str]) -> None:
    namespace, model, tag = parts
    expected = KINDS[namespace][1] and KINDS[model][2] and KINDS[tag][3]

    assert parse(f"{namespace}/{model}:{tag}").valid is expected
    assert parse(f"host:80/{namespace}/{model}:{tag}").valid is expected


@pytest.mark.parametrize(
    ("text", "path", "shortest"),
    [
        ("xx", "registry.ollama.ai/library/xx/latest", "xx:latest"),
        ("xx:8b", "registry.ollama.ai/library/xx/8b", "xx:8b"),
        ("me/xx", "registry.ollama.ai/me/xx/latest", "me/xx:latest"),
        ("hf.co/me/xx:Q4_K_M", "hf.co/me/xx/Q4_K_M", "hf.co/me/xx:Q4_K_M"),
        ("host:80/library/xx:t", "host:80/library/xx/t", "host:80/library/xx:t"),
        ("Registry.Ollama.AI/Library/XX", "Registry.Ollama.AI/Library/XX/latest", "XX:latest"),
        ("https://registry.ollama.ai/library/xx", "registry.ollama.ai/library/xx/latest", "xx:latest"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_understood_and_left_out_again(
    text: str, path: str, shortest: str
) -> None:
    assert parse(text).path == path
    assert parse(text).shortest == shortest


@pytest.mark.parametrize(
    "path",
    ["namespace/model/tag", "model", "../../model/tag", "/namespace/./tag", "./././.",
     "/path/to/random/file", "a/b/c/d/e", ""],
)  # fmt: skip
def test_a_path_that_is_no_names_is_none(path: str) -> None:
    assert from_path(tuple(path.split("/"))) is None


# By the letter of the grammar, and not by the code under test.
VALID = re.compile(
    r"(?P<host>\w[\w.:-]{0,349})/(?P<namespace>\w[\w-]{0,79})"
    r"/(?P<model>\w[\w.-]{0,79}):(?P<tag>\w[\w.-]{0,79})",
    re.ASCII,
)


@given(st.text(alphabet="ab_-.:/@!\\ \0é", max_size=24))
def test_of_any_text_the_verdict_is_that_of_the_grammar(text: str) -> None:
    name = parse_bare(text)
    match = VALID.fullmatch(text)

    if name.scheme:
        return
    assert name.valid is (match is not None)
    if match:
        assert name == Name(match["host"], match["namespace"], match["model"], match["tag"])


@given(st.text(max_size=40))
def test_no_name_leads_out_of_the_folder(text: str) -> None:
    name = parse(text)
    if name.valid:
        assert os.path.normpath(f"/store/{name.path}") == f"/store/{name.path}"
        assert name.path.count("/") == 3


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("sha256:" + "a" * 64, True),
        ("sha256-" + "A0" * 32, True),
        ("sha256:" + "a" * 63, False),
        ("sha256:" + "a" * 65, False),
        ("sha256-../../etc/passwd", False),
        ("sha512:" + "a" * 64, False),
        ("sha256:" + "g" * 64, False),
        ("sha256:" + "a" * 64 + "\n", False),
        ("a" * 64, False),
    ],
)
def test_a_digest_is_sixty_four_hexadecimal_digits(text: str, valid: bool) -> None:
    assert (DIGEST.fullmatch(text) is not None) is valid
