"""Static int8 of a TFLite model, after LiteRT's 8-bit quantization specification.

Rules kept here:
1. Weights are symmetric in [-127, 127], one scale a channel where the target says so (Conv and FullyConnected axis 0,
   depthwise axis 3); a bias is int32 at s_x * s_w, and a dead channel's scale is raised until its bias fits.
2. Activations are asymmetric, one scale a tensor, from calibration. Softmax and logistic write at (1/256, -128), tanh
   at (1/128, 0). Operators that move or choose data have one scale for all they read and write.
3. An operator has the precision that the scheme of its first ONNX node says; what was fused into it follows. Where no
   int8 kernel exists it stays in float, and its row says so.
4. The signature stays float32: QUANTIZE and DEQUANTIZE stand at the edges and wherever the precision changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgepe.errors import DataError, UnsupportedOpError
from edgepe.lower.tflite.flat import ABSENT, Builtin, DType, Graph, Model, Operator, Port, Quantization, Tensor
from edgepe.lower.tflite.lowering import lower
from edgepe.lower.tflite.pack import serialize
from edgepe.lower.tflite.tidy import tidy
from edgepe.quantize.affine import (
    WEIGHT_HIGH,
    Affine,
    bias_affine,
    bias_floor,
    quantize,
    weight_affine,
)
from edgepe.quantize.calibrate import Range
from edgepe.quantize.tflite_scales import FIXED, SAME_SCALE, ActivationScales, spread
from edgepe.scheme import OpScheme, Precision, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgepe.lower.tflite.lowering import IoLayout
    from edgepe.quantize.calibrate import Ranges
    from edgepe.target import QuantRules

__all__ = ["Quantized", "quantize_graph", "quantize_model", "quantize_tflite"]

CHANNEL_AXES = {Builtin.CONV_2D: 0, Builtin.DEPTHWISE_CONV_2D: 3, Builtin.FULLY_CONNECTED: 0}
OWN_SCALE = frozenset(
    {
        Builtin.ABS,
        Builtin.ADD,
        Builtin.ELU,
        Builtin.EXP,
        Builtin.HARD_SWISH,
        Builtin.LEAKY_RELU,
        Builtin.MEAN,
        Builtin.MUL,
        Builtin.RELU,
        Builtin.RELU6,
        Builtin.RELU_N1_TO_1,
        Builtin.SUB,
        Builtin.SUM,
    }
)
INT8_KERNELS = SAME_SCALE | OWN_SCALE | frozenset(FIXED) | frozenset(CHANNEL_AXES)
DATA = 0
# A channel this much weaker than the strongest cannot move the int8 output; its scale stays within XNNPACK's bounds.
WEAKEST_CHANNEL = 2.0**-16


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A quantized model and what became of each ONNX node.

    Attributes:
        model: Int8 inside, float32 at its edges.
        schemes: One row a node, as it really runs.
    """

    model: Model
    schemes: tuple[OpScheme, ...]


def quantize_tflite(
    model: ir.Model, ranges: Ranges, schemes: Sequence[OpScheme], rules: QuantRules, io_layout: IoLayout
) -> bytes:
    """Return the int8 TFLite file of a float ONNX graph; see :func:`quantize_model`.

    Raises:
        UnsupportedOpError: Where a node that ``schemes`` calls int8 would run in float: this function has no rows to
            say so in.
    """
    made = quantize_model(model, ranges, schemes, rules, io_layout)
    wanted = {scheme.node for scheme in schemes if scheme.precision is Precision.INT8}
    for scheme in made.schemes:
        if scheme.node in wanted and scheme.precision is not Precision.INT8:
            raise UnsupportedOpError(
                f"{scheme.op} (node '{scheme.node}') cannot be int8 in TFLite: {scheme.detail}",
                op=scheme.op,
                node=scheme.node,
                expected="an operator with an int8 kernel",
                next_step=f"add {scheme.op} to float_ops of the target profile",
            )
    return serialize(made.model)


def quantize_model(
    model: ir.Model, ranges: Ranges, schemes: Sequence[OpScheme], rules: QuantRules, io_layout: IoLayout
) -> Quantized:
    """Lower a float ONNX graph and quantize it.

    Args:
        model: The optimized float graph; it is not changed.
        ranges: Calibrated ranges by ONNX value name.
        schemes: One row for each node of the graph.
        rules: The target's rules; ``per_channel`` counts here.
        io_layout: Axes at the edges, see :func:`edgepe.lower.tflite.lower`.

    Raises:
        UnsupportedOpError: If the graph cannot be lowered, or a scheme asks for what is neither int8 nor float32.
        DataError: If an int8 value was not calibrated.
    """
    _check_precisions(schemes)
    return quantize_graph(lower(model, io_layout=io_layout), ranges, schemes, rules)


