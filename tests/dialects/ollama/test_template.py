from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.ollama.template import render
from service.errors import InvalidRequest

VALUES = {"System": "", "Prompt": "hi", "Suffix": ""}
CHATML = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{- if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{ .Prompt }}!", "hi!"),
        ("{{.Prompt}}{{ $.Prompt }}", "hihi"),
        ("a {{- .Prompt -}} b", "ahib"),
        ("a {{/* nothing */}} b", "a  b"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("{{ .Prompt }}{{ .Response }} and so on", "hi"),
        ("{{ if .System }}s{{ else }}n{{ end }}", "n"),
        ("{{ if .Prompt }}p{{ else }}n{{ end }}", "p"),
        ("{{ if .System }}s{{ else if .Prompt }}p{{ else }}n{{ end }}", "p"),
        ("{{ if .System }}{{ if .Prompt }}x{{ else }}y{{ end }}{{ .Response }}{{ end }}z", "z"),
        ("{{ if and .System .Prompt }}b{{ end }}", ""),
        ("{{ if or .System .Prompt }}b{{ end }}", "b"),
        ("{{ if not .System }}b{{ end }}", "b"),
        ('{{ if eq .Prompt "ho" "hi" }}b{{ end }}', "b"),
        ("{{ if ne .Prompt `hi` }}b{{ end }}", ""),
        ("{{ if (and (not .System) .Prompt) }}b{{ end }}", "b"),
        ('{{ "a\\n\\"b" }}', 'a\n"b'),
        (CHATML, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_the_notation_of_a_prompt_is_understood(source: str, text: str) -> None:
    assert render(source, VALUES) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{",
        "{{ .Prompt",
        "{{ .Prompt }} {{ .Messages }}",
        "{{ range .Messages }}{{ end }}",
        "{{ if .Prompt }}",
        "{{ end }}",
        "{{ else }}",
        "{{ if .Prompt }}{{ else }}{{ else }}{{ end }}",
        "{{ if }}{{ end }}",
        "{{ eq .Prompt }}",
        "{{ .Prompt .Prompt }}",
        "{{ (.Prompt }}",
        "{{ json .Prompt }}",
        "{{ $x := .Prompt }}",
        '{{ "open }}',
        "{{ if .Prompt }}" * 17,
        "{{ " + "(" * 17 + " }}",
        "x" * 40_000,
    ],
)
def test_anything_else_is_refused_by_name(source: str) -> None:
    with pytest.raises(InvalidRequest, match="^template: ") as caught:
        render(source, VALUES)

    assert caught.value.param == "template"


def test_a_template_cannot_multiply_a_long_prompt_for_ever() -> None:
    with pytest.raises(InvalidRequest, match="too much text"):
        render("{{ .Prompt }}" * 1000, {"Prompt": "x" * 1_000_000})


@pytest.mark.parametrize(
    "source",
    ["{{" * 16_000, "{{ " + "( " * 16_000 + "}}", '{{ "' * 8000 + "}}", "{{ `" * 8000 + "}}",
     "{{ and " + ".Prompt " * 4000 + "}}", "{{ .Prompt }}" * 2500, '{{ "' + "\\" * 30_000 + "}}"],
)  # fmt: skip
def test_no_template_keeps_the_event_loop_for_long(source: str) -> None:
    started = time.thread_time()
    with contextlib.suppress(InvalidRequest):
        render(source, VALUES)

    assert time.thread_time() - started < 0.5


PIECES = [
    "{{",
    "}}",
    "if",
    "end",
    "else",
    ".Prompt",
    " ",
    "-",
    "(",
    ")",
    '"',
    "x",
    "eq",
    "/*",
    "*/",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_text_is_rendered_or_refused(source: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(render(source, VALUES), str)
