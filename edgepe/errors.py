"""Everything that can go wrong on the host, as one tree.

::

    ExplainedError                      (device_agent.wire.errors)
    └── EdgepeError
        ├── UsageError                  wrong input, exit code 2
        │   ├── UnknownTargetError      no such target profile ("did you mean")
        │   ├── ProfileError            a target profile that breaks its schema
        │   ├── MissingFileError        a path that is not there
        │   ├── DataError               names, shapes, values or labels that do not fit
        │   ├── WeightsError            weights that cannot be loaded safely or do not fit
        │   ├── ConfigFileError         edgepe.toml or another settings file is wrong
        │   └── MissingExtraError       an optional part of the installation is absent (named)
        ├── CaptureError                the model cannot become one deterministic graph
        ├── UnsupportedOpError          an operator outside the table (node, op, what to do)
        ├── CompressError               training, pruning or rebuilding failed
        ├── VerifyError                 the artifact cannot be run or judged
        ├── ContractError               no artifact holds the contract (which bound, by how much, what was tried)
        ├── BundleError                 a bundle that is damaged or of another format
        └── FleetError                  broker, repository, collector or roll-out
            └── PortInUseError          an address that something else holds
"""

from __future__ import annotations

from device_agent.wire.errors import ExplainedError

__all__ = [
    "BundleError",
    "CaptureError",
    "CompressError",
    "ConfigFileError",
    "ContractError",
    "DataError",
    "EdgepeError",
    "FleetError",
    "MissingExtraError",
    "MissingFileError",
    "PortInUseError",
    "ProfileError",
    "UnknownTargetError",
    "UnsupportedOpError",
    "UsageError",
    "VerifyError",
    "WeightsError",
]


class EdgepeError(ExplainedError):
    """Root of the host's own errors."""


class UsageError(EdgepeError):
    """Wrong input of the user's."""

    exit_code = 2


class UnknownTargetError(UsageError):
    """No target profile of that name."""


class ProfileError(UsageError):
    """A target profile that breaks its schema."""


class MissingFileError(UsageError):
    """A path that is not there."""


class DataError(UsageError):
    """Names, shapes, values or labels that do not fit."""


class WeightsError(UsageError):
    """Weights that cannot be loaded safely or do not fit the model."""


class ConfigFileError(UsageError):
    """``edgepe.toml`` or another settings file is wrong."""


class MissingExtraError(UsageError):
    """An optional part of the installation is absent.

    Args:
        extra: The extra of ``pyproject.toml`` that brings it.
        wanted_by: What the user asked for.
        module: The module that could not be imported.
    """

    def __init__(self, extra: str, *, wanted_by: str, module: str) -> None:
        super().__init__(
            f"{wanted_by} needs the extra '{extra}'",
            expected=f"the module '{module}'",
            got="not installed",
            next_step=f"pip install 'edgepe[{extra}]'",
        )
        self.extra = extra
        self.module = module


class CaptureError(EdgepeError):
    """The model cannot become one deterministic graph."""


class UnsupportedOpError(EdgepeError):
    """An operator, or one of its attributes, outside the table of a target."""

    def __init__(
        self,
        what: str,
        *,
        op: str,
        node: str,
        expected: object = None,
        got: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, next_step=next_step)
        self.op = op
        self.node = node


class CompressError(EdgepeError):
    """Training, pruning or rebuilding failed."""


class VerifyError(EdgepeError):
    """The artifact cannot be run or judged."""


class ContractError(EdgepeError):
    """No artifact holds the contract."""


class BundleError(EdgepeError):
    """A bundle that is damaged or of another format."""


class FleetError(EdgepeError):
    """Broker, repository, collector or roll-out."""


class PortInUseError(FleetError):
    """An address that something else holds."""
