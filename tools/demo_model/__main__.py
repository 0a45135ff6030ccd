"""``python -m tools.demo_model`` trains the demo model and puts it in its place."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from . import circuit, export, train
from .model import Model

_ROOT = Path(__file__).parents[2]
RESULT = _ROOT / "service" / "catalog" / "demo.gguf"
STATE = _ROOT / "build" / "demo-model.pt"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.demo_model", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--seed", type=int, default=train.Plan.seed)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--refine", action="store_true", help="what --out is, and nothing before")
    parser.add_argument("--state", type=Path, default=STATE, help="where to go on from")
    options = parser.parse_args()
    options.state.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    plan = replace(train.Plan(), seed=options.seed)
    words = train.learn_tokens(plan.seed)

    def keep(model: Model) -> None:
        export.write(model, words, options.out)

    def begin_again(model: Model) -> None:
        export.read(model, words, options.out)

    # Two states, and both until the end: which of the two trainings was interrupted has to be known.
    refined = options.state.with_stem(f"{options.state.stem}-refined")
    if not options.refine:
        train.train(plan, words, options.state, circuit.begin, keep)
    train.train(train.REFINING, words, refined, begin_again, keep)
    for state in (options.state, refined):
        state.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
