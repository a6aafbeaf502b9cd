"""Dense layers: Gemm, and MatMul with constant weights, as FULLY_CONNECTED.

Rules kept here:
1. The contracted axis comes last in memory; every other axis stays where it is.
2. After a flatten the weights are permuted, not the data.
3. A MatMul leaves its bias open, so that the Add behind it can become that bias.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepe.lower.tflite.flat import ABSENT, Builtin
from edgepe.lower.tflite.ops.table import lowers
from edgepe.lower.tflite.value import Value, canonical, squeeze

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepe.lower.tflite.builder import GraphBuilder
    from edgepe.lower.tflite.node import Node

__all__ = ["gemm", "is_dense", "matmul"]

MATRIX = 2


def is_dense(graph: GraphBuilder, node: Node, name: str) -> bool:
    """Say whether a node reads ``name`` as the data of a dense layer with constant weights."""
    if node.op not in ("Gemm", "MatMul") or node.input(0) != name:
        return False
    weights = graph.constant(node.input(1))
    return weights is not None and weights.ndim == MATRIX and not node.integer("transA", 0)


@lowers("Gemm")
def gemm(graph: GraphBuilder, node: Node) -> Value:
    """Lower Gemm: ``alpha * x @ w + beta * c``."""
    if node.integer("transA", 0):
        raise node.refusal("its left operand is transposed", expected="transA=0", got="transA=1")
    stored = graph.required(node, 1, "weight")
    weights = (stored if node.integer("transB", 0) else stored.T) * np.float32(node.number("alpha", 1.0))
    bias = np.zeros(len(weights), np.float32)
    if node.input(2):
        addend = graph.required(node, 2, "bias") * np.float32(node.number("beta", 1.0))
        if addend.size not in (1, len(weights)) or (addend.size > 1 and addend.shape[-1] != len(weights)):
            raise node.refusal("its bias differs by row", expected=(len(weights),), got=addend.shape)
        bias = np.broadcast_to(addend.reshape(-1), bias.shape)
    tensor = graph.add_constant(bias, node.input(2) or f"{node.output}/bias")
    return _dense(graph, node, weights, tensor)


@lowers("MatMul")
def matmul(graph: GraphBuilder, node: Node) -> Value:
    """Lower MatMul with a constant matrix or vector on its right."""
    weights = graph.required(node, 1, "right operand")
    if graph.constant(node.input(0)) is not None or weights.ndim > MATRIX or graph.value(node.input(0)).rank < MATRIX:
        raise node.refusal(
            "only data times a constant matrix is lowered", expected="a constant of rank 1 or 2", got=weights.shape
        )
    if weights.ndim == MATRIX:
        return _dense(graph, node, weights.T, ABSENT)
    column = _dense(graph, node, weights[None, :], ABSENT)
    return squeeze(column, [column.rank - 1])


def _dense(graph: GraphBuilder, node: Node, weights: NDArray[Any], bias: int) -> Value:
    """Emit FULLY_CONNECTED with weights (outputs, inputs)."""
    value = graph.value(node.input(0))
    last = value.rank - 1
    if value.shape[last] != weights.shape[1]:
        raise node.refusal("the data does not fit the weight", expected=weights.shape[1], got=value.shape)
    if value.columns is not None:
        weights = weights[:, list(value.columns)]
        value = replace(value, columns=None)
    value = _contracted_last(graph, value)
    return graph.emit(
        Builtin.FULLY_CONNECTED,
        [value.tensor, graph.add_constant(weights, node.input(1)), bias],
        name=node.output,
        shape=(*value.shape[:last], len(weights)),
        layout=value.layout,
        options={"keepNumDims": len(value.layout) != MATRIX},
    )


def _contracted_last(graph: GraphBuilder, value: Value) -> Value:
    last = value.rank - 1
    if value.layout[-1:] == (last,) and len(value.layout) >= MATRIX:
        return value
    rest = tuple(axis for axis in value.layout if axis not in (None, last))
    layout = (*(rest or canonical(value.rank)[:-1]), last)
    return graph.lay_out(value, layout)
