"""Everything that can go wrong before a request's first byte.

    ServiceError
    ├── InvalidRequest        400   the request says something that cannot be done
    │   ├── ContextOverflow   400   the prompt alone does not fit the context
    │   └── InvalidSettings   400   settings that cannot be honoured, each with its reason
    ├── Unauthorized          401   no key was shown, or none that is known
    ├── Forbidden             403   the operator has not switched it on, or not for this key
    ├── ModelNotFound         404
    ├── AdapterNotFound       404
    ├── AdviceNotFound        404
    ├── ChangeNotFound        404
    ├── VersionNotFound       404
    ├── StaleVersion          409   the settings have changed since the client looked at them
    ├── ChangeRefused         409   settings that cannot be put in force here; the old ones are
    ├── Overloaded            429   the model's queue is full
    ├── RateLimited           429   the key has had what it may have for now
    ├── Cancelled             499   somebody has ended it by its id
    ├── Draining              503   the service is shutting down
    ├── ModelUnavailable      503   the model failed, or restarts too often; try later
    │   └── QueueTimeout      503   the request did not get its turn in time
    ├── ModelUnusable         422   the model's files are no model for this server; nothing was loaded
    ├── ModelLoadFailed       500   the model cannot be loaded; trying again will not help
    │   └── InsufficientMemory 500  there is no room for it as things are
    ├── EngineFailed          500   the engine died or the generation broke
    ├── RegistryFailed        502   a registry did not answer, or not as registries do
    ├── OutOfTime             504   it took longer than the client, or the operator, gives it
    ├── StoreFailed           507   the disk did not take it; the store is as it was
    └── StateNotWritten       507   the disk did not take the settings; the old ones are in force

After the first byte the same failures travel as `Finished(reason=ERROR)`. The class carries the
status that the OpenAI dialect uses; the other dialects map `code` to their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class ServiceError(Exception):
    status = 500
    code = "internal_error"
    # Whether a client that waits and tries again may fare better.
    retryable = False
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class InvalidRequest(ServiceError):
    status = 400
    code = "invalid_request"


class ContextOverflow(InvalidRequest):
    """`prompt_tokens` were counted by the model's tokenizer; `context_length` is one sequence's."""

    code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, context_length: int, max_tokens: int | None) -> None:
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length
        wanted = max_tokens or 0
        super().__init__(
            f"This model's maximum context length is {context_length} tokens. However, you "
            f"requested {prompt_tokens + wanted} tokens ({prompt_tokens} in the messages, "
            f"{wanted} in the completion). Please reduce the length of the messages or completion.",
            param="messages",
        )


class InvalidSettings(InvalidRequest):
    """`reasons` has one for each key."""

    code = "invalid_settings"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        said = [f"{key}: {reason}" if key else reason for key, reason in reasons.items()]
        super().__init__("; ".join(said), param=next(iter(reasons), None))
        self.reasons = dict(reasons)


class StaleVersion(ServiceError):
    status = 409
    code = "stale_version"


class ChangeRefused(ServiceError):
    status = 409
    code = "change_refused"


class Unauthorized(ServiceError):
    """The same for all that is wrong with a key: nobody learns how near he was."""

    status = 401
    code = "invalid_api_key"
    headers = MappingProxyType(
        {"WWW-Authenticate": 'Bearer realm="llm-inference", Basic realm="llm-inference"'}
    )

    def __init__(self) -> None:
        super().__init__("Incorrect API key provided.")


class Forbidden(ServiceError):
    status = 403
    code = "forbidden"


class ModelNotFound(ServiceError):
    status = 404
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model `{model}` does not exist", param="model")
        self.model = model


class AdapterNotFound(ServiceError):
    status = 404
    code = "adapter_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"The lora adapter '{name}' cannot be found.", param="lora_name")


class AdviceNotFound(ServiceError):
    status = 404
    code = "advice_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no advice `{id}`", param="id")


class ChangeNotFound(ServiceError):
    status = 404
    code = "change_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no change `{id}`", param="change_id")


class VersionNotFound(ServiceError):
    status = 404
    code = "version_not_found"


class Overloaded(ServiceError):
    status = 429
    code = "queue_full"
    retryable = True


class RateLimited(ServiceError):
    status = 429
    code = "rate_limit_exceeded"
    retryable = True


class Cancelled(ServiceError):
    """Has no number of its own in HTTP: nginx's for a client that is gone."""

    status = 499
    code = "cancelled"

    def __init__(self) -> None:
        super().__init__("The request was cancelled.")


class Draining(ServiceError):
    status = 503
    code = "draining"
    retryable = True


class ModelUnavailable(ServiceError):
    status = 503
    code = "model_unavailable"
    retryable = True


class QueueTimeout(ModelUnavailable):
    code = "queue_timeout"


class ModelUnusable(ServiceError):
    status = 422
    code = "model_unusable"

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"The model `{model}` cannot be used: {problem}.", param="model")


class ModelLoadFailed(ServiceError):
    code = "model_load_failed"


class InsufficientMemory(ModelLoadFailed):
    code = "insufficient_memory"


class EngineFailed(ServiceError):
    code = "engine_failed"


class OutOfTime(ServiceError):
    status = 504
    code = "timeout"


class RegistryFailed(ServiceError):
    status = 502
    code = "registry_failed"


class StateNotWritten(ServiceError):
    status = 507
    code = "state_not_written"


class StoreFailed(ServiceError):
    status = 507
    code = "store_failed"
