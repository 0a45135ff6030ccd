"""Writes the model, its tokenizer and its chat template as one GGUF file."""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from .chat import TEMPLATE
from .model import Model
from .tokenizer import CONTROL, PRE_TOKENIZER, VISIBLE


def write(model: Model, tokenizer: Tokenizer, path: Path) -> None:
    """Replace ``path`` in one step: a reader sees the old file or the new one."""
    draft = path.with_suffix(".tmp")
    writer = gguf.GGUFWriter(draft, "llama")
    _describe(writer, model)
    _add_tokenizer(writer, tokenizer)
    for name, parameter in model.named_parameters():
        kind = np.float32 if parameter.dim() == 1 else np.float16
        writer.add_tensor(name, parameter.detach().float().numpy().astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    draft.replace(path)


def read(model: Model, tokenizer: Tokenizer, path: Path) -> None:
    """The weights of a file that ``write`` wrote; raises ValueError where its tokens are others."""
    file = gguf.GGUFReader(path)
    if file.fields["tokenizer.ggml.tokens"].contents() != _tokens(tokenizer):
        raise ValueError(f"{path} has other tokens")
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for tensor in file.tensors:
            parameters.pop(tensor.name).copy_(torch.from_numpy(tensor.data.astype(np.float32)))
    if parameters:
        raise ValueError(f"{path} lacks {', '.join(parameters)}")


def _tokens(tokenizer: Tokenizer) -> list[str]:
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _describe(writer: gguf.GGUFWriter, model: Model) -> None:
    shape = model.shape
    writer.add_name("demo")
    writer.add_description("A tiny chat model for trying out and testing the service.")
    writer.add_license("apache-2.0")
    writer.add_size_label(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    kinds = dict.fromkeys(CONTROL, gguf.TokenType.CONTROL)
    kinds |= dict.fromkeys(VISIBLE, gguf.TokenType.USER_DEFINED)
    ids = tokenizer.get_vocab()
    tokens = _tokens(tokenizer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_eot_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_uint32("tokenizer.ggml.fim_pre_token_id", ids["<|fim_prefix|>"])
    writer.add_uint32("tokenizer.ggml.fim_suf_token_id", ids["<|fim_suffix|>"])
    writer.add_uint32("tokenizer.ggml.fim_mid_token_id", ids["<|fim_middle|>"])
    writer.add_chat_template(TEMPLATE)
