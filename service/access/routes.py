"""What a key has to be allowed for each route: the one table of it.

One of the scopes of a row is enough. A route that has no row is open to nobody once there are keys,
and fails a test. Below a dialect's prefix a route is what it is at the root, so a path stands here
once, as the dialect has it. HEAD goes with GET, unless it has a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from service.access.caller import Scope

Scopes = frozenset[Scope]

# Open to all: that the process turns, and nothing else.
PUBLIC: Final = "GET /health/live"

# For any key: whether the service is there, what it is, and whether it can serve.
GREETINGS: Final = """
    GET /
    GET /health    GET /v1/health    GET /health/ready
    GET,POST /ping
    GET /version   GET /api/version  GET /api/status
    GET /load
    GET /docs     GET /api-doc/openapi.json
"""

# For whoever generates or looks at dashboards: what models there are.
LISTS: Final = """
    GET /v1/models     GET /v1/models/{id:path}
    GET /api/tags      GET /api/models    GET /api/ps    POST /api/show
    GET /models        GET /running       GET /props     GET /lora-adapters
    GET /info          GET /tokenizer_info
    GET /api/progress/{id}
"""

INFERENCE: Final = """
    POST /v1/chat/completions   POST /v1/chat/completions/batch   POST /api/chat/completions
    POST /v1/completions        POST /v1/embeddings
    POST /v1/chat/completions/input_tokens
    POST /v1/responses          POST /v1/responses/input_tokens
    GET,DELETE /v1/responses/{id}
    POST /v1/responses/{id}/cancel
    POST /v1/messages           POST /v1/messages/count_tokens

    POST /api/generate   POST /api/chat   POST /api/embed   POST /api/embeddings
    POST /api/me         POST /api/signout

    POST /   POST /tgi   POST /generate   POST /generate_stream   POST /hf/v1/completions
    POST /chat_tokenize  POST /vertex

    POST /tokenize   POST /detokenize   POST /invocations
    POST /rerank     POST /v1/rerank    POST /v2/rerank   POST /reranking   POST /v1/reranking
    POST /score      POST /v1/score     POST /v2/embed
    POST /pooling    POST /classify

    POST /completion        POST /completions   POST /infill   POST /apply-template
    POST /embedding         POST /embeddings
    POST /chat/completions  POST /chat/completions/input_tokens
    POST /chat/completions/control   POST /v1/chat/completions/control
    POST /responses         POST /responses/input_tokens

    GET,POST,DELETE /v1/moderations
    GET,POST,DELETE /v1/images/{rest:path}
    GET,POST,DELETE /v1/audio/{rest:path}
    GET,POST,DELETE /v1/files
    GET,POST,DELETE /v1/files/{rest:path}
    GET,POST,DELETE /v1/batches
    GET,POST,DELETE /v1/batches/{rest:path}
    GET,POST,DELETE /v1/fine_tuning/{rest:path}
"""

# One's own request, with a key to generate; anybody's, with one to administer.
ENDINGS: Final = """
    POST /api/cancel/{id}
    POST /api/dismiss/completed
    POST /api/dismiss/{id}
"""

READ: Final = """
    GET /health/models        GET /health/models/{model:path}
    GET /models/sse           GET /slots
    GET /api/requests
    GET /api/metrics/apis     GET /api/metrics/dashboard
    GET /api/metrics/gpu      GET /api/metrics/optimization
    GET /api/optimization/history
    GET /api/optimization/trial
    GET /is_sleeping         GET /server_info
    GET /api/dashboard/configure   GET /api/dashboard/configure/versions
    GET /api/dashboard/presets
    GET /dashboard            GET /dashboard/gpu      GET /dashboard/models
    GET /dashboard/apis       GET /dashboard/config   GET /dashboard/optimization
    GET /api/dashboard/api-metrics   GET /api/dashboard/gpu-metrics
    GET /api/dashboard/weight-distribution
    GET /api/dashboard/weight-distribution/presets
    POST /api/dashboard/weight-distribution/validate
"""

METRICS: Final = """
    GET /metrics    GET /metrics/compat/vllm
"""

ADMIN: Final = """
    POST /api/pull     POST /api/push   POST /api/create   POST /api/copy   DELETE /api/delete
    HEAD,POST /api/blobs/{digest}
    POST /api/dashboard/configure           POST /api/dashboard/configure/rollback
    GET /api/dashboard/configure/export     POST /api/dashboard/configure/import
    POST /api/optimization/apply   POST /api/optimization/rollback/{change_id}
    POST /api/optimization/dismiss POST /api/optimization/trial
    POST /models/load  POST /models/unload
    POST /api/models/unload   POST /api/models/unload/{id:path}
    POST /v1/load_lora_adapter   POST /v1/unload_lora_adapter   POST /lora-adapters
    POST /props        POST /slots/{id:int}
    POST /api/dashboard/weight-distribution
    POST /sleep        POST /wake_up    POST /abort_requests    POST /reset_prefix_cache
    POST /pause        POST /resume
    GET /logs          GET /logs/stream
"""


def rows(text: str, scopes: Scopes) -> Iterator[tuple[tuple[str, str], Scopes]]:
    words = iter(text.split())
    for methods, path in zip(words, words, strict=True):
        for method in methods.split(","):
            yield (method, path), scopes


GROUPS: Final = (
    (PUBLIC, Scopes()),
    (GREETINGS, Scopes({Scope.INFERENCE, Scope.READ, Scope.METRICS, Scope.ADMIN})),
    (LISTS, Scopes({Scope.INFERENCE, Scope.READ})),
    (INFERENCE, Scopes({Scope.INFERENCE})),
    (ENDINGS, Scopes({Scope.INFERENCE, Scope.ADMIN})),
    (READ, Scopes({Scope.READ})),
    (METRICS, Scopes({Scope.METRICS})),
    (ADMIN, Scopes({Scope.ADMIN})),
)
TABLE: Final = {key: scopes for text, group in GROUPS for key, scopes in rows(text, group)}


def scopes_for(method: str, path: str) -> Scopes | None:
    """Any of which opens the route; none in the set: it is public; None: there is no row."""
    found = TABLE.get((method, path))
    return TABLE.get(("GET", path)) if found is None and method == "HEAD" else found
