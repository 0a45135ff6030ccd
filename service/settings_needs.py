"""What a change of a setting needs before it is in force."""

from __future__ import annotations

from typing import Final, Literal

# nothing: it is in force for the next request, the next step or the next look at it.
# reload: the models that it concerns are loaded anew, behind the ones that serve.
# restart: it is kept, and is in force once the service has been started again.
Need = Literal["nothing", "reload", "restart"]

NEEDS: Final[dict[str, Need]] = {
    "config": "restart",
    "host": "restart",
    "port": "restart",
    "listeners": "restart",
    "api_keys_file": "restart",
    "shared_prefix_cache": "nothing",
    "insecure_no_auth": "restart",
    "allowed_hosts": "nothing",
    "cors_origins": "nothing",
    "max_body_bytes": "nothing",
    "model_dir": "restart",
    "discover_models": "restart",
    "default_model": "nothing",
    "aliases": "nothing",
    "store_dir": "restart",
    "pull_from": "restart",
    "enable_model_inspection": "nothing",
    "state_dir": "restart",
    "presets_file": "restart",
    "verify_checksums": "restart",
    "default_context_size": "reload",
    "parallel_slots": "reload",
    "gpu_layers": "reload",
    "tensor_split": "reload",
    "main_gpu": "reload",
    "split_mode": "reload",
    "cache_type_k": "reload",
    "cache_type_v": "reload",
    "flash_attention": "reload",
    "mmap": "reload",
    "mlock": "reload",
    # Of the models whose own settings change; `threads` among them needs none.
    "models": "reload",
    "threads": "nothing",
    "batch_size": "reload",
    "prefill_chunk": "reload",
    "prefix_cache": "reload",
    "kv_cache": "reload",
    "keep_alive": "nothing",
    "max_loaded_models": "nothing",
    "pinned_models": "nothing",
    "queue_size": "nothing",
    "queue_timeout": "nothing",
    "request_timeout": "nothing",
    "step_timeout": "nothing",
    "drain_timeout": "nothing",
    "drain_delay": "nothing",
    "exporters": "restart",
    "expose_exporters": "restart",
    "expected_gpus": "restart",
    "price_per_kwh": "nothing",
    "auto_rollback": "nothing",
    "optimization_losses": "nothing",
    "grafana_url": "nothing",
    "vllm_metric_names": "nothing",
    "reasoning_fields": "nothing",
    "preserve_think_tags": "nothing",
    "ollama_truncate": "nothing",
    "ollama_compat_version": "nothing",
    "completions_default_max_tokens": "nothing",
    "dev_routes": "nothing",
    "log_level": "nothing",
    "log_format": "restart",
}


def need(key: str) -> Need:
    """What nobody thought of can only be in force from the next start on."""
    return NEEDS.get(key, "restart")