def quantize_graph(model: Model, ranges: Ranges, schemes: Sequence[OpScheme], rules: QuantRules) -> Quantized:
    """Quantize a float TFLite model; see :func:`quantize_model`."""
    graph = model.graph
    integer = _placement(graph, schemes)
    scales = ActivationScales(graph, integer, ranges, rules)
    rewritten = _Rewriter(graph, integer, scales, rules).run()
    return Quantized(model=replace(model, graph=tidy(rewritten)), schemes=_rows(graph, integer, schemes))


# Which operators are int8.


def _check_precisions(schemes: Sequence[OpScheme]) -> None:
    for scheme in schemes:
        if scheme.precision not in (Precision.INT8, Precision.FP32):
            raise UnsupportedOpError(
                f"{scheme.op} (node '{scheme.node}') cannot be {scheme.precision.value} in a TFLite file",
                op=scheme.op,
                node=scheme.node,
                expected="int8 or fp32",
                got=scheme.precision.value,
                next_step="choose --precision int8 or fp32 for this target",
            )


def _placement(graph: Graph, schemes: Sequence[OpScheme]) -> tuple[bool, ...]:
    """Say of each operator whether it is int8: its first node decides, moves at the edge follow their input."""
    wanted = {scheme.node for scheme in schemes if scheme.precision is Precision.INT8}
    made_int8: set[int] = set()
    placed: list[bool] = []
    for operator in graph.operators:
        asked = operator.nodes[0] in wanted if operator.nodes else operator.inputs[DATA] in made_int8
        placed.append(asked and _has_kernel(operator))
        if placed[-1]:
            made_int8.update(operator.outputs)
    return tuple(placed)


def _has_kernel(operator: Operator) -> bool:
    return operator.builtin in INT8_KERNELS


def _rows(graph: Graph, integer: Sequence[bool], schemes: Sequence[OpScheme]) -> tuple[OpScheme, ...]:
    """Return the schemes as the operators really run; a node that cost no operator keeps its row."""
    runs: dict[str, tuple[Operator, bool]] = {}
    for operator, is_integer in zip(graph.operators, integer, strict=True):
        for node in operator.nodes:
            if not runs.get(node, (operator, True))[1]:
                continue
            runs[node] = (operator, is_integer)
    return tuple(_row(scheme, runs.get(scheme.node)) for scheme in schemes)


def _row(scheme: OpScheme, run: tuple[Operator, bool] | None) -> OpScheme:
    if run is None or run[1] == (scheme.precision is Precision.INT8):
        return scheme
    operator, is_integer = run
    precision = Precision.INT8 if is_integer else Precision.FP32
    if operator.nodes[0] != scheme.node:
        detail = f"part of the operator of '{operator.nodes[0]}'"
        return replace(scheme, precision=precision, reason=Reason.FOLLOWS_INPUT, detail=detail)
    detail = f"LiteRT has no int8 kernel of {operator.builtin.value} here"
    return replace(scheme, precision=precision, reason=Reason.NO_INT8_KERNEL, detail=detail)


# The graph with integers in it.


