"""How many samples calibration runs at once.

Rules kept here:
1. It follows from the shapes alone, so that the same model always gets the same batches.
2. All values of a batch together stay within a budget, as if the runtime freed none of them before the end.
3. A model with a fixed batch gets that.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["BUDGET", "LARGEST", "batch_size", "fixed_batch", "sample_bytes"]

BUDGET = 256 << 20
"""Bytes of activations that one batch may take."""
LARGEST = 32
"""Samples of a batch, however small."""
FLOAT_BYTES = 4


def batch_size(model: ir.Model, *, budget_bytes: int = BUDGET) -> int:
    """Return the samples of one batch: the model's own fixed batch, else what fits, 1 to ``LARGEST``."""
    fixed = fixed_batch(model)
    return fixed or max(1, min(LARGEST, budget_bytes // max(sample_bytes(model), 1)))


def fixed_batch(model: ir.Model) -> int:
    """Return the batch that a model fixes, or 0 where it leaves it open."""
    first = model.graph.inputs[0].shape
    return int(first[0]) if first is not None and len(first) and isinstance(first[0], int) else 0


def sample_bytes(model: ir.Model) -> int:
    """Return the bytes of all inputs and intermediate values of one sample; an open dimension counts as 1."""
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return FLOAT_BYTES * sum(
        prod(size if isinstance(size, int) else 1 for size in value.shape)
        for value in values
        if value.shape is not None
    )
