"""Compute at compile time what does not depend on the input."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FoldConstants"]

GROWTH_LIMIT_BYTES = 1 << 20
"""A folded result may be this much larger than its inputs: folding must not inflate the file."""

NOT_FOLDED = frozenset(
    {
        # Not a function of their inputs.
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"),
        # The float side of a quantization scheme, kept as the user gave it.
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    }
)


class FoldConstants(ir.passes.InPlacePass):
    """Replace each node of constant inputs, and the shape of each static value, by an initializer.

    Requires: constants lifted to initializers, shapes inferred. Ensures: no foldable node is left, save one that makes
    a graph output.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold in place, in the order of the graph."""
        changed = False
        opset = model.opset_imports.get("", 0)
        for node in list(model.graph):
            if any(output.is_graph_output() for output in node.outputs):
                continue
            results = _static_shape(node) or _picked_size(node) or _evaluate(node, opset)
            if results is not None:
                _replace(model.graph, node, results)
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def _picked_size(node: ir.Node) -> list[NDArray[np.generic]] | None:
    """Return the known sizes that a Gather picks out of a shape which is open elsewhere."""
    source = node.inputs[0] if node.op_type == "Gather" and not node.domain else None
    shape = None if source is None else source.producer()
    places = node.inputs[1].const_value if source is not None and node.inputs[1] is not None else None
    if shape is None or places is None or shape.op_type != "Shape" or shape.inputs[0] is None:
        return None
    dims = shape.inputs[0].shape
    if dims is None or {"start", "end"} & set(shape.attributes):
        return None
    axes = places.numpy()
    if not np.isin(axes, np.arange(-len(dims), len(dims))).all():
        return None
    sizes = [dims[int(axis)] for axis in np.ravel(axes)]
    return [np.array(sizes, np.int64).reshape(axes.shape)] if all(isinstance(size, int) for size in sizes) else None


def _static_shape(node: ir.Node) -> list[NDArray[np.generic]] | None:
    if node.op_type != "Shape" or node.domain or node.inputs[0] is None or node.inputs[0].shape is None:
        return None
    dims = list(node.inputs[0].shape)
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(dims))
    picked = dims[start:end]
    if not all(isinstance(dim, int) for dim in picked):
        return None
    return [np.array(picked, dtype=np.int64)]


def _evaluate(node: ir.Node, opset: int) -> list[NDArray[np.generic]] | None:
    inputs = [value for value in node.inputs if value is not None]
    constant = [value.const_value for value in inputs]
    if node.domain or node.op_type in NOT_FOLDED or not inputs or any(tensor is None for tensor in constant):
        return None
    if any(
        attribute.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS} for attribute in node.attributes.values()
    ):
        return None
    if _claimed_bytes(node) > GROWTH_LIMIT_BYTES + sum(tensor.nbytes for tensor in constant if tensor is not None):
        return None
    feeds = {
        str(value.name): tensor.numpy() for value, tensor in zip(inputs, constant, strict=True) if tensor is not None
    }
    try:
        results = _run_alone(node, opset, feeds)
    except NotImplementedError:  # the reference has no such operator: it is computed on the device as before
        return None
    grown = sum(array.nbytes for array in results) - sum(array.nbytes for array in feeds.values())
    return None if grown > GROWTH_LIMIT_BYTES else results


def _claimed_bytes(node: ir.Node) -> float:
    """Return how large the results will be, as far as their shapes are known: what is too large is not computed."""
    return sum(
        prod(value.shape.numpy()) * value.dtype.itemsize
        for value in node.outputs
        if value.shape is not None and value.dtype is not None and value.shape.is_static()
    )


def _run_alone(node: ir.Node, opset: int, feeds: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    proto = ir.serde.serialize_node(node)
    graph = onnx.helper.make_graph(
        [proto],
        "fold",
        [onnx.ValueInfoProto(name=name) for name in feeds],
        [onnx.ValueInfoProto(name=output.name) for output in node.outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    results = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(result) for result in results]


def _replace(graph: ir.Graph, node: ir.Node, results: list[NDArray[np.generic]]) -> None:
    for output, array in zip(list(node.outputs), results, strict=True):
        constant = ir.Value(name=f"{output.name}_folded", const_value=ir.tensor(array, name=f"{output.name}_folded"))
        constant.shape, constant.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
        graph.register_initializer(constant)
        output.replace_all_uses_with(constant)
    graph.remove(node, safe=True)
