"""Fix the open batch of a model to a number, and take the shapes from there."""

from __future__ import annotations

import onnx_ir as ir

from edgepe.graph.passes import run_passes

__all__ = ["fix_batch"]


def fix_batch(model: ir.Model, batch: int) -> ir.Model:
    """Return a copy whose inputs have ``batch`` as their first dimension, optimized again.

    Requires: nothing but the batch is open. Ensures: shapes that followed the batch are constants. The argument is not
    changed.
    """
    copy = ir.serde.deserialize_model(ir.serde.serialize_model(model))
    for value in (*copy.graph.inputs, *copy.graph.outputs):
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            value.shape = ir.Shape([batch, *list(value.shape)[1:]])
    for node in copy.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    return run_passes(copy)
