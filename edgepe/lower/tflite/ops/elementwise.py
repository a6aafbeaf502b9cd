"""Operators that work on each element: activations, softmax, arithmetic with broadcasting.

Rules kept here:
1. An activation goes into the operator before it where the file format can say so (see ``GraphBuilder``).
2. Broadcasting follows ONNX's logical shapes; the layout follows the largest operand: constants move, data does not.
3. Dividing by a constant is multiplying by its inverse: int8 kernels multiply.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepe.lower.tflite.flat import Activation, Builtin
from edgepe.lower.tflite.ops.table import lowers
from edgepe.lower.tflite.value import Layout, Value, canonical, lift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgepe.lower.tflite.builder import GraphBuilder
    from edgepe.lower.tflite.node import Node

__all__ = ["POINTWISE", "arithmetic", "clip", "leaky_relu", "neg", "relu", "shared_layout", "softmax", "unary"]

UNARY = {
    "Abs": Builtin.ABS,
    "Elu": Builtin.ELU,
    "Exp": Builtin.EXP,
    "HardSwish": Builtin.HARD_SWISH,
    "Sigmoid": Builtin.LOGISTIC,
    "Sqrt": Builtin.SQRT,
    "Tanh": Builtin.TANH,
}
ARITHMETIC = {
    "Add": Builtin.ADD,
    "Div": Builtin.DIV,
    "Max": Builtin.MAXIMUM,
    "Min": Builtin.MINIMUM,
    "Mul": Builtin.MUL,
    "Sub": Builtin.SUB,
}
CLIPS = {
    (0.0, float("inf")): (Activation.RELU, Builtin.RELU),
    (0.0, 6.0): (Activation.RELU6, Builtin.RELU6),
    (-1.0, 1.0): (Activation.RELU_N1_TO_1, Builtin.RELU_N1_TO_1),
}
NOT_NEGATIVE = frozenset({Builtin.LOGISTIC, Builtin.EXP, Builtin.ABS, Builtin.SQRT})
POINTWISE = frozenset({*UNARY, "Clip", "Dropout", "Identity", "LeakyRelu", "Relu"})
"""Operators of one data input whose output elements stand where their input elements stood."""


@lowers(*UNARY)
def unary(graph: GraphBuilder, node: Node) -> Value:
    """Lower an operator of one input that has a builtin of its own."""
    builtin = UNARY[node.op]
    if node.op == "Elu" and node.number("alpha", 1.0) != 1.0:
        raise node.refusal("TFLite's ELU has alpha 1", expected=1.0, got=node.number("alpha", 1.0))
    made = graph.emit_like(builtin, graph.value(node.input(0)), name=node.output)
    return replace(made, floor=0.0) if builtin in NOT_NEGATIVE else made


@lowers("Relu")
def relu(graph: GraphBuilder, node: Node) -> Value:
    """Lower Relu, into the operator before it where possible."""
    return _bounded(graph, node, 0.0, float("inf"))


@lowers("Clip")
def clip(graph: GraphBuilder, node: Node) -> Value:
    """Lower Clip to one of the bounded activations, else to MAXIMUM and MINIMUM."""
    return _bounded(graph, node, _bound(graph, node, 1, "min"), _bound(graph, node, 2, "max"))


@lowers("Neg")
def neg(graph: GraphBuilder, node: Node) -> Value:
    """Lower Neg to a multiplication: LiteRT's int8 NEG ignores the zero point."""
    return _binary(graph, node, Builtin.MUL, (graph.value(node.input(0)), np.asarray(-1.0, np.float32)))


@lowers("LeakyRelu")
def leaky_relu(graph: GraphBuilder, node: Node) -> Value:
    """Lower LeakyRelu."""
    options = {"alpha": node.number("alpha", 0.01)}
    return graph.emit_like(Builtin.LEAKY_RELU, graph.value(node.input(0)), name=node.output, options=options)


