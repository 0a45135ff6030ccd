"""An answer's tokens with the text that each of them stands for. Pure.

TGI shows every token beside the text: its id, its log-probability, and what it added. The engine
tells text and tokens apart, since text may be held back: half a code point, or what might begin a
stop string. Here they are put together again, so that the texts of the tokens that are not
special, joined, are the text of the answer, to the character.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from service.events import TokenLogprobs


@dataclass(frozen=True)
class Token:
    """`special`: a control token, whose text is no part of the answer."""

    logprobs: TokenLogprobs
    text: str
    special: bool = False


class TokenTexts:
    """Text and tokens in as they come, tokens out as soon as all of their text is known.

    A token that ends within a code point has the text "", and the one that completes it has all.
    """

    def __init__(self) -> None:
        self._text = ""
        self._waiting: deque[TokenLogprobs] = deque()
        self._held = b""

    def feed(self, text: str, tokens: Iterable[TokenLogprobs]) -> list[Token]:
        self._text += text
        self._waiting.extend(tokens)
        return self._known()

    def flush(self) -> list[Token]:
        """The end of the answer: text that has not come by now was cut off by a stop string."""
        out = self._known()
        while self._waiting:
            out.append(self._cut(self._waiting.popleft()))
        return out

    def _known(self) -> list[Token]:
        out: list[Token] = []
        while self._waiting:
            token = self._waiting[0]
            piece = self._held + token.chosen.piece
            text, read = utf_8_decode(piece, "replace", False)
            if self._text.startswith(text):
                self._text, self._held = self._text[len(text) :], piece[read:]
                out.append(Token(token, text))
            elif text.startswith(self._text):
                # Some of it is still held back.
                break
            else:
                # Its text did not come where it should have: it is none of the answer's.
                out.append(special(token))
            self._waiting.popleft()
        if out and self._text and not self._waiting:
            # Bytes that no token completed any more, as the engine spelled them at the end.
            out[-1] = replace(out[-1], text=out[-1].text + self._text)
            self._text = ""
        return out

    def _cut(self, token: TokenLogprobs) -> Token:
        text, self._text = self._text, ""
        return Token(token, text) if text else special(token)


def special(token: TokenLogprobs) -> Token:
    return Token(token, token.chosen.piece.decode("utf-8", "replace"), special=True)
