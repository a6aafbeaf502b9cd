"""Orders and copies that keep LiteRT's in-place operators from overwriting what is still needed.

Without a delegate, LiteRT runs RESHAPE, SOFTMAX and some arithmetic in the memory of their input and counts the readers
of a tensor but not those of the memory that it shares. Seen with ai-edge-litert 2.3.0: where a tensor that was made in
place goes through a RESHAPE into SOFTMAX and is read again later, that reader sees the softmax.

Rules kept here:
1. Reshapes that only make an output come last, so that nothing runs in their memory.
2. A reshape of a tensor that may share memory and is read again later reshapes a copy (a PAD of nothing).
3. What cannot run in place, because it changes the number of elements or their order, needs no copy: convolutional nets
   get none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgepe.lower.tflite.flat import Builtin, DType, Graph, Operator, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["copy_shared", "outputs_last"]

NEVER_IN_PLACE = frozenset(
    {
        Builtin.AVERAGE_POOL_2D,
        Builtin.CONCATENATION,
        Builtin.CONV_2D,
        Builtin.DEPTHWISE_CONV_2D,
        Builtin.DEQUANTIZE,
        Builtin.FULLY_CONNECTED,
        Builtin.MAX_POOL_2D,
        Builtin.MEAN,
        Builtin.PAD,
        Builtin.PADV2,
        Builtin.QUANTIZE,
        Builtin.REDUCE_MAX,
        Builtin.REDUCE_MIN,
        Builtin.SUM,
        Builtin.TRANSPOSE,
    }
)


def outputs_last(graph: Graph) -> Graph:
    """Move reshapes that only make outputs to the end (rule 1)."""
    read = {tensor for operator in graph.operators for tensor in operator.inputs}
    made = {port.tensor for port in graph.outputs} - read
    is_last = [o.builtin is Builtin.RESHAPE and made.issuperset(o.outputs) for o in graph.operators]
    rest = [o for o, last in zip(graph.operators, is_last, strict=True) if not last]
    moved = [o for o, last in zip(graph.operators, is_last, strict=True) if last]
    return replace(graph, operators=(*rest, *moved))


def copy_shared(graph: Graph) -> Graph:
    """Let a reshape of shared memory that is read again later work on a copy (rule 2)."""
    tensors = list(graph.tensors)
    operators: list[Operator] = []
    shared: set[int] = set()
    for position, operator in enumerate(graph.operators):
        if operator.builtin not in NEVER_IN_PLACE:
            shared.update(operator.outputs)
        source = operator.inputs[0]
        if operator.builtin is Builtin.RESHAPE and source in shared and _read_later(graph, position, source):
            copied = _copy(tensors, source, operator.nodes)
            operators.append(copied)
            operator = replace(operator, inputs=(*copied.outputs, *operator.inputs[1:]))  # noqa: PLW2901  # rewritten
        operators.append(operator)
    return replace(graph, tensors=tuple(tensors), operators=tuple(operators))


def _read_later(graph: Graph, position: int, tensor: int) -> bool:
    later: Sequence[Operator] = graph.operators[position + 1 :]
    return any(tensor in operator.inputs for operator in later)


def _copy(tensors: list[Tensor], source: int, nodes: tuple[str, ...]) -> Operator:
    """Append a copy of a tensor and return the operator that makes it."""
    original = tensors[source]
    nothing = np.zeros((len(original.shape), 2), np.int32)
    pads = Tensor(name="pads", shape=nothing.shape, dtype=DType.INT32, data=nothing)
    tensors += [pads, replace(original, name=f"{original.name}/copy")]
    inputs, output = (source, len(tensors) - 2), len(tensors) - 1
    return Operator(builtin=Builtin.PAD, inputs=inputs, outputs=(output,), nodes=nodes)
