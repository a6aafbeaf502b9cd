"""Whether a board can hold a model at all.

Rules kept here:
1. What is counted is a floor: weights at the smallest precision that is tried, and the widest operator's inputs and
   outputs for one sample. A model that passes may still need more; one that fails cannot run.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from edgepe.errors import CaptureError
from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

    from edgepe.target import Target

__all__ = ["check_fits", "least_bytes"]

BYTES = {Precision.INT8: 1, Precision.MIXED: 1, Precision.FP16: 2, Precision.FP32: 4}


def check_fits(model: ir.Model, target: Target, precisions: Iterable[Precision]) -> None:
    """Refuse a model that is larger than the target's memory.

    Args:
        model: The float graph.
        target: The board.
        precisions: What will be tried.

    Raises:
        CaptureError: With both figures.
    """
    smallest = min(precisions, key=BYTES.__getitem__)
    needed = least_bytes(model, smallest)
    if needed > target.ram_bytes:
        raise CaptureError(
            f"the model is larger than the memory of {target.name}",
            expected=f"at most {target.ram_bytes:,} bytes",
            got=f"at least {needed:,} bytes in {smallest}",
            next_step="compress the model, or choose a target with more memory",
        )


def least_bytes(model: ir.Model, precision: Precision) -> int:
    """Return the bytes below which no artifact of this precision can run."""
    size = BYTES[precision]
    weights = sum(prod(_dims(value)) for value in model.graph.initializers.values())
    widest = max((_moved(node) for node in model.graph), default=0)
    return size * (weights + widest)


def _moved(node: ir.Node) -> int:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.const_value is None]
    return sum(prod(_dims(value)) for value in values)


def _dims(value: ir.Value) -> tuple[int, ...]:
    if value.shape is None:
        return (0,)
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)
