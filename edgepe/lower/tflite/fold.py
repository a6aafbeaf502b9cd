"""What a node computes from constants alone, known while lowering.

Rules kept here:
1. A graph comes here optimized; what is left to fold are shapes, which are known once the batch is.
2. ONNX's own reference evaluator computes; nothing is interpreted twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgepe.lower.tflite.value import Value

__all__ = ["constant_attribute", "evaluate", "shape_slice"]


def constant_attribute(node: ir.Node) -> NDArray[np.generic] | None:
    """Return the array of a Constant node, None where it holds neither a tensor nor numbers."""
    for attribute in node.attributes.values():
        if isinstance(attribute.value, ir.TensorProtocol):
            return np.asarray(attribute.value.numpy())
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(attribute.value, np.int64)
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(attribute.value, np.float32)
    return None


def shape_slice(node: ir.Node, value: Value) -> NDArray[np.int64]:
    """Return what a Shape node computes."""
    start, end = (node.attributes.get(name) for name in ("start", "end"))
    chosen = slice(None if start is None else start.as_int(), None if end is None else end.as_int())
    return np.asarray(value.shape[chosen], np.int64)


def evaluate(
    node: ir.Node, arrays: Mapping[str, NDArray[np.generic]], opsets: Mapping[str, int]
) -> tuple[NDArray[np.generic], ...]:
    """Compute a node whose inputs are all constant.

    Args:
        node: The node.
        arrays: Its inputs by value name.
        opsets: Version of each operator domain.
    """
    names = dict.fromkeys(value.name or "" for value in node.inputs if value is not None)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(arrays[name].dtype), arrays[name].shape)
        for name in names
    ]
    outputs = [helper.make_empty_tensor_value_info(value.name or "") for value in node.outputs]
    graph = helper.make_graph([ir.to_proto(node)], "fold", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*item) for item in opsets.items()])
    results = ReferenceEvaluator(model).run(None, {name: arrays[name] for name in names})
    return tuple(np.asarray(result) for result in results)
