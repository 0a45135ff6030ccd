from __future__ import annotations

import logging

import pytest

from service.fleet.last_words import KEPT_BYTES, LastWords, exit_words


def test_the_end_is_kept_however_it_came_in() -> None:
    words = LastWords("m")
    for _ in range(5000):
        words.feed(b"0123456789\n"[:7])
        words.feed(b"0123456789\n"[7:])
    words.feed(b"the end")

    assert str(words).endswith("0123456789 | the end")
    assert len(str(words).encode()) < 2 * KEPT_BYTES


def test_each_line_is_logged_without_what_a_terminal_would_obey(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "service.fleet.last_words")
    words = LastWords("m")
    words.feed(b"llama_model_loader: \x1b[31mred\x1b[0m\x07 na\xffme\r\nsecond")
    words.feed(b" line\n\n")

    assert [record.getMessage() for record in caplog.records] == [
        "m: llama_model_loader: red  na\ufffdme ",
        "m: second line",
    ]


def test_a_line_without_end_is_not_kept_without_end() -> None:
    words = LastWords("m")
    for _ in range(1000):
        words.feed(b"x" * 10_000)

    assert len(str(words)) <= KEPT_BYTES


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"ggml_cuda: CUDA error: out of memory\n", "out of memory"),
        (b"CUDA error: an illegal memory access was encountered\n", "GPU error"),
        (b"/x/ggml.c:1: GGML_ASSERT(n > 0) failed\n", "assertion failed"),
        (b"terminate called after throwing an instance of 'std::bad_alloc'\n", "out of memory"),
        (b"terminate called after throwing an instance of 'std::out_of_range'\n", "C++ exception"),
        (b"Traceback (most recent call last):\n  ...\nKeyError\n", "Python exception"),
        (b"all is well\n", None),
    ],
)
def test_the_kind_of_death_is_read_off_it(text: bytes, kind: str | None) -> None:
    words = LastWords("m")
    words.feed(text)

    assert words.kind() == kind


def test_an_exit_is_said_in_words() -> None:
    assert exit_words(-9) == "SIGKILL"
    assert exit_words(3) == "exit code 3"
    assert exit_words(-99) == "signal 99"
    assert exit_words(None) == "did not exit"
