"""Write an int8 ONNX graph: Quantize/Dequantize pairs, int8 weights, int32 or float biases.

Rules kept here:
1. Where pairs stand is decided by :mod:`edgepe.quantize.placement`, which scale they have by
   :mod:`edgepe.quantize.affine`; here it is only written. The float graph is not changed.
2. Weights are int8 with zero point 0, per output channel where the rules say so, behind one Dequantize.
3. With int32 biases a weight's scale is raised where its bias would overflow (dead channels); :func:`floored` tells.
4. A weight has a zero point of its own, though all are zero: onnxruntime's exact mode for x86 without VNNI
   (``session.x64quantprecision``) cannot load a graph where weights share one. A bias has none: zero is the default.
5. A float Conv, ConvTranspose or Gemm reads int8 through a Dequantize of its own, which repeats the one scale for each
   channel: with a scalar there and a Quantize behind it, onnxruntime makes its float weights int8, one scale for all,
   and tells nobody (its WeightBiasQuantization; measured on 1.31.1: 99 % agreement became 28 %).
6. Same graph, ranges and rules: same bytes. Inner names are shortened, inner types and shapes left out: the runtime
   infers them, and in a small net they are a third of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgepe.errors import UnsupportedOpError
from edgepe.quantize.affine import (
    Affine,
    activation_affine,
    bias_affine,
    bias_floor,
    quantize,
    weight_affine,
)
from edgepe.quantize.calibrate import Range
from edgepe.quantize.compact import compact
from edgepe.quantize.dynamic import write_dynamic
from edgepe.quantize.facts import read_facts
from edgepe.quantize.placement import Placement, place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.quantize.calibrate import Ranges
    from edgepe.scheme import OpScheme
    from edgepe.target import QuantRules

__all__ = ["apply_onnx", "floored"]

OPSET_PER_CHANNEL = 13
WEIGHT, BIAS = 1, 2  # input positions of the operators with weights
WITH_BIAS = frozenset({"Conv", "ConvTranspose", "Gemm"})
WITH_WEIGHT = WITH_BIAS | {"MatMul"}
POINTWISE = frozenset({"Add", "Mul"})
MATRIX = 2


def apply_onnx(model: ir.Model, schemes: Iterable[OpScheme], ranges: Ranges, rules: QuantRules) -> ir.Model:
    """Return the int8 graph of a float graph.

    Args:
        model: The float graph that the schemes were made for.
        schemes: One scheme per node; int8 where the node is quantized.
        ranges: Calibrated ranges.
        rules: The target's rules, of style ``ort`` or ``tensorrt``.

    Raises:
        UnsupportedOpError: The graph's operator set is older than per-channel quantization.
        ValueError: The style writes no ONNX, or the rules want asymmetric weights.
    """
    check(model, rules)
    schemes = tuple(schemes)
    placement = place(read_facts(model), schemes, ranges, rules)
    writer = Writer(model.clone(), placement, rules)
    writer.bridge()
    writer.weights()
    writer.pairs()
    write_dynamic(writer.model, schemes, rules)
    RemoveUnusedNodesPass()(writer.model)
    compact(writer.model, nodes={scheme.node for scheme in schemes})
    return writer.model


def floored(model: ir.Model, schemes: Iterable[OpScheme], ranges: Ranges, rules: QuantRules) -> tuple[OpScheme, ...]:
    """Return the schemes, with a sentence on each node whose weight scales rule 3 raises."""
    schemes = tuple(schemes)
    if rules.bias != "int32" or rules.style == "tflite":
        return schemes
    writer = Writer(model.clone(), place(read_facts(model), schemes, ranges, rules), rules)
    raised = {str(node.name): writer.raised(node) for node in writer.model.graph}
    return tuple(
        replace(scheme, detail=f"{scheme.detail}; {note}".lstrip("; ")) if (note := raised[scheme.node]) else scheme
        for scheme in schemes
    )


def check(model: ir.Model, rules: QuantRules) -> None:
    """Refuse what cannot be written.

    Raises:
        UnsupportedOpError: The operator set is too old.
        ValueError: The rules want asymmetric weights.
    """
    opset = model.opset_imports.get("", 0)
    if opset < OPSET_PER_CHANNEL:
        raise UnsupportedOpError(
            "Quantization per channel needs a newer operator set.",
            op="DequantizeLinear",
            node="",
            expected=f"opset {OPSET_PER_CHANNEL} or newer",
            got=opset,
            next_step="export the model with a newer opset",
        )
    if not rules.weight_symmetric:
        raise ValueError("int8 ONNX weights are symmetric; the rules want them asymmetric")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The integers of one node's constants.

    Attributes:
        weight: Parameters of the weight.
        raised: Channels whose scale the bias raised.
        bias: Parameters of the bias, or None where it stays float or is absent.
    """

    weight: Affine
    raised: int
    bias: Affine | None


