"""Convolutions: Conv 1-D (as height 1) and 2-D, depthwise, grouped; BatchNormalization as a depthwise 1x1.

Rules kept here:
1. Filters are constant and are stored as TFLite wants them: OHWI, a depthwise one as 1HWO.
2. Every convolution has a bias, so that a bias never costs another operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepe.lower.tflite.flat import Builtin
from edgepe.lower.tflite.ops.table import lowers
from edgepe.lower.tflite.ops.window import IMAGE_RANK, Padding, place, read_window, to_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepe.lower.tflite.builder import GraphBuilder
    from edgepe.lower.tflite.flat import OptionValue
    from edgepe.lower.tflite.node import Node
    from edgepe.lower.tflite.ops.window import Window
    from edgepe.lower.tflite.value import Value

__all__ = ["batch_normalization", "conv"]


@lowers("Conv")
def conv(graph: GraphBuilder, node: Node) -> Value:
    """Lower Conv to CONV_2D or DEPTHWISE_CONV_2D."""
    weights = graph.required(node, 1, "weight")
    image = to_image(graph, node)
    window = read_window(node, image, weights.shape[2:])
    filters = weights if weights.ndim == IMAGE_RANK else weights[:, :, None]
    groups = node.integer("group", 1)
    if image.physical[3] != filters.shape[1] * groups:
        raise node.refusal("channels do not fit the weight", expected=filters.shape[1] * groups, got=image.physical[3])
    depthwise = groups > 1 and filters.shape[1] == 1
    bias = graph.required(node, 2, "bias") if node.input(2) else np.zeros(len(filters), np.float32)
    placed = place(graph, image, window, 0.0)
    options = _options(window, placed.padding)
    if depthwise:
        options["depthMultiplier"] = len(filters) // groups
    spatial = window.outputs[2 - (image.rank - 2) :]
    return graph.emit(
        Builtin.DEPTHWISE_CONV_2D if depthwise else Builtin.CONV_2D,
        [
            placed.image.tensor,
            graph.add_constant(filters.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)), node.input(1)),
            graph.add_constant(bias, node.input(2) or f"{node.output}/bias"),
        ],
        name=node.output,
        shape=(image.shape[0], len(filters), *spatial),
        layout=image.layout,
        options=options,
    )


@lowers("BatchNormalization")
def batch_normalization(graph: GraphBuilder, node: Node) -> Value:
    """Lower a normalization that could not be folded to one depthwise 1x1 convolution.

    ``y = x * k + (b - mean * k)`` with ``k = gamma / sqrt(variance + epsilon)`` (ONNX operator specification).
    """
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (
        np.asarray(graph.required(node, i + 1, name), np.float64) for i, name in enumerate(names)
    )
    factor = gamma / np.sqrt(variance + node.number("epsilon", 1e-5))
    value = graph.value(node.input(0))
    image = graph.lay_out(value, {2: (0, None, None, 1), 3: (0, None, 2, 1)}.get(value.rank, (0, 2, 3, 1)))
    return graph.emit(
        Builtin.DEPTHWISE_CONV_2D,
        [
            image.tensor,
            graph.add_constant(_row(factor), f"{node.output}/factor"),
            graph.add_constant((beta - mean * factor).astype(np.float32), f"{node.output}/bias"),
        ],
        name=node.output,
        shape=value.shape,
        layout=image.layout,
        options={"padding": Padding.VALID, "strideH": 1, "strideW": 1, "depthMultiplier": 1},
    )


def _row(factor: NDArray[np.float64]) -> NDArray[np.float32]:
    return factor.astype(np.float32).reshape(1, 1, 1, -1)


def _options(window: Window, padding: Padding) -> dict[str, OptionValue]:
    return {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
    }
