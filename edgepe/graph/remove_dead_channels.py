"""Remove channels that carry nothing: what masks and pruning left behind as zeros.

A channel of a Conv or Gemm whose weights are all zero is a constant, its bias. It is followed through activations,
pools and depthwise convolutions to the Conv or Gemm that reads it; there the constant joins the bias and the channel is
cut out everywhere on its way. A channel that its reader multiplies by zero is cut out likewise.

Rules kept here:
1. The function stays as it is: a constant that padding would break (zeros beside it) keeps its channel.
2. Only straight chains: a value that somebody else reads too, or a graph output, keeps its channels.
3. A width above ``EIGHT`` stays a multiple of it, for runtimes compute in such blocks; one channel always stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["EIGHT", "RemoveDeadChannels"]

EIGHT = 8
BIAS = 2
MATRIX = 2  # axes of a value that a Gemm reads
ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh"})
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
FLATTENERS = frozenset({"Flatten", "Reshape", "Squeeze"})


class RemoveDeadChannels(ir.passes.InPlacePass):
    """Cut dead channels out of each chain from one Conv or Gemm to the next.

    Requires: constants are initializers, shapes inferred, BatchNormalization folded. Ensures: no channel of such a
    chain is all zero, save those that keep a width a multiple of eight; shapes on the way are to be inferred again.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Cut in place."""
        changed = False
        for node in list(model.graph):
            chain = _chain(node) if _is_dense(node) else None
            if chain is not None:
                changed = _cut(model.graph, chain) or changed
        return ir.passes.PassResult(model, modified=changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """From the operator that writes channels to the one that reads them.

    Attributes:
        source: Conv or Gemm.
        steps: What is between, in order.
        sink: Conv or Gemm.
        block: Columns of the sink's weight per channel: more than 1 behind a flattening.
    """

    source: ir.Node
    steps: tuple[ir.Node, ...]
    sink: ir.Node
    block: int


def _chain(source: ir.Node) -> Chain | None:
    steps: list[ir.Node] = []
    value, block = source.outputs[0], 1
    while not value.is_graph_output() and len(value.uses()) == 1:
        node = value.consumers()[0]
        if node.domain or node.inputs[0] is not value:
            return None
        if _is_dense(node):
            return Chain(source=source, steps=tuple(steps), sink=node, block=block)
        if node.op_type in FLATTENERS:
            if block != 1 or not _flattens(node):
                return None
            block = prod(_sizes(value)[2:])
        elif node.op_type not in ACTIVATIONS | POOLS and not _is_depthwise(node):
            return None
        steps.append(node)
        value = node.outputs[0]
    return None


def _is_dense(node: ir.Node) -> bool:
    if node.op_type not in {"Conv", "Gemm"} or node.domain or not _constant(node):
        return False
    if node.op_type == "Conv":
        return node.attributes.get_int("group", 1) == 1
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    return plain and not node.attributes.get_int("transA", 0) and _bias(node).shape == (_width(node),)


def _is_depthwise(node: ir.Node) -> bool:
    return (
        node.op_type == "Conv"
        and _constant(node)
        and _array(node, 1).shape[:2] == (node.attributes.get_int("group", 1), 1)
    )


def _constant(node: ir.Node) -> bool:
    return all(value is not None and value.const_value is not None for value in node.inputs[1:])


def _flattens(node: ir.Node) -> bool:
    """Return whether a node makes [n, channels, …] to [n, channels · …], of known sizes."""
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None or len(after.shape) != MATRIX:
        return False
    sizes = _sizes(before)
    if len(sizes) < MATRIX or 0 in sizes[1:] or (node.op_type != "Flatten" and not _constant(node)):
        return False
    if node.op_type == "Flatten" and int(node.attributes.get_int("axis", 1)) != 1:
        return False
    return list(after.shape)[1] == prod(sizes[1:])  # then the samples stay apart, too


def _sizes(value: ir.Value) -> tuple[int, ...]:
    """Return the sizes of a value, 0 where one is open."""
    return tuple(size if isinstance(size, int) else 0 for size in value.shape or ())


def _cut(graph: ir.Graph, chain: Chain) -> bool:
    """Cut a chain's dead channels out; return whether there were any."""
    constants = _constants(chain)
    weight = _by_input(chain)
    unread = ~weight.any(axis=(0, 2))
    if _padded(chain.sink):
        constants[constants != 0] = np.nan
    dead = np.flatnonzero(unread | np.isfinite(constants))
    alive = len(constants) - len(dead)
    keep = max(alive, 1) if len(constants) <= EIGHT else min(len(constants), max(-(-alive // EIGHT), 1) * EIGHT)
    dead = dead[: len(constants) - keep]
    if not len(dead):
        return False
    carried = np.where(np.isfinite(constants) & ~unread, constants, 0.0)[dead]
    rest = np.setdiff1d(np.arange(len(constants)), dead)
    if carried.any():
        _put(graph, chain.sink, BIAS, _bias(chain.sink) + (weight.sum(axis=2)[:, dead] @ carried))
    _take(graph, chain, rest)
    return True


def _constants(chain: Chain) -> Floats:
    """Return what each channel holds where it reaches the sink; NaN where that depends on the input."""
    weight = _array(chain.source, 1)
    rows = weight.T if chain.source.op_type == "Gemm" and not _transposed(chain.source) else weight
    values = np.where(rows.reshape(len(rows), -1).any(axis=1), np.nan, _bias(chain.source))
    for step in chain.steps:
        values = _through(step, values)
    return values


def _through(step: ir.Node, values: Floats) -> Floats:
    """Return what a step makes of constant channels."""
    attributes = step.attributes
    if step.op_type in ACTIVATIONS:
        return _activated(step, values)
    uneven = attributes.get_int("count_include_pad", 0) or attributes.get_int("ceil_mode", 0)
    if step.op_type == "AveragePool" and uneven:
        return np.where(values == 0, 0.0, np.nan)
    return _through_depthwise(step, values) if step.op_type == "Conv" else values


def _activated(step: ir.Node, values: Floats) -> Floats:
    if step.op_type == "Relu":
        return np.maximum(values, 0.0)
    if step.op_type == "LeakyRelu":
        return np.where(values < 0, values * step.attributes.get_float("alpha", 0.01), values)
    if step.op_type == "Clip":
        low, high = (_scalar(step, index) for index in (1, 2))
        return np.clip(values, -np.inf if low is None else low, np.inf if high is None else high)
    return np.tanh(values) if step.op_type == "Tanh" else np.asarray(1.0 / (1.0 + np.exp(-values)), np.float64)


def _through_depthwise(step: ir.Node, values: Floats) -> Floats:
    taps, bias = _array(step, 1).reshape(len(values), -1), _bias(step)
    inside = np.where(values == 0, bias, np.nan if _padded(step) else bias + values * taps.sum(axis=1))
    return np.where(taps.any(axis=1), inside, bias)


def _take(graph: ir.Graph, chain: Chain, rest: NDArray[np.intp]) -> None:
    """Keep only the channels ``rest`` from the source to the sink."""
    source, sink = chain.source, chain.sink
    axis = 1 if source.op_type == "Gemm" and not _transposed(source) else 0
    _put(graph, source, 1, np.take(_array(source, 1), rest, axis))
    if len(source.inputs) > BIAS:
        _put(graph, source, BIAS, _bias(source)[rest])
    for step in chain.steps:
        if step.op_type == "Conv":
            _put(graph, step, 1, _array(step, 1)[rest])
            if len(step.inputs) > BIAS:
                _put(graph, step, BIAS, _bias(step)[rest])
            step.attributes["group"] = ir.AttrInt64("group", len(rest))
        elif step.op_type == "Reshape":
            _reshape(graph, step, len(rest) * chain.block)
    kept = _by_input(chain)[:, rest].reshape(_width(sink), -1)
    if sink.op_type == "Conv":
        kept = kept.reshape(_width(sink), len(rest), *_array(sink, 1).shape[2:])
    _put(graph, sink, 1, kept if sink.op_type == "Conv" or _transposed(sink) else kept.T)
    for node in (source, *chain.steps):
        node.outputs[0].shape = None


def _reshape(graph: ir.Graph, step: ir.Node, columns: int) -> None:
    wanted = _array(step, 1).astype(np.int64)
    if wanted[1] != -1:
        _put(graph, step, 1, np.array([wanted[0], columns], np.int64))


def _by_input(chain: Chain) -> Floats:
    """Return the sink's weight as [outputs, channels, taps]."""
    weight = _array(chain.sink, 1)
    if chain.sink.op_type == "Conv":
        return weight.reshape(*weight.shape[:2], -1)
    rows = weight if _transposed(chain.sink) else weight.T
    return rows.reshape(len(rows), -1, chain.block)


def _transposed(gemm: ir.Node) -> bool:
    return bool(gemm.attributes.get_int("transB", 0))


def _padded(node: ir.Node) -> bool:
    if node.op_type != "Conv":
        return False
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    return auto not in {"NOTSET", "VALID"} or any(node.attributes.get_ints("pads", ()))


def _width(node: ir.Node) -> int:
    shape = _array(node, 1).shape
    return int(shape[1] if node.op_type == "Gemm" and not _transposed(node) else shape[0])


def _bias(node: ir.Node) -> Floats:
    return _array(node, BIAS) if len(node.inputs) > BIAS else np.zeros(_width(node))


def _array(node: ir.Node, index: int) -> Floats:
    value = node.inputs[index]
    if value is None or value.const_value is None:
        message = "a chain has constant weights"
        raise TypeError(message)
    return value.const_value.numpy().astype(np.float64)


def _scalar(node: ir.Node, index: int) -> float | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None or value.const_value is None else float(value.const_value.numpy().item())


def _put(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[np.generic]) -> None:
    """Give a node another constant; who else reads the old one keeps it."""
    old = node.inputs[index] if index < len(node.inputs) else node.inputs[1]
    kind = ir.DataType.FLOAT if old is None or old.dtype is None else old.dtype
    stem = f"{node.outputs[0].name}_{index}"
    name = next(
        each for number in range(len(graph.initializers) + 1) if (each := f"{stem}_{number}") not in graph.initializers
    )
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array, kind.numpy()), name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(kind)
    graph.register_initializer(value)
    if index == len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
