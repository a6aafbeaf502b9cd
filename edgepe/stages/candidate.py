"""One artifact at one precision: schemes, bytes, and how its inputs and outputs lie.

Rules kept here:
1. The target's format chooses the lowering, its rules the schemes; the float graph is not changed.
2. Calibrated ranges are asked for only where a precision needs them.
3. An int8 artifact that does a twentieth or more of its multiply-accumulates in float is called ``mixed``; one that
   does all of them in float is refused: it would be its float twin under another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from device_agent.wire.manifest import TensorSpec
from edgepe.errors import UnsupportedOpError
from edgepe.graph.work import OpWork, conversion_work, count_work
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.quantize.assign import assign
from edgepe.quantize.dynamic import stored_elements
from edgepe.quantize.recipe import Recipe
from edgepe.scheme import Precision, Reason
from edgepe.signature import channel_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgepe.capture.captured import Captured, Port
    from edgepe.quantize.calibrate import Ranges
    from edgepe.scheme import OpScheme
    from edgepe.target import Target

__all__ = ["Artifact", "Edge", "graph_edges", "make_artifact", "permuted"]

Axes = tuple[int, ...]

FLOAT_SHARE = 0.05
"""Rule 3: from this share of float multiply-accumulates on, an int8 artifact is ``mixed``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """How one input or output of an artifact lies.

    Attributes:
        name: Its name.
        dtype: Its type.
        shape: Its shape in the artifact; -1 is the open batch.
        axes: Which axis of the float graph's value each of its axes is.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    axes: Axes

    @property
    def layout(self) -> str:
        """Order of the axes, as far as the rank tells."""
        letters = channel_first(len(self.shape))
        return "".join(letters[axis] for axis in self.axes) if letters else ""

    @property
    def moved(self) -> bool:
        """Whether the order differs from the float graph's."""
        return self.axes != tuple(sorted(self.axes))

    def output_spec(self) -> TensorSpec:
        """Return the specification of an output."""
        return TensorSpec(name=self.name, dtype=self.dtype, shape=self.shape, layout=self.layout if self.moved else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model file for a target.

    Attributes:
        precision: What it came to; ``mixed`` where much of an int8 artifact's arithmetic stays in float, rule 3.
        data: The bytes of the file.
        schemes: One row per node of the float graph.
        inputs: How its inputs lie.
        outputs: How its outputs lie.
        conversions: The work of converting between precisions that a runtime cannot fuse away.
    """

    precision: Precision
    data: bytes
    schemes: tuple[OpScheme, ...]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    conversions: tuple[OpWork, ...] = ()


def make_artifact(captured: Captured, target: Target, wanted: Recipe | Precision, ranges: Ranges | None) -> Artifact:
    """Return the artifact of a model for a target by one recipe.

    Args:
        captured: The float graph, its remedies applied.
        target: The board.
        wanted: What to make; a precision stands for its plain recipe.
        ranges: Calibrated ranges; needed for int8 and fp16.

    Raises:
        UnsupportedOpError: The format cannot hold an operator, or the precision.
    """
    recipe = wanted if isinstance(wanted, Recipe) else Recipe(precision=wanted)
    precision = recipe.precision
    schemes = assign(
        captured.model,
        target,
        precision=precision,
        ranges=ranges,
        float_nodes=recipe.float_nodes,
        activations=recipe.activations,
    )
    if target.format == "tflite":
        return _tflite(captured, target, precision, schemes, ranges)
    made, schemes = _onnx(captured.model, target, precision, schemes, ranges)
    return Artifact(
        precision=whole(precision, schemes, captured.model),
        data=onnx_bytes(made, opset_max=target.opset_max, ir_max=target.ir_max),
        schemes=schemes,
        inputs=graph_edges(captured),
        outputs=tuple(_same_order(port) for port in captured.outputs),
        conversions=conversions(captured.model, schemes, target),
    )


def conversions(model: ir.Model, schemes: tuple[OpScheme, ...], target: Target) -> tuple[OpWork, ...]:
    """Return the conversions that a runtime runs: between precisions (TensorRT takes those in), and of weights."""
    between = () if target.rules.style == "tensorrt" else conversion_work(model, schemes)
    weights = (OpWork(node="", op="Convert", macs=0, elements=count) for count in stored_elements(model, schemes))
    return (*between, *weights)


def whole(precision: Precision, schemes: tuple[OpScheme, ...], model: ir.Model) -> Precision:
    """Return what to call an artifact by the precisions of its operators (rule 3).

    Raises:
        UnsupportedOpError: It was to be int8, and no operator is.
    """
    if precision not in (Precision.INT8, Precision.MIXED):
        return precision
    macs = {work.node: work.macs for work in count_work(model)}
    heavy = [scheme for scheme in schemes if macs[scheme.node]]
    done = sum(macs[scheme.node] for scheme in heavy if scheme.precision is Precision.INT8)
    stored = any(scheme.reason is Reason.WEIGHT_ONLY for scheme in schemes)
    if heavy and not done and not stored:
        why = "; ".join(dict.fromkeys(f"{row.op}: {row.detail or row.reason}" for row in heavy))
        raise UnsupportedOpError(
            f"no operator with weights can be int8 by the target's rules ({why})",
            op=heavy[0].op,
            node=heavy[0].node,
            expected="at least one Conv, Gemm or MatMul that the target's int8 kernels take",
            next_step="choose --precision fp16 or fp32",
        )
    total = sum(macs.values())
    return Precision.MIXED if total and (total - done) >= FLOAT_SHARE * total else Precision.INT8


def graph_edges(captured: Captured) -> tuple[Edge, ...]:
    """Return how the inputs of the float graph itself lie."""
    return tuple(_same_order(port) for port in captured.inputs)


def permuted(outputs: Mapping[str, NDArray[np.generic]], edges: tuple[Edge, ...]) -> dict[str, NDArray[np.generic]]:
    """Return an artifact's outputs with their axes in the order of the float graph."""
    by_name = {edge.name: edge for edge in edges}
    return {name: np.transpose(array, np.argsort(by_name[name].axes)) for name, array in outputs.items()}


def _onnx(
    model: ir.Model, target: Target, precision: Precision, schemes: tuple[OpScheme, ...], ranges: Ranges | None
) -> tuple[ir.Model, tuple[OpScheme, ...]]:
    if precision is Precision.FP32:
        return model, schemes
    if precision is Precision.FP16:
        from edgepe.quantize.fp16 import to_fp16  # noqa: PLC0415 - one precision of several

        return to_fp16(model, schemes), schemes
    from edgepe.quantize.apply_onnx import apply_onnx, floored  # noqa: PLC0415 - one precision of several

    made = apply_onnx(model, schemes, ranges or {}, target.rules)
    return made, floored(model, schemes, ranges or {}, target.rules)


def _tflite(
    captured: Captured, target: Target, precision: Precision, schemes: tuple[OpScheme, ...], ranges: Ranges | None
) -> Artifact:
    from edgepe.lower.tflite.lowering import lower  # noqa: PLC0415 - LiteRT's schema is large
    from edgepe.lower.tflite.pack import serialize  # noqa: PLC0415 - LiteRT's schema is large
    from edgepe.quantize.apply_tflite import quantize_graph  # noqa: PLC0415 - LiteRT's schema is large

    if precision is Precision.FP16:
        raise UnsupportedOpError(
            "a TFLite file has no fp16 arithmetic on the CPU",
            op="",
            node="",
            expected="int8 or fp32",
            got="fp16",
            next_step="choose --precision int8 or fp32 for this target",
        )
    lowered = lower(captured.model, io_layout=target.io_layout)
    graph = lowered.graph
    edges = {
        port.name: (tuple(int(size) for size in graph.tensors[port.tensor].shape), port.axes)
        for port in (*graph.inputs, *graph.outputs)
    }
    made = lowered
    if precision is not Precision.FP32:
        quantized = quantize_graph(lowered, ranges or {}, schemes, target.rules)
        made, schemes = quantized.model, quantized.schemes
    return Artifact(
        precision=whole(precision, schemes, captured.model),
        data=serialize(made),
        schemes=schemes,
        inputs=tuple(_edge(port, *edges[port.name]) for port in captured.inputs),
        outputs=tuple(_edge(port, *edges[port.name]) for port in captured.outputs),
        conversions=conversions(captured.model, schemes, target),
    )


def _edge(port: Port, shape: tuple[int, ...], axes: Axes) -> Edge:
    return Edge(name=port.name, dtype=port.dtype, shape=shape, axes=axes)


def _same_order(port: Port) -> Edge:
    return Edge(name=port.name, dtype=port.dtype, shape=port.shape, axes=tuple(range(len(port.shape))))
