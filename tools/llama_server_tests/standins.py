"""Models that stand in for those that the tests download: of their architecture, with the weights
of chance.

The vocabularies are those that come with llama.cpp's source. A chat template and a pooling are
command-line options of llama-server; here they are part of the file, as they are of any GGUF.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter, LlamaFileType, PoolingType

from bench.models import CHATML, copy_tokenizer, weights, write
from bench.shapes import Shape

# What llama-server knows by these names without a file, as its library writes them.
BUILT_IN = {
    "chatml": CHATML,
    "llama3": (
        "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
        "{{ message['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "command-r": (
        "{% for message in messages %}<|START_OF_TURN_TOKEN|>"
        "<|{{ {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'}[message['role']] }}_TOKEN|>"
        "{{ message['content'] | trim }}<|END_OF_TURN_TOKEN|>{% endfor %}{% if add_generation_prompt %}"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
    ),
}

STORIES = Shape("stories", "llama", "llama-spm", "F16", 64, 2, 4, 4, 128, 8192, 1e4, tied=True)
INFILL = Shape("infill", "llama", "starcoder", "F16", 64, 2, 4, 4, 128, 8192, 1e4, tied=True)


@dataclass(frozen=True)
class Encoder:
    """BERT, small. With pooling "rank" it ends in a score."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    feed_forward: int = 128
    context: int = 512
    pooling: str = "cls"


@dataclass(frozen=True)
class Standin:
    shape: Shape | Encoder
    template: str = CHATML

    def with_pooling(self, pooling: str | None) -> Standin:
        if pooling is None or not isinstance(self.shape, Encoder):
            return self
        return replace(self, shape=replace(self.shape, pooling=pooling))


# By the repository that the tests name.
STANDINS = {
    "ggml-org/test-model-stories260K": Standin(STORIES),
    "ggml-org/test-model-stories260K-infill": Standin(INFILL),
    "ggml-org/models:bert-bge-small/ggml-model-f16.gguf": Standin(Encoder()),
    "ggml-org/models:jina-reranker-v1-tiny-en/ggml-model-f16.gguf": Standin(
        Encoder(pooling="rank")
    ),
}


def made(standin: Standin, vocabularies: Path, folder: Path) -> Path:
    """Its file, made if it is not there yet."""
    name = hashlib.sha256(repr(standin).encode()).hexdigest()[:16]
    path, part = folder / f"{name}.gguf", folder / f"{name}.part"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(standin.shape, Encoder):
            write_encoder(standin.shape, vocabularies / "ggml-vocab-bert-bge.gguf", part)
        else:
            write(standin.shape, vocabularies, part, standin.template)
        part.rename(path)
    return path


def write_encoder(shape: Encoder, vocabulary: Path, path: Path) -> None:
    words = GGUFReader(vocabulary)
    n_vocab = len(words.fields["tokenizer.ggml.tokens"].contents())
    writer = GGUFWriter(path, "bert")
    writer.add_vocab_size(n_vocab)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(PoolingType[shape.pooling.upper()])
    writer.add_file_type(LlamaFileType.ALL_F32)
    copy_tokenizer(writer, words)
    every = np.ones(n_vocab, bool)
    for number, (name, size) in enumerate(encoder_tensors(shape, n_vocab)):
        writer.add_tensor(name, tensor(number, name, size, every))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensor(number: int, name: str, size: tuple[int, ...], words: np.ndarray) -> np.ndarray:
    if name.endswith("norm.bias"):
        return np.zeros(size, np.float32)
    return weights(number, name, size, words).astype(np.float32)


def encoder_tensors(shape: Encoder, n_vocab: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and sizes as llama.cpp wants them, rows first."""
    width, inner = shape.width, shape.feed_forward
    yield "token_embd.weight", (n_vocab, width)
    yield "position_embd.weight", (shape.context, width)
    yield "token_types.weight", (2, width)
    yield from affine("token_embd_norm", width)
    for layer in range(shape.layers):
        prefix = f"blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield from affine(prefix + part, width, width)
        yield from affine(prefix + "attn_output_norm", width)
        yield from affine(prefix + "ffn_up", inner, width)
        yield from affine(prefix + "ffn_down", width, inner)
        yield from affine(prefix + "layer_output_norm", width)
    if shape.pooling == "rank":
        yield from affine("cls", width, width)
        yield from affine("cls.output", 1, width)


def affine(name: str, *size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", size
    yield f"{name}.bias", size[:1]
