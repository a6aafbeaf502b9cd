"""The captured model as a value, and the protocol by which a foreign layer becomes deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

__all__ = ["Captured", "Deterministic", "Port"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output of a captured graph.

    Attributes:
        name: Its name.
        dtype: Its type, as numpy spells it.
        shape: Its shape; -1 is the open batch.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One deterministic float graph.

    Attributes:
        name: The model's name: the file's stem or the factory's name.
        model: The graph, stripped; treat it as read-only.
        inputs: Its inputs.
        outputs: Its outputs.
    """

    name: str
    model: ir.Model
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@runtime_checkable
class Deterministic(Protocol):
    """A layer that draws its weights or activations, and knows the deterministic layer that stands for it."""

    def deterministic(self) -> torch.nn.Module:
        """Return the layer to export: same inputs and outputs, no randomness."""
