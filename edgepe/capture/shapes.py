"""Fix the open dimensions of a graph's inputs to what the user says.

Rules kept here:
1. A known dimension is never overruled.
2. What was known of values behind the inputs is forgotten: it follows anew from the fixed shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgepe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["fix_shapes"]


def fix_shapes(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Fix dimensions, in place.

    Args:
        model: The graph.
        shapes: Input name → shape; -1 keeps the batch open.

    Raises:
        UsageError: A shape contradicts the graph, or names no input.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    for name, shape in shapes.items():
        value = inputs.get(name)
        if value is None:
            raise UsageError(f"--shape names '{name}', which is no input", expected=", ".join(inputs), got=name)
        old = list(value.shape) if value.shape is not None else [None] * len(shape)
        fits = len(old) == len(shape) and all(
            not isinstance(known, int) or known == wanted for known, wanted in zip(old, shape, strict=True)
        )
        if not fits:
            raise UsageError(
                f"--shape {name} contradicts the model",
                expected=f"{name}={','.join(str(dim) if isinstance(dim, int) else 'N' for dim in old)}",
                got=f"{name}={','.join(map(str, shape))}",
                next_step="give numbers for the open dimensions (N) and keep the others",
            )
        value.shape = ir.Shape(["batch" if size == -1 else size for size in shape])
    if shapes:
        _forget_shapes(model)


def _forget_shapes(model: ir.Model) -> None:
    """Drop what is known of values behind the inputs: it follows anew from the fixed shapes."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.outputs:
            value.shape = None
