"""Change a float graph so that its int8 twin loses less, without changing what the float graph computes by much.

Rules kept here:
1. Cross-layer equalization leaves the function as it is: what one layer's channel is divided by, the next multiplies.
   It crosses a ReLU, which commutes with a positive factor, and nothing that does not.
2. Bias correction moves the float function by what int8 weights will move back: the mean error that rounding the
   weights makes in each output channel on the calibration data.
3. The graph that is given is not changed; same graph and data, same result.

Sources: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", sections 4.1, 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgepe.quantize.affine import dequantize, quantize, weight_affine
from edgepe.quantize.apply_onnx import BIAS, WEIGHT, WITH_BIAS, channel_axis, constant_input
from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.scheme import OpScheme
    from edgepe.target import QuantRules

    Batches = Iterable[Mapping[str, NDArray[Any]]]

__all__ = ["channel_means", "correct_biases", "equalize"]

SWEEPS = 8  # chains of depthwise layers need several
MOST = 1e4  # largest factor of one channel in one sweep
MATRIX = 2


def equalize(model: ir.Model) -> ir.Model:
    """Return the graph with the channel ranges of neighbouring layers made equal: ``s = sqrt(r1 / r2)`` per channel.

    Args:
        model: The float graph.
    """
    copy = model.clone()
    pairs = _neighbours(copy)
    for _ in range(SWEEPS):
        for pair in pairs:
            pair.level(copy.graph)
    RemoveUnusedNodesPass()(copy)
    return copy


def correct_biases(
    model: ir.Model, schemes: Iterable[OpScheme], rules: QuantRules, means: Mapping[str, NDArray[np.float64]]
) -> ir.Model:
    """Return the graph with each int8 layer's bias less the mean error of its rounded weights.

    Args:
        model: The float graph.
        schemes: One scheme per node.
        rules: The target's rules: bits and axes of weights.
        means: Value name → mean of each of its channels, from :func:`channel_means`.
    """
    copy = model.clone()
    int8 = {scheme.node for scheme in schemes if scheme.precision is Precision.INT8}
    for node in copy.graph:
        weight, source = constant_input(node, WEIGHT), node.inputs[0] if node.inputs else None
        if node.op_type not in {"Conv", "Gemm"} or node.name not in int8 or weight is None or source is None:
            continue
        mean = means.get(str(source.name))
        axis = channel_axis(node, weight.ndim)
        old = constant_input(node, BIAS)
        if mean is None or axis is None or (old is None and len(node.inputs) > BIAS and node.inputs[BIAS] is not None):
            continue
        affine = weight_affine(weight, axis=axis if rules.per_channel else None, bits=rules.weight_bits)
        error = dequantize(quantize(weight, affine), affine).astype(np.float64) - weight
        moved = _mean_output(node, error, mean)
        _set_constant(copy.graph, node, BIAS, (0.0 if old is None else old) - moved)
    RemoveUnusedNodesPass()(copy)
    return copy


def channel_means(model: ir.Model, batches: Batches) -> dict[str, NDArray[np.float64]]:
    """Run the float graph and return the mean of each channel of what Conv and Gemm read.

    Args:
        model: The float graph.
        batches: Preprocessed calibration inputs.
    """
    wanted = {
        str(node.inputs[0].name)
        for node in model.graph
        if node.op_type in {"Conv", "Gemm"} and node.inputs[0] is not None
    }
    proto = ir.serde.serialize_model(model)
    have = {output.name for output in proto.graph.output} | {value.name for value in model.graph.inputs}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - have))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name in wanted]
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for batch in batches:
        seen = dict(zip(names, session.run(names, dict(batch)), strict=True)) if names else {}
        for name, array in (seen | {name: batch[name] for name in wanted & set(batch)}).items():
            others = tuple(axis for axis in range(array.ndim) if axis != 1)
            sums[name] = sums.get(name, np.zeros(array.shape[1])) + array.sum(axis=others, dtype=np.float64)
            counts[name] = counts.get(name, 0) + array.size // array.shape[1]
    return {name: total / counts[name] for name, total in sums.items()}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers with weights, the second the only reader of the first, save for a ReLU between."""

    first: ir.Node
    second: ir.Node

    def level(self, graph: ir.Graph) -> None:
        """Divide each channel between the two by ``sqrt(r1 / r2)``, its weight ranges on both sides."""
        one, two = constant_input(self.first, WEIGHT), constant_input(self.second, WEIGHT)
        bias = constant_input(self.first, BIAS)
        if one is None or two is None:  # both were constant when the pair was found; the checker cannot know
            return
        out, into = channel_axis(self.first, one.ndim) or 0, _input_axis(self.second, two)
        before, after = _peaks(one, out), _peaks(two, into)
        alive = (before > 0) & (after > 0)
        ratio = np.divide(before, after, out=np.ones_like(before), where=alive)
        factor = np.clip(np.sqrt(ratio), 1.0 / MOST, MOST)
        _set_constant(graph, self.first, WEIGHT, one / _along(factor, out, one.ndim))
        _set_constant(graph, self.second, WEIGHT, two * _along(factor, into, two.ndim))
        if bias is not None:
            _set_constant(graph, self.first, BIAS, bias / factor)