class Writer:
    """Rewrites one graph in place, step by step."""

    def __init__(self, model: ir.Model, placement: Placement, rules: QuantRules) -> None:
        self.model = model
        self._graph = model.graph
        self._placement = placement
        self._rules = rules
        self._values = named_values(model.graph)
        self._constants: dict[tuple[str, str, bytes], ir.Value] = {}
        self._affines = {
            name: activation_affine(span, symmetry=rules.activation, dtype=rules.activation_dtype)
            for name, span in placement.ranges.items()
        }

    def bridge(self) -> None:
        """Remove the ReLU and Clip nodes that the output range of their producer holds."""
        folded = set(self._placement.folded)
        for node in [node for node in self._graph if node.name in folded]:
            before, after = node.inputs[0], node.outputs[0]
            if before is None:  # Clip and ReLU always have an input; the checker cannot know
                continue
            name = after.name
            after.replace_all_uses_with(before, replace_graph_outputs=True)
            self._graph.remove(node, safe=True)
            before.name = name
            self._values[str(name)] = before

    def weights(self) -> None:
        """Quantize the constants of the int8 nodes."""
        for node in list(self._graph):
            if node.name in self._placement.int8 and node.op_type in POINTWISE:
                self._operands(node)
            chosen = self._choose(node)
            if chosen is None:
                continue
            self._constant(node, WEIGHT, chosen.weight, "int8")
            if chosen.bias is not None:
                self._constant(node, BIAS, chosen.bias, "int32")

    def raised(self, node: ir.Node) -> str:
        """Tell how many channels of a node had their scale raised; empty where none had."""
        chosen = self._choose(node)
        if chosen is None or not chosen.raised:
            return ""
        return f"weight scale of {chosen.raised} near-dead channels raised to hold the bias"

    def pairs(self) -> None:
        """Put a Quantize/Dequantize pair behind each value that wants one."""
        for name, everyone in self._placement.pairs.items():
            self._pair(name, everyone=everyone)

    def _choose(self, node: ir.Node) -> Weights | None:
        weight = constant_input(node, WEIGHT)
        source = node.inputs[0] if node.inputs else None
        if node.name not in self._placement.int8 or node.op_type not in WITH_WEIGHT or weight is None or source is None:
            return None
        affine = self._affines[str(source.name)]
        axis = channel_axis(node, weight.ndim) if self._rules.per_channel else None
        bits = self._rules.weight_bits
        bias = constant_input(node, BIAS) if node.op_type in WITH_BIAS and self._rules.bias == "int32" else None
        plain = weight_affine(weight, axis=axis, bits=bits)
        if bias is None:
            return Weights(weight=plain, raised=0, bias=None)
        floor = bias_floor(bias, input_scale=float(affine.scale))
        chosen = weight_affine(weight, axis=axis, bits=bits, floor=floor)
        raised = int(np.count_nonzero(chosen.scale > plain.scale))
        return Weights(weight=chosen, raised=raised, bias=bias_affine(input_affine=affine, weight=chosen))

    def _operands(self, node: ir.Node) -> None:
        """Quantize the constant operands of an Add or Mul as activations are."""
        dtype = self._rules.activation_dtype
        for index in range(len(node.inputs)):
            array = constant_input(node, index)
            if array is not None:
                span = Range.holding_zero(float(array.min()), float(array.max()))
                affine = activation_affine(span, symmetry=self._rules.activation, dtype=dtype)
                self._constant(node, index, affine, dtype)

    def _constant(self, node: ir.Node, index: int, affine: Affine, dtype: str) -> None:
        """Replace a constant input by integers behind a Dequantize."""
        value, array = node.inputs[index], constant_input(node, index)
        if value is None or array is None:  # the caller has looked; the checker cannot know
            return
        inputs = [
            self._initializer(f"{value.name}_q", quantize(array, affine, dtype=dtype)),
            self._initializer(f"{value.name}_s", affine.scale),
        ]
        if dtype != "int32":  # rule 4
            zero = affine.zero_point.astype(dtype)
            inputs.append(self._initializer(f"{value.name}_z", zero, owner=f"{node.name} {index}"))
        attributes = {} if affine.axis is None else {"axis": affine.axis}
        dequantized = ir.node("DequantizeLinear", inputs, attributes)
        self._graph.insert_before(node, dequantized)
        dequantized.outputs[0].name = f"{value.name}_{node.name}_d"
        node.replace_input_with(index, dequantized.outputs[0])

    def _pair(self, name: str, *, everyone: bool) -> None:
        value, affine = self._values[name], self._affines[name]
        parameters = [
            self._initializer(f"{name}_s", affine.scale),
            self._initializer("zero", affine.zero_point.astype(self._rules.activation_dtype)),
        ]
        uses = list(value.uses())
        quantized = ir.node("QuantizeLinear", [value, *parameters])
        dequantized = ir.node("DequantizeLinear", [quantized.outputs[0], *parameters])
        quantized.outputs[0].name, dequantized.outputs[0].name = f"{name}_q", f"{name}_d"
        self._insert(value, [quantized, dequantized])
        for use in uses:
            if everyone or (use.node.name, name) in self._placement.reads:
                use.node.replace_input_with(use.idx, self._read(use.node, dequantized))
        if everyone and value.is_graph_output():
            replace_output(self._graph, value, dequantized.outputs[0])

    def _read(self, node: ir.Node, dequantized: ir.Node) -> ir.Value:
        """Return what a node reads of a pair; for a float operator with weights a Dequantize of its own (rule 5)."""
        weight = constant_input(node, WEIGHT)
        if node.op_type not in WITH_BIAS or node.name in self._placement.int8 or weight is None:
            return dequantized.outputs[0]
        whole, scale, zero = dequantized.inputs
        array, middle = constant_input(dequantized, 1), constant_input(dequantized, 2)
        if whole is None or scale is None or zero is None or array is None or middle is None:
            return dequantized.outputs[0]
        count = channels_read(node, weight)
        parameters = [
            self._initializer(f"{scale.name}_c", np.full(count, array)),
            self._initializer(f"{zero.name}_c", np.full(count, middle)),
        ]
        own = ir.node("DequantizeLinear", [whole, *parameters], {"axis": 1})
        own.outputs[0].name = f"{dequantized.outputs[0].name}_{node.name}"
        self._graph.insert_after(dequantized, own)
        return own.outputs[0]

    def _insert(self, value: ir.Value, nodes: list[ir.Node]) -> None:
        """Insert nodes behind the producer of a value, or first where it is a graph input."""
        producer = value.producer()
        if producer is not None:
            self._graph.insert_after(producer, nodes)
        else:
            self._graph.insert_before(self._graph[0], nodes)

    def _initializer(self, name: str, array: NDArray[Any], *, owner: str = "") -> ir.Value:
        """Return an initializer with that content; those of one owner (by default nobody) are shared where equal."""
        key = (owner, f"{array.dtype}{array.shape}", array.tobytes())
        if key not in self._constants:
            unique = f"{name}_{len(self._constants)}"
            tensor = ir.tensor(array, name=unique)
            value = ir.Value(name=unique, shape=ir.Shape(array.shape), const_value=tensor)
            value.type = ir.TensorType(tensor.dtype)
            self._graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]


def named_values(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return value name → value, for graph inputs and node outputs."""
    outputs = (value for node in graph for value in node.outputs)
    return {str(value.name): value for value in (*graph.inputs, *outputs)}


def replace_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let a graph output be another value, under the old name, type and shape."""
    name = old.name
    old.name, new.name = f"{name}_f", name
    new.type, new.shape = old.type, old.shape
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new


def constant_input(node: ir.Node, index: int) -> NDArray[Any] | None:
    """Return the numbers of a constant input, or None where it is absent or computed."""
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def channels_read(node: ir.Node, weight: NDArray[Any]) -> int:
    """Return the size of axis 1 of what a Conv, ConvTranspose or Gemm reads."""
    if node.op_type == "Conv":
        return int(weight.shape[1] * node.attributes.get_int("group", 1))
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0
    return int(weight.shape[int(transposed)])


def channel_axis(node: ir.Node, rank: int) -> int | None:
    """Return the output channel axis of a node's weight, or None where one scale must do."""
    if node.op_type == "MatMul":
        return 1 if rank == MATRIX else None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if node.op_type == "ConvTranspose" else 0