class _Rewriter:
    """Writes the int8 graph: the old tensors keep their places, what is new comes behind them."""

    def __init__(self, graph: Graph, integer: Sequence[bool], scales: ActivationScales, rules: QuantRules) -> None:
        self._graph = graph
        self._integer = integer
        self._scales = scales
        self._rules = rules
        self._tensors = list(graph.tensors)
        self._operators: list[Operator] = []
        self._is_int8: set[int] = set()
        self._twins: dict[tuple[int, Quantization | None], int] = {}

    def run(self) -> Graph:
        """Return the rewritten graph; what nothing reads any more is left for ``tidy``."""
        for operator, is_integer in zip(self._graph.operators, self._integer, strict=True):
            self._operators.append(self._as_int8(operator) if is_integer else self._as_float(operator))
        outputs = tuple(self._float_port(port) for port in self._graph.outputs)
        return Graph(
            tensors=tuple(self._tensors), operators=tuple(self._operators), inputs=self._graph.inputs, outputs=outputs
        )

    def _as_float(self, operator: Operator) -> Operator:
        return replace(operator, inputs=tuple(self._float_twin(i) for i in operator.inputs))

    def _as_int8(self, operator: Operator) -> Operator:
        output = operator.outputs[0]
        affine = self._scales.affine(output)
        self._tensors[output] = _retyped(self._tensors[output], affine)
        self._is_int8.add(output)
        if operator.builtin in CHANNEL_AXES:
            return replace(operator, inputs=self._weighted_inputs(operator))
        shared = affine if operator.builtin in SAME_SCALE else None
        return replace(operator, inputs=tuple(self._operand(i, shared) for i in operator.inputs))

    def _operand(self, tensor: int, shared: Affine | None) -> int:
        """Return an input as int8: a constant at ``shared`` or its own scale, data at ``shared`` where it is given."""
        source = self._graph.tensors[tensor]
        if source.dtype is not DType.FLOAT32:
            return tensor
        if source.data is None:
            return self._int8_twin(tensor, shared or self._scales.affine(tensor))
        span = Range.holding_zero(float(source.data.min()), float(source.data.max()))
        return self._constant(source, source.data, shared or spread(span, self._rules), DType.INT8)

    def _weighted_inputs(self, operator: Operator) -> tuple[int, ...]:
        data, weight, bias = operator.inputs
        affine = self._scales.affine(data)
        source = self._graph.tensors[weight]
        values = _data(source)
        addend = np.zeros(1) if bias == ABSENT else _data(self._graph.tensors[bias])
        axis = CHANNEL_AXES[operator.builtin] if self._rules.per_channel else None
        floor = np.maximum(
            bias_floor(addend, input_scale=float(affine.scale)), _weakest(values, self._rules.weight_bits)
        )
        weights = weight_affine(values, axis=axis, bits=self._rules.weight_bits, floor=floor)
        twin = self._constant(source, values, weights, DType.INT8)
        if bias == ABSENT:
            return (self._int8_twin(data, affine), twin, ABSENT)
        biases = bias_affine(input_affine=affine, weight=weights)
        return (
            self._int8_twin(data, affine),
            twin,
            self._constant(self._graph.tensors[bias], addend, biases, DType.INT32),
        )

    def _constant(self, source: Tensor, values: NDArray[Any], affine: Affine, dtype: DType) -> int:
        data = quantize(values, affine, dtype=dtype.value.lower())
        return self._append(replace(source, dtype=dtype, data=data, quantization=_parameters(affine)))

    def _int8_twin(self, tensor: int, affine: Affine) -> int:
        """Return data as int8 at these parameters, through a QUANTIZE where it is float or at others."""
        wanted = _parameters(affine)
        if tensor in self._is_int8 and self._tensors[tensor].quantization == wanted:
            return tensor
        twin = _retyped(self._graph.tensors[tensor], affine)
        return self._through(Builtin.QUANTIZE, tensor, replace(twin, name=f"{twin.name}/int8"))

    def _float_twin(self, tensor: int) -> int:
        if tensor not in self._is_int8:
            return tensor
        source = self._graph.tensors[tensor]
        return self._through(Builtin.DEQUANTIZE, tensor, replace(source, name=f"{source.name}/float"))

    def _float_port(self, port: Port) -> Port:
        return replace(port, tensor=self._float_twin(port.tensor))

    def _through(self, builtin: Builtin, tensor: int, twin: Tensor) -> int:
        key = (tensor, twin.quantization)
        if key not in self._twins:
            self._twins[key] = self._append(twin)
            self._operators.append(Operator(builtin=builtin, inputs=(tensor,), outputs=(self._twins[key],)))
        return self._twins[key]

    def _append(self, tensor: Tensor) -> int:
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def _weakest(weights: NDArray[Any], bits: int) -> float:
    """Return the least scale that a channel of these weights may have."""
    peak = float(np.abs(weights).max(initial=0.0))
    return peak / WEIGHT_HIGH[bits] * WEAKEST_CHANNEL if peak else 1.0 / WEIGHT_HIGH[bits]


def _data(tensor: Tensor) -> NDArray[Any]:
    if tensor.data is None:
        raise DataError(f"the weight '{tensor.name}' is not constant")
    return tensor.data


def _retyped(tensor: Tensor, affine: Affine) -> Tensor:
    return replace(tensor, dtype=DType.INT8, quantization=_parameters(affine))


def _parameters(affine: Affine) -> Quantization:
    scale = np.atleast_1d(affine.scale)
    return Quantization(
        scale=tuple(scale.tolist()), zero_point=int(np.atleast_1d(affine.zero_point)[0]), axis=affine.axis or 0
    )
