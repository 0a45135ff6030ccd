from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.dialects.tgi.tokenize import encode_tokens
from service.dialects.tgi.tokens import Token, TokenTexts
from service.engine.sequence import Answer
from service.events import Logprob, TokenLogprobs
from service.generation import SamplingParams

CONTROL = "<|mark|>"


def lp(token: int, piece: bytes) -> TokenLogprobs:
    return TokenLogprobs(Logprob(token, piece, -0.5))


def told(
    pieces: list[bytes], stops: tuple[str, ...] = (), controls: frozenset[int] = frozenset()
) -> tuple[str, list[Token]]:
    """What the engine's own bookkeeping lets out for tokens of these pieces, put together again."""
    answer = Answer(SamplingParams(stop=stops, include_stop=True, logprobs=0))
    texts = TokenTexts()
    text, tokens = "", []
    for at, piece in enumerate(pieces):
        entry = lp(at, CONTROL.encode() if at in controls else piece)
        event, reason = answer.feed(
            0,
            at,
            b"" if at in controls else piece,
            lambda entry=entry: entry,  # type: ignore[misc]
            is_eog=False,
            is_last=at == len(pieces) - 1,
        )
        if event is not None:
            text += event.text
            tokens += texts.feed(event.text, event.logprobs)
        if reason is not None:
            break
    return text, tokens + texts.flush()


def cut(text: str, places: list[int]) -> list[bytes]:
    """The text's bytes in pieces that end anywhere, also within a code point."""
    data = text.encode()
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


@given(st.text(min_size=1), st.lists(st.integers(0, 1000)))
def test_the_tokens_texts_are_the_answers_text(text: str, places: list[int]) -> None:
    pieces = cut(text, places)
    found, tokens = told(pieces)

    assert found == text
    assert "".join(token.text for token in tokens) == text
    assert [token.logprobs.chosen.token for token in tokens] == list(range(len(pieces)))
    assert not any(token.special for token in tokens)


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1))
def test_bytes_that_are_no_text_lose_no_token(pieces: list[bytes]) -> None:
    found, tokens = told(pieces)

    assert len(tokens) == len(pieces)
    assert "".join(token.text for token in tokens if not token.special) == found


@given(
    st.text("abc", min_size=1, max_size=30),
    st.lists(st.integers(0, 1000)),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_a_stop_string_is_kept_and_cut_after(
    text: str, places: list[int], stops: list[str]
) -> None:
    found, tokens = told(cut(text, places), tuple(stops))

    assert "".join(token.text for token in tokens) == found
    assert text.startswith(found)


def test_half_an_emoji_has_no_text_and_the_other_half_has_all() -> None:
    data = "😀".encode()
    _, tokens = told([b"a", data[:2], data[2:], b"b"])

    assert [token.text for token in tokens] == ["a", "", "😀", "b"]


def test_a_stop_string_over_several_tokens_belongs_to_them() -> None:
    found, tokens = told([b"x", b"EN", b"Dy", b"z"], ("END",))

    assert found == "xEND"
    assert [token.text for token in tokens] == ["x", "EN", "D"]


def test_control_tokens_are_special_wherever_they_stand() -> None:
    found, tokens = told([b"", b"a", b"", b"b", b""], controls=frozenset({0, 2, 4}))

    assert found == "ab"
    assert [(token.text, token.special) for token in tokens] == [
        (CONTROL, True),
        ("a", False),
        (CONTROL, True),
        ("b", False),
        (CONTROL, True),
    ]


@given(st.text(min_size=1), st.lists(st.integers(0, 1000)))
def test_the_bytes_of_a_prompts_tokens_join_to_the_prompt(text: str, places: list[int]) -> None:
    pieces = [b"<s>", *cut(text, places)]
    rows = encode_tokens("a" + text, range(len(pieces) + 1), [b"<s>", b"a", *pieces[1:]])

    assert (rows[0]["start"], rows[0]["stop"], rows[0]["text"]) == (0, 0, "")
    ends = [0, *(row["stop"] for row in rows[1:])]
    assert [row["start"] for row in rows[1:]] == ends[:-1]
    assert ends[-1] == len(("a" + text).encode())


def test_the_space_that_a_vocabulary_begins_with_is_not_the_prompts() -> None:
    (row,) = encode_tokens("Hello", [5], [b" Hello"])

    assert row == {"id": 5, "text": "Hello", "start": 0, "stop": 5}
