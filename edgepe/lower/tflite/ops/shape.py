"""Operators that move or join data: most of them change only the layout.

Rules kept here:
1. Transpose, Squeeze, Unsqueeze, Identity and Dropout emit nothing.
2. A flatten that only dense layers read keeps the memory as it is; they permute their weights.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from edgepe.lower.tflite.flat import Builtin
from edgepe.lower.tflite.ops.dense import MATRIX, is_dense
from edgepe.lower.tflite.ops.elementwise import POINTWISE, shared_layout
from edgepe.lower.tflite.ops.table import lowers
from edgepe.lower.tflite.value import Value, encode, permute, squeeze, unsqueeze

if TYPE_CHECKING:
    from edgepe.lower.tflite.builder import GraphBuilder
    from edgepe.lower.tflite.node import Node

__all__ = ["concat", "flatten", "identity", "pad", "reshape", "transpose", "without_axes"]


@lowers("Identity", "Dropout")
def identity(graph: GraphBuilder, node: Node) -> Value:
    """Pass the value on: Dropout does nothing when it is not training."""
    return graph.value(node.input(0))


@lowers("Transpose")
def transpose(graph: GraphBuilder, node: Node) -> Value:
    """Rename the axes."""
    value = graph.value(node.input(0))
    return permute(value, node.integers("perm", tuple(reversed(range(value.rank)))))


@lowers("Squeeze")
def without_axes(graph: GraphBuilder, node: Node) -> Value:
    """Drop unit axes: those given, or all."""
    value = graph.value(node.input(0))
    units = tuple(axis for axis, size in enumerate(value.shape) if size == 1)
    axes = [axis % value.rank for axis in _axes(graph, node, units)]
    if not set(axes) <= set(units):
        raise node.refusal("an axis to drop is longer than one", expected=units, got=axes)
    return squeeze(value, axes)


@lowers("Unsqueeze")
def with_axes(graph: GraphBuilder, node: Node) -> Value:
    """Insert unit axes."""
    value = graph.value(node.input(0))
    axes = _axes(graph, node, ())
    return unsqueeze(value, [axis % (value.rank + len(axes)) for axis in axes])


@lowers("Flatten")
def flatten(graph: GraphBuilder, node: Node) -> Value:
    """Reshape to a matrix."""
    shape = graph.value(node.input(0)).shape
    axis = node.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return _reshaped(graph, node, (prod(shape[:axis]), prod(shape[axis:])))


@lowers("Reshape")
def reshape(graph: GraphBuilder, node: Node) -> Value:
    """Reshape to a constant shape; 0 keeps an axis, -1 takes what is left."""
    old = graph.value(node.input(0)).shape
    wanted = [int(size) for size in graph.required(node, 1, "shape").tolist()]
    keeps = not node.integer("allowzero", 0)
    shape = [old[i] if size == 0 and keeps else size for i, size in enumerate(wanted)]
    if -1 in shape:
        rest = -prod(shape)
        shape[shape.index(-1)] = prod(old) // rest if rest else 0
    if prod(shape) != prod(old):
        raise node.refusal("the shapes do not fit (a batch other than 1 baked in?)", expected=old, got=wanted)
    return _reshaped(graph, node, tuple(shape))


@lowers("Concat")
def concat(graph: GraphBuilder, node: Node) -> Value:
    """Join values along an axis."""
    values = [graph.value(name) for name in node.inputs]
    rank = values[0].rank
    axis = node.integer("axis", 0) % rank
    shape = tuple(
        sum(value.shape[k] for value in values) if k == axis else size for k, size in enumerate(values[0].shape)
    )
    layout = shared_layout(values, shape)
    return graph.emit(
        Builtin.CONCATENATION,
        [graph.lay_out(value, layout).tensor for value in values],
        name=node.output,
        shape=shape,
        layout=layout,
        options={"axis": layout.index(axis)},
    )


@lowers("Pad")
def pad(graph: GraphBuilder, node: Node) -> Value:
    """Pad with a constant."""
    if node.text("mode", "constant") != "constant":
        raise node.refusal("only constant padding is lowered", expected="constant", got=node.text("mode", "constant"))
    value = graph.value(node.input(0))
    amounts = _pad_amounts(graph, node, value.rank)
    if (amounts < 0).any():
        raise node.refusal("it cuts instead of padding", expected="pads of at least 0", got=amounts.tolist())
    shape = tuple(size + int(sum(amounts[axis])) for axis, size in enumerate(value.shape))
    if shape == value.shape:
        return value
    if any(axis not in value.layout for axis in range(value.rank) if amounts[axis].any()):
        value = graph.in_order(value)
    fill = float(graph.required(node, 2, "value").reshape(())) if node.input(2) else node.number("value", 0.0)
    rows = [(0, 0) if axis is None else tuple(amounts[axis].tolist()) for axis in value.layout]
    inputs = [value.tensor, graph.add_constant(np.asarray(rows, np.int32), "pads")]
    if fill:
        inputs.append(graph.add_constant(np.asarray([fill], np.float32), "fill"))
    builtin = Builtin.PADV2 if fill else Builtin.PAD
    made = graph.emit(builtin, inputs, name=node.output, shape=shape, layout=value.layout)
    return replace(made, floor=min(value.floor, fill))


def _pad_amounts(graph: GraphBuilder, node: Node, rank: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return (before, after) for each logical axis."""
    given = graph.required(node, 1, "pads") if node.input(1) else np.asarray(node.integers("pads", ()))
    axes = graph.required(node, 3, "axes").tolist() if node.input(3) else list(range(rank))
    amounts = np.zeros((rank, 2), np.int64)
    amounts[[axis % rank for axis in axes]] = given.reshape(2, -1).T
    return amounts


def _axes(graph: GraphBuilder, node: Node, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes: an input since opset 13, an attribute before."""
    if node.input(1):
        return tuple(int(axis) for axis in graph.required(node, 1, "axes").reshape(-1).tolist())
    return node.integers("axes", default)


def _reshaped(graph: GraphBuilder, node: Node, shape: tuple[int, ...]) -> Value:
    value = graph.value(node.input(0))
    flat = len(shape) == MATRIX and shape[0] == value.shape[0] and value.columns is None
    batch_first = value.shape[0] == 1 or value.layout[0] == 0
    if flat and batch_first and not _in_order(value) and _only_dense_readers(graph, node.output):
        tensor = graph.refit(value.tensor, shape)
        return replace(value, tensor=tensor, physical=shape, layout=(0, 1), shape=shape, columns=_columns(value))
    return graph.reshape(value, shape)


def _in_order(value: Value) -> bool:
    return list(value.order) == sorted(value.order)


def _columns(value: Value) -> tuple[int, ...]:
    """Return, for each element of an image in memory, where ONNX would have it."""
    image = np.arange(prod(value.shape[1:])).reshape(1, *value.shape[1:])
    physical = encode(image, tuple(None if axis == 0 else axis for axis in value.layout))
    return tuple(physical.reshape(-1).tolist())


def _only_dense_readers(graph: GraphBuilder, name: str) -> bool:
    """Say whether a value ends in dense layers alone, through nothing but pointwise operators."""
    readers = graph.readers(name)
    return (
        bool(readers)
        and not graph.is_output(name)
        and all(
            is_dense(graph, reader, name)
            or (reader.op in POINTWISE and reader.input(0) == name and _only_dense_readers(graph, reader.output))
            for reader in readers
        )
    )
