"""Models of real shape with random weights: as fast and as large as the real ones, and free.

Speed does not depend on what the weights say, with two exceptions that are taken care of here.
A token that is half a character makes a server hold back its frame, and text that tokenizes
differently when it comes back in the next turn defeats every prefix cache. So the rows of the
embedding that are not whole words of lower-case letters are made small: only words are sampled,
each is one frame, and a reply reads back as the tokens it was written with.
`python -m bench.models [NAME]` makes them anew: two minutes for all of them on two cores.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType

from bench import reference
from bench.paths import ROOT
from bench.shapes import SHAPES, Shape

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SEED = 20_240_229
SPREAD = 0.02  # of a weight: the logits of a word then spread by about 0.6 to 0.9
QUIET = 0.05  # of that for rows that must not be sampled
WORD = re.compile(r"[Ġ▁][a-z]+")  # how byte-level BPE and SentencePiece write " word"


def make(shape: Shape) -> None:
    plain, part = shape.path.with_suffix(".f16"), shape.path.with_suffix(".part")
    sys.stderr.write(f"bench: making {shape.path.name}\n")
    shape.path.parent.mkdir(parents=True, exist_ok=True)
    write(shape, reference.source(reference.pinned()) / "models", plain)
    command = ("-m", "service.engine.quantize", str(plain), str(part), shape.quantization)
    subprocess.run((sys.executable, *command), check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
    plain.unlink()
    part.rename(shape.path)


def write(shape: Shape, vocabularies: Path, path: Path, template: str = CHATML) -> None:
    vocabulary = GGUFReader(vocabularies / f"ggml-vocab-{shape.vocabulary}.gguf")
    tokens = vocabulary.fields["tokenizer.ggml.tokens"].contents()
    writer = GGUFWriter(path, shape.architecture)
    describe(writer, shape, len(tokens))
    writer.add_chat_template(template)
    copy_tokenizer(writer, vocabulary)
    shapes = dict(tensors(shape, len(tokens)))
    for name, size in shapes.items():
        dtype = np.dtype(np.float32 if len(size) == 1 else np.float16)
        writer.add_tensor_info(name, size, dtype, int(np.prod(size)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    words = np.array([bool(WORD.fullmatch(token)) for token in tokens])
    for number, (name, size) in enumerate(shapes.items()):
        writer.write_tensor_data(weights(number, name, size, words))
    writer.close()


def describe(writer: GGUFWriter, shape: Shape, n_vocab: int) -> None:
    writer.add_name(f"bench {shape.name}")
    writer.add_vocab_size(n_vocab)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)


def copy_tokenizer(writer: GGUFWriter, vocabulary: GGUFReader) -> None:
    for key, field in vocabulary.fields.items():
        if not key.startswith("tokenizer.") or key.endswith("chat_template"):
            continue
        if field.types[0] == GGUFValueType.ARRAY:
            writer.add_key_value(
                key, field.contents(), GGUFValueType.ARRAY, sub_type=field.types[1]
            )
        else:
            writer.add_key_value(key, field.contents(), field.types[0])


def tensors(shape: Shape, n_vocab: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and sizes as llama.cpp wants them, rows first."""
    width, kv = shape.width, shape.head * shape.kv_heads
    yield "token_embd.weight", (n_vocab, width)
    yield "output_norm.weight", (width,)
    if not shape.tied:
        yield "output.weight", (n_vocab, width)
    for layer in range(shape.layers):
        prefix = f"blk.{layer}."
        yield prefix + "attn_norm.weight", (width,)
        for name, rows in (("q", width), ("k", kv), ("v", kv)):
            yield f"{prefix}attn_{name}.weight", (rows, width)
            if shape.architecture == "qwen2":
                yield f"{prefix}attn_{name}.bias", (rows,)
        yield prefix + "attn_output.weight", (width, width)
        yield prefix + "ffn_norm.weight", (width,)
        yield prefix + "ffn_gate.weight", (shape.feed_forward, width)
        yield prefix + "ffn_up.weight", (shape.feed_forward, width)
        yield prefix + "ffn_down.weight", (width, shape.feed_forward)


def weights(number: int, name: str, size: tuple[int, ...], words: np.ndarray) -> np.ndarray:
    """The same numbers on every machine: each tensor has a seed of its own."""
    if name.endswith("norm.weight"):
        return np.ones(size, np.float32)
    random = np.random.default_rng((SEED, number))
    values = random.standard_normal(size, dtype=np.float32) * np.float32(SPREAD)
    if name in ("token_embd.weight", "output.weight"):
        values[~words] *= QUIET
    return values if len(size) == 1 else values.astype(np.float16)


if __name__ == "__main__":
    for name in sys.argv[1:] or SHAPES:
        make(SHAPES[name])
