"""Everything that can go wrong on the device, as one tree.

::

    ExplainedError                 (device_agent.wire.errors)
    ├── WireError                  a message that breaks its format
    └── AgentError
        ├── ConfigError            agent.toml is missing, unreadable or wrong (exit 2)
        ├── RuntimeMissingError    no installed runtime can run the artifact
        ├── ModelError             the runtime refuses the model, or the model its input
        ├── TrustError             a signature, key or digest does not hold
        ├── FetchError             the bytes of a bundle could not be had
        └── UpdateError            a slot or state cannot be written or read
"""

from __future__ import annotations

from device_agent.wire.errors import ExplainedError, WireError

__all__ = [
    "AgentError",
    "ConfigError",
    "ExplainedError",
    "FetchError",
    "ModelError",
    "RuntimeMissingError",
    "TrustError",
    "UpdateError",
    "WireError",
]


class AgentError(ExplainedError):
    """Root of the agent's own errors.

    Args:
        what: One sentence on what is wrong.
        code: A short word for machines, such as ``digest_mismatch``; it is what the fleet is told.
        expected: What would have been right.
        got: What was found instead.
        next_step: What the user can do now.
    """

    def __init__(
        self,
        what: str,
        *,
        code: str = "",
        expected: object = None,
        got: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, next_step=next_step)
        self.code = code


class ConfigError(AgentError):
    """``agent.toml`` is missing, unreadable or wrong."""

    exit_code = 2


class RuntimeMissingError(AgentError):
    """No installed runtime can run the artifact."""


class ModelError(AgentError):
    """The runtime refuses the model, or the model refuses its input."""


class TrustError(AgentError):
    """A signature, key or digest does not hold."""


class FetchError(AgentError):
    """The bytes of a bundle could not be had."""


class UpdateError(AgentError):
    """A slot or an update state cannot be written or read."""
