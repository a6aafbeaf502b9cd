"""The short word under which a failure to load or run a model is reported."""

from __future__ import annotations

from device_agent.errors import AgentError, ConfigError, ExplainedError, ModelError, RuntimeMissingError, WireError

__all__ = ["failure_code"]

CODES: tuple[tuple[type[ExplainedError], str], ...] = (
    (RuntimeMissingError, "runtime_missing"),
    (ModelError, "model_refused"),
    (WireError, "bad_manifest"),
    (ConfigError, "bad_source"),
)


def failure_code(error: ExplainedError) -> str:
    """Return the short word for an error, as the worker's ``Failed`` and the probe report it."""
    own = error.code if isinstance(error, AgentError) else ""
    return own or next((code for kind, code in CODES if isinstance(error, kind)), "failed")
