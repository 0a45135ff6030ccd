"""Random material, split into what is trained on and what is kept for evaluation."""

import random
import zlib
from collections.abc import Sequence

from . import words


def kept_back(*key: object) -> bool:
    """One key in ten, always the same, is kept out of training."""
    return zlib.crc32(repr(key).encode()) % 10 == 0


class Source(random.Random):
    """Draws numbers, names and words; ``unseen`` draws only what training never saw."""

    def __init__(self, seed: int, unseen: bool = False) -> None:
        super().__init__(seed)
        self.unseen = unseen

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def operands(self, sign: str) -> tuple[int, int]:
        while True:
            # Small numbers are asked for more often than their share of all pairs.
            top = 99 if self.chance(0.9) else 20
            pair = self.randint(0, top), self.randint(0, top)
            if kept_back(sign, *pair) == self.unseen:
                return pair

    def pseudo(self, least: int = 2, most: int = 3) -> str:
        return "".join(self.choices(words.SYLLABLES, k=self.randint(least, most)))

    def word(self) -> str:
        kind = self.random()
        if kind < 0.45:
            return self.choice(words.NOUNS)
        if kind < 0.6:
            return self.choice(words.ADJECTIVES)
        if kind < 0.7:
            return self.choice(words.VERBS)
        if kind < 0.75:
            return self.choice(words.NAMES)
        return self.pseudo(1, 4)

    def letters(self) -> str:
        """A run of letters of one script, or of any characters that Unicode has."""
        length = self.randint(1, 5)
        if self.chance(0.8):
            return "".join(self.choices(self.choice(words.SCRIPTS), k=length))
        ranges = [(0xA1, 0x52F), (0x2010, 0x2BFF), (0x3041, 0x9FFF), (0x1F300, 0x1FAFF)]
        return "".join(chr(self.randint(*self.choice(ranges))) for _ in range(length))

    def code(self) -> str:
        """An identifier such as AB-123 or x7f2."""
        alphabet = self.choice(["ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"])
        left = "".join(self.choices(alphabet, k=self.randint(1, 4)))
        return left + self.choice(["-", "", "_", "."]) + str(self.randint(0, 99999))

    def phrase(self, most: int = 4) -> str:
        return " ".join(self.word() for _ in range(self.randint(1, most)))

    def name(self) -> str:
        return self.choice(words.NAMES) if self.chance(0.7) else self.pseudo().capitalize()

    def city(self) -> str:
        return self.choice(words.CITIES) if self.chance(0.75) else self.pseudo().capitalize()

    def number(self) -> int:
        return self.randint(0, 10 ** self.randint(1, 4) - 1)

    def fill(self, pattern: str) -> str:
        """Replace each {field} of a pattern by a drawing of its own."""
        parts = pattern.split("{")
        text = parts[0]
        for part in parts[1:]:
            field, rest = part.split("}", 1)
            text += str(self._drawing(field)) + rest
        return text

    def _drawing(self, field: str) -> object:
        pools: dict[str, Sequence[str]] = {
            "noun": words.NOUNS,
            "adjective": words.ADJECTIVES,
            "verb": words.VERBS,
            "language": words.LANGUAGES,
        }
        if field in pools:
            return self.choice(pools[field])
        if field in ("n", "m"):
            return self.randint(2, 99)
        if field == "big":
            return self.randint(100, 9999)
        return {"name": self.name, "city": self.city, "word": self.word}[field]()
