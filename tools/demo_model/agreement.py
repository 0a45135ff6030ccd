"""``python -m tools.demo_model.agreement``: is text cut into the same tokens as in training?"""

import argparse
import itertools
from pathlib import Path

from . import corpus
from .engine import Engine
from .evaluate import DEFAULT
from .source import Source
from .train import EVERYTHING, Plan, learn_tokens

CASES = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=DEFAULT)
    engine = Engine(parser.parse_args().model)
    trained = learn_tokens(Plan.seed)
    source = Source(30_000)
    texts = [
        "".join(text for text, _ in pieces)
        for pieces in itertools.islice(corpus.documents(source, EVERYTHING), CASES)
    ]
    texts += [
        source.letters() + source.choice(["", " ", "\n", "  "]) + source.code() for _ in texts
    ]
    texts += [_any_characters(source) for _ in range(CASES)]
    different = lost = 0
    for text in texts:
        tokens = engine.tokens(text)
        different += tokens != trained.encode(text).ids
        lost += engine.model.detokenize(tokens, special=True).decode() != text
    print(f"{len(texts)} texts: {different} cut differently, {lost} not restored")


def _any_characters(source: Source) -> str:
    """Characters of all of Unicode but its surrogates."""
    points = (source.randint(1, source.choice([0x7F, 0x7FF, 0xFFFF, 0x10FFFF])) for _ in range(20))
    return "".join(chr(point) for point in points if not 0xD800 <= point <= 0xDFFF)


if __name__ == "__main__":
    main()