@lowers("Softmax")
def softmax(graph: GraphBuilder, node: Node) -> Value:
    """Lower Softmax; its axis comes last in memory."""
    value = graph.value(node.input(0))
    axis = node.integer("axis", -1) % value.rank
    if value.layout[-1:] != (axis,):
        rest = tuple(held for held in value.layout if held not in (None, axis))
        value = graph.lay_out(value, (*rest, axis))
    made = graph.emit_like(Builtin.SOFTMAX, value, name=node.output, options={"beta": 1.0})
    return replace(made, floor=0.0)


@lowers(*ARITHMETIC)
def arithmetic(graph: GraphBuilder, node: Node) -> Value:
    """Lower an operator of two inputs, with ONNX's broadcasting."""
    if len(node.inputs) != 2:  # noqa: PLR2004  # Max and Min may have any number
        raise node.refusal("only two inputs are lowered", expected=2, got=len(node.inputs))
    for index in (0, 1):
        constant = graph.constant(node.input(index))
        if node.op == "Add" and constant is not None:
            absorbed = graph.absorb_bias(node, 1 - index, constant)
            if absorbed is not None:
                return absorbed
    divisor = graph.constant(node.input(1)) if node.op == "Div" else None
    if divisor is not None and np.all(divisor != 0):
        inverse = (1.0 / divisor.astype(np.float64)).astype(np.float32)
        return _binary(graph, node, Builtin.MUL, (graph.value(node.input(0)), inverse))
    operands = tuple(
        constant if (constant := graph.constant(name)) is not None else graph.value(name) for name in node.inputs
    )
    return _binary(graph, node, ARITHMETIC[node.op], operands)


def shared_layout(values: Sequence[Value], shape: tuple[int, ...]) -> Layout:
    """Return the layout where values of one rank meet: the largest one's, unless it leaves out an axis of ``shape``."""
    largest = max(values, key=lambda value: prod(value.shape))
    held = set(largest.layout)
    if all(size == 1 or axis in held for axis, size in enumerate(shape)):
        return largest.layout
    return canonical(len(shape))


def _binary(graph: GraphBuilder, node: Node, builtin: Builtin, operands: tuple[Value | NDArray[Any], ...]) -> Value:
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    lifted = [lift(operand, len(shape)) for operand in operands if isinstance(operand, Value)]
    layout = shared_layout(lifted, shape)
    tensors = [
        graph.lay_out(lift(operand, len(shape)), layout).tensor
        if isinstance(operand, Value)
        else graph.constant_operand(operand, rank=len(shape), layout=layout, name=f"{node.output}/constant")
        for operand in operands
    ]
    made = graph.emit(builtin, tensors, name=node.output, shape=shape, layout=layout)
    floors = [value.floor for value in lifted]
    grows = builtin is Builtin.ADD and len(floors) == len(operands) and min(floors) >= 0.0
    return replace(made, floor=0.0) if grows else made


def _bound(graph: GraphBuilder, node: Node, index: int, name: str) -> float:
    """Return a bound of Clip: an input since opset 11, an attribute before."""
    open_end = float("-inf") if name == "min" else float("inf")
    if not node.input(index):
        return node.number(name, open_end)
    return float(graph.required(node, index, name).reshape(()))


def _bounded(graph: GraphBuilder, node: Node, low: float, high: float) -> Value:
    known = CLIPS.get((low, high))
    if known is None:
        return _clamped(graph, node, low, high)
    activation, builtin = known
    value = graph.fuse_activation(node, activation)
    if value is None:
        value = graph.emit_like(builtin, graph.value(node.input(0)), name=node.output)
    return replace(value, floor=low)


def _clamped(graph: GraphBuilder, node: Node, low: float, high: float) -> Value:
    value = graph.value(node.input(0))
    limits = ((Builtin.MAXIMUM, low), (Builtin.MINIMUM, high))
    for builtin, bound in limits:
        if np.isfinite(bound):
            tensors = [value.tensor, graph.add_constant(np.asarray(bound, np.float32), f"{node.output}/bound")]
            made = graph.emit(builtin, tensors, name=node.output, shape=value.shape, layout=value.layout)
            value = replace(made, columns=value.columns)
    return replace(value, floor=low)
