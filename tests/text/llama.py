"""What llama.cpp itself says of a grammar. In a process of its own, since it may abort."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import service.catalog

VOCABULARY = Path(service.catalog.__file__).parent / "demo.gguf"

# As the engine does it: a token is accepted only once the grammar, asked about it, did not forbid it.
SCRIPT = """
import ctypes, json, resource, sys
import llama_cpp as llama

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
params = llama.llama_model_default_params()
params.vocab_only = True
model = llama.llama_model_load_from_file(sys.argv[1].encode(), params)
vocab = llama.llama_model_get_vocab(model)
end = llama.llama_vocab_eos(vocab)

def allows(sampler, token):
    single = llama.llama_token_data(token, 1.0, 0.0)
    array = llama.llama_token_data_array(ctypes.pointer(single), 1, -1, False)
    llama.llama_sampler_apply(sampler, ctypes.byref(array))
    return single.logit > -1e30

def accepts(grammar, root, text):
    sampler = llama.llama_sampler_init_grammar(vocab, grammar.encode(), root.encode())
    if not sampler:
        return None
    data = text.encode()
    tokens = (llama.llama_token * (len(data) + 8))()
    n = llama.llama_tokenize(vocab, data, len(data), tokens, len(tokens), False, False)
    assert n >= 0
    for token in tokens[:n]:
        if not allows(sampler, token):
            return False
        llama.llama_sampler_accept(sampler, token)
    whole = allows(sampler, end)
    llama.llama_sampler_free(sampler)
    return whole

for case in json.load(sys.stdin):
    print(json.dumps(accepts(*case)), flush=True)
"""


def verdicts(cases: list[tuple[str, str, str]]) -> list[Any]:
    """For each (grammar, root, text) True or False; None where the grammar does not even parse.

    Shorter than `cases` where the process died.
    """
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(VOCABULARY)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=50,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
