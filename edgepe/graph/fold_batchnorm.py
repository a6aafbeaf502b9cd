"""Fold BatchNormalization at inference into the Conv, ConvTranspose or Gemm before it.

With x = W u + b and y = f (x - mean) + beta, where f = gamma / sqrt(variance + epsilon), the pair is one operator with
W' = f W and b' = f (b - mean) + beta (Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2, step 11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FoldBatchNorm"]


class FoldBatchNorm(ir.passes.InPlacePass):
    """Fold each BatchNormalization whose producer feeds it alone.

    Requires: weights are initializers. Ensures: no such pair is left; a shared producer keeps its BatchNormalization.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold in place."""
        changed = False
        for node in list(model.graph):
            if node.op_type == "BatchNormalization" and not node.domain and _foldable(node):
                _fold(model.graph, node)
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def _foldable(norm: ir.Node) -> bool:
    source = norm.inputs[0]
    producer = None if source is None else source.producer()
    if source is None or producer is None or len(source.uses()) != 1 or source.is_graph_output():
        return False
    if norm.attributes.get_int("training_mode", 0) or any(output.uses() for output in norm.outputs[1:]):
        return False
    constants = (*norm.inputs[1:5], *producer.inputs[1:])
    return producer.op_type in {"Conv", "ConvTranspose", "Gemm"} and all(
        value is not None and value.const_value is not None for value in constants
    )


def _fold(graph: ir.Graph, norm: ir.Node) -> None:
    source = norm.inputs[0]
    producer = None if source is None else source.producer()
    if producer is None:
        message = "a foldable BatchNormalization has a producer"
        raise TypeError(message)
    gamma, beta, mean, variance = (_array(value) for value in norm.inputs[1:5])
    factor = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    weight = _array(producer.inputs[1])
    old = _array(producer.inputs[2]) if len(producer.inputs) > 2 else np.zeros_like(mean)  # noqa: PLR2004 - the bias
    if producer.op_type == "Gemm":
        _replace(graph, producer, 2, (_beta(producer) * old - mean) * factor + beta)
        producer.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    else:
        _replace(graph, producer, 2, (old - mean) * factor + beta)
    _replace(graph, producer, 1, weight * _along_outputs(factor, producer, weight))
    output = norm.outputs[0]
    kept = producer.outputs[0]
    kept.shape, kept.type = output.shape, output.type
    ir.convenience.replace_all_uses_with(output, kept, replace_graph_outputs=True)
    name = output.name
    graph.remove(norm, safe=True)
    if kept.is_graph_output():
        kept.name = name


def _beta(gemm: ir.Node) -> float:
    return gemm.attributes.get_float("beta", 1.0)


def _along_outputs(factor: NDArray[np.float64], producer: ir.Node, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the factor shaped so that it multiplies the weight's output channels."""
    rest = (1,) * (weight.ndim - 2)
    if producer.op_type == "Conv":
        return factor.reshape(-1, 1, *rest)
    if producer.op_type == "Gemm":
        return factor.reshape(-1, 1) if producer.attributes.get_int("transB", 0) else factor.reshape(1, -1)
    groups = producer.attributes.get_int("group", 1)
    per_input = factor.reshape(groups, 1, -1)
    return np.repeat(per_input, weight.shape[0] // groups, axis=1).reshape(weight.shape[0], weight.shape[1], *rest)


def _array(value: ir.Value | None) -> NDArray[np.float64]:
    if value is None or value.const_value is None:
        message = "a foldable BatchNormalization has constant parameters"
        raise TypeError(message)
    return value.const_value.numpy().astype(np.float64)


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[np.float64]) -> None:
    name = f"{node.outputs[0].name}_{'weight' if index == 1 else 'bias'}"
    value = ir.Value(name=name, const_value=ir.tensor(array.astype(np.float32), name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.FLOAT)
    if name in graph.initializers:
        value.name = name = f"{name}_folded"
    graph.register_initializer(value)
    if index == len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
