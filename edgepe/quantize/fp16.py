"""Write a half-precision ONNX graph.

Rules kept here:
1. Graph inputs and outputs stay float32: what the application feeds does not change with the precision.
2. Which nodes are fp16 is decided by :func:`edgepe.quantize.assign.assign` (overflow guard: a constant beyond 65504, or
   a calibrated value beyond 512); here it is only written. Casts stand where fp16 and float32 nodes meet.
3. An operator that produces float32 by its own attribute (Cast, ConstantOfShape, random ones, quantization), and an
   input that must stay float32 (the scales of Resize), stays.
4. The float graph is not changed; same graph, same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgepe.quantize.apply_onnx import replace_output
from edgepe.quantize.compact import compact
from edgepe.scheme import OpScheme, Precision

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["to_fp16"]

TYPED_OUTPUT = frozenset(
    {"Cast", "CastLike", "Constant", "ConstantOfShape", "DequantizeLinear", "QuantizeLinear", "RandomNormal"}
    | {"RandomUniform", "Range"}
)
FLOAT_INPUTS = {"Resize": frozenset({1, 2}), "BatchNormalization": frozenset({1, 2, 3, 4})}
"""Operator → positions of inputs that stay float32 beside an fp16 first input."""


def to_fp16(model: ir.Model, schemes: Iterable[OpScheme]) -> ir.Model:
    """Return the graph with the nodes of fp16 schemes in half precision.

    Args:
        model: The float graph that the schemes were made for.
        schemes: One scheme per node, as ``assign(…, precision=Precision.FP16)`` returns them.
    """
    schemes = tuple(schemes)
    half = {scheme.node for scheme in schemes if scheme.precision is Precision.FP16}
    copy = model.clone()
    caster = Caster(copy.graph)
    for node in list(copy.graph):
        caster.convert(node, half=node.name in half and node.op_type not in TYPED_OUTPUT)
    caster.keep_outputs()
    RemoveUnusedNodesPass()(copy)
    compact(copy, nodes={scheme.node for scheme in schemes})
    return copy


class Caster:
    """Rewrites one graph, node by node, in topological order."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._halves: dict[ir.Value, ir.Value] = {}  # float32 value → its fp16 twin
        self._singles: dict[ir.Value, ir.Value] = {}  # fp16 value → its float32 twin

    def convert(self, node: ir.Node, *, half: bool) -> None:
        """Give a node the inputs of its precision, and note the type of what it writes."""
        kept = FLOAT_INPUTS.get(node.op_type, frozenset())
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            wants_half = half and index not in kept
            if wants_half and value.dtype is ir.DataType.FLOAT:
                node.replace_input_with(index, self._to_half(value))
            elif not wants_half and value.dtype is ir.DataType.FLOAT16:
                node.replace_input_with(index, self._to_single(value))
        if half:
            for output in node.outputs:
                if output.dtype is ir.DataType.FLOAT:
                    output.type = ir.TensorType(ir.DataType.FLOAT16)

    def keep_outputs(self) -> None:
        """Turn fp16 graph outputs back into float32 under their own names."""
        for value in list(self._graph.outputs):
            if value.dtype is ir.DataType.FLOAT16:
                single = self._to_single(value)
                replace_output(self._graph, value, single)
                single.type = ir.TensorType(ir.DataType.FLOAT)

    def _to_half(self, value: ir.Value) -> ir.Value:
        if value not in self._halves:
            constant = ir.convenience.get_const_tensor(value)
            if constant is not None:
                self._halves[value] = self._initializer(value, constant.numpy().astype(np.float16))
            else:
                self._halves[value] = self._cast(value, ir.DataType.FLOAT16)
        return self._halves[value]

    def _to_single(self, value: ir.Value) -> ir.Value:
        if value not in self._singles:
            self._singles[value] = self._cast(value, ir.DataType.FLOAT)
        return self._singles[value]

    def _initializer(self, value: ir.Value, array: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> ir.Value:
        name = f"{value.name}_half"
        tensor = ir.tensor(array, name=name)
        twin = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(twin)
        return twin

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        node = ir.node("Cast", [value], {"to": int(dtype)})
        output = node.outputs[0]
        output.name, output.type, output.shape = f"{value.name}_{dtype.name}", ir.TensorType(dtype), value.shape
        producer = value.producer()
        if producer is not None:
            self._graph.insert_after(producer, node)
        else:
            self._graph.insert_before(self._graph[0], node)
        return output
