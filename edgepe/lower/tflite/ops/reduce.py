"""Reductions: over given axes, and the global pools.

Rules kept here:
1. Unit axes that stand for nothing are reduced along: they cost nothing, and XNNPACK wants MEAN over height and width.
2. Keeping the reduced axes is a matter of the logical shape alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepe.lower.tflite.flat import Builtin
from edgepe.lower.tflite.ops.table import lowers
from edgepe.lower.tflite.value import Value, squeeze

if TYPE_CHECKING:
    from edgepe.lower.tflite.builder import GraphBuilder
    from edgepe.lower.tflite.node import Node

__all__ = ["global_pool", "reduction"]

REDUCTIONS = {
    "ReduceMax": Builtin.REDUCE_MAX,
    "ReduceMean": Builtin.MEAN,
    "ReduceMin": Builtin.REDUCE_MIN,
    "ReduceSum": Builtin.SUM,
}
GLOBAL_POOLS = {"GlobalAveragePool": Builtin.MEAN, "GlobalMaxPool": Builtin.REDUCE_MAX}


@lowers(*REDUCTIONS)
def reduction(graph: GraphBuilder, node: Node) -> Value:
    """Lower a reduction over constant axes."""
    value = graph.value(node.input(0))
    axes = _axes(graph, node, value.rank)
    if not axes:
        return value
    kept = _reduce(graph, node, REDUCTIONS[node.op], axes)
    return kept if node.integer("keepdims", 1) else squeeze(kept, axes)


@lowers(*GLOBAL_POOLS)
def global_pool(graph: GraphBuilder, node: Node) -> Value:
    """Lower a pool over all spatial axes."""
    rank = graph.value(node.input(0)).rank
    return _reduce(graph, node, GLOBAL_POOLS[node.op], frozenset(range(2, rank)))


def _axes(graph: GraphBuilder, node: Node, rank: int) -> frozenset[int]:
    """Return the axes: an input since opset 18 (13 for ReduceSum), an attribute before; none means all or none."""
    given = (
        [int(axis) for axis in graph.required(node, 1, "axes").reshape(-1).tolist()]
        if node.input(1)
        else node.integers("axes", ())
    )
    if not given and not node.integer("noop_with_empty_axes", 0):
        return frozenset(range(rank))
    return frozenset(axis % rank for axis in given)


def _reduce(graph: GraphBuilder, node: Node, builtin: Builtin, axes: frozenset[int]) -> Value:
    value = graph.value(node.input(0))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    if shape == value.shape:
        return value
    gone = [k for k, axis in enumerate(value.layout) if axis is None or axis in axes]
    return graph.emit(
        builtin,
        [value.tensor, graph.add_constant(np.asarray(gone, np.int32), "axes")],
        name=node.output,
        shape=shape,
        layout=tuple(axis for k, axis in enumerate(value.layout) if k not in gone),
    )