def _neighbours(model: ir.Model) -> list[Pair]:
    """Return the pairs that may be equalized, in graph order."""
    outputs = set(model.graph.outputs)
    pairs = []
    for node in model.graph:
        second = _next_layer(node, outputs) if _has_weights(node) else None
        if second is not None and _fits(node, second):
            pairs.append(Pair(node, second))
    return pairs


def _next_layer(node: ir.Node, outputs: set[ir.Value]) -> ir.Node | None:
    value = node.outputs[0]
    while value not in outputs and len(value.uses()) == 1:
        (use,) = value.uses()
        if use.node.op_type != "Relu":
            return use.node if use.idx == 0 and _has_weights(use.node) else None
        value = use.node.outputs[0]
    return None


def _has_weights(node: ir.Node) -> bool:
    computed = len(node.inputs) > BIAS and node.inputs[BIAS] is not None and constant_input(node, BIAS) is None
    return node.op_type in WITH_BIAS - {"ConvTranspose"} and constant_input(node, WEIGHT) is not None and not computed


def _fits(first: ir.Node, second: ir.Node) -> bool:
    one, two, bias = constant_input(first, WEIGHT), constant_input(second, WEIGHT), constant_input(first, BIAS)
    if one is None or two is None:
        return False
    group = second.attributes.get_int("group", 1) if second.op_type == "Conv" else 1
    channels = one.shape[channel_axis(first, one.ndim) or 0]
    depthwise = group == two.shape[0] and two.shape[1] == 1
    one_each = bias is None or bias.shape == (channels,)
    return one_each and (group == 1 or depthwise) and two.shape[_input_axis(second, two)] == channels


def _input_axis(node: ir.Node, weight: NDArray[Any]) -> int:
    if node.op_type == "Conv":
        return 0 if node.attributes.get_int("group", 1) > 1 and weight.shape[1] == 1 else 1
    return 1 if node.attributes.get_int("transB", 0) != 0 else 0


def _peaks(weight: NDArray[Any], axis: int) -> NDArray[np.float64]:
    others = tuple(other for other in range(weight.ndim) if other != axis)
    return np.asarray(np.abs(weight.astype(np.float64)).max(axis=others, initial=0.0))


def _along(factor: NDArray[np.float64], axis: int, rank: int) -> NDArray[np.float64]:
    return factor.reshape([-1 if other == axis else 1 for other in range(rank)])


def _mean_output(node: ir.Node, error: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what weights of that error add to each output channel, for inputs of that mean."""
    if node.op_type == "Gemm":
        matrix = error if node.attributes.get_int("transB", 0) != 0 else error.T
        return np.asarray(matrix @ mean)
    group = node.attributes.get_int("group", 1)
    each = error.reshape(group, error.shape[0] // group, error.shape[1], -1).sum(axis=3)
    return np.asarray(np.einsum("goi,gi->go", each, mean.reshape(group, -1)).reshape(-1))


def _set_constant(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[Any]) -> None:
    """Give a node a constant input of its own: others may share the old one."""
    name = f"{node.name}/{index}"
    tensor = ir.tensor(np.asarray(array, np.float32), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers.pop(name, None)
    graph.initializers[name] = value
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
