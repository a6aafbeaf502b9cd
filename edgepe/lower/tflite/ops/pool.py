"""Pools with a window: MaxPool and AveragePool, 1-D (as height 1) and 2-D.

Rules kept here:
1. Explicit padding of a MaxPool is the lowest float, or zero where the input is known not to be negative.
2. TFLite's average never counts padding: ``count_include_pad`` becomes an explicit PAD, the rest must be SAME or VALID.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgepe.lower.tflite.flat import Builtin
from edgepe.lower.tflite.ops.table import lowers
from edgepe.lower.tflite.ops.window import Padding, Placed, Window, pad_spatial, place, read_window, same_pads, to_image

if TYPE_CHECKING:
    from edgepe.lower.tflite.builder import GraphBuilder
    from edgepe.lower.tflite.node import Node
    from edgepe.lower.tflite.value import Value

__all__ = ["LOWEST", "average_pool", "max_pool"]

LOWEST = float(np.finfo(np.float32).min)


@lowers("MaxPool")
def max_pool(graph: GraphBuilder, node: Node) -> Value:
    """Lower MaxPool to MAX_POOL_2D."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.refusal("TFLite's pool gives no indices", expected="one output", got=node.outputs)
    image, window = _pooled(graph, node)
    placed = place(graph, image, window, 0.0 if image.floor >= 0.0 else LOWEST)
    return _emit(graph, node, Builtin.MAX_POOL_2D, placed, window)


@lowers("AveragePool")
def average_pool(graph: GraphBuilder, node: Node) -> Value:
    """Lower AveragePool to AVERAGE_POOL_2D."""
    image, window = _pooled(graph, node)
    padded = any(map(any, window.read_pads))
    if not padded:
        placed = Placed(image=image, padding=Padding.VALID)
    elif node.integer("count_include_pad", 0) and window.read_pads == window.pads:
        placed = Placed(image=pad_spatial(graph, image, window.pads, 0.0), padding=Padding.VALID)
    elif not node.integer("count_include_pad", 0) and window.pads == same_pads(window):
        placed = Placed(image=image, padding=Padding.SAME)
    elif node.integer("count_include_pad", 0) and not node.integer("ceil_mode", 0):
        placed = Placed(image=pad_spatial(graph, image, window.read_pads, 0.0), padding=Padding.VALID)
    else:
        raise node.refusal(
            "its padding is neither SAME nor VALID and does not count in the average",
            expected=f"pads {same_pads(window)} or none",
            got=window.pads,
            next_step="set count_include_pad=1, or pad evenly",
        )
    return _emit(graph, node, Builtin.AVERAGE_POOL_2D, placed, window)


def _pooled(graph: GraphBuilder, node: Node) -> tuple[Value, Window]:
    image = to_image(graph, node)
    window = read_window(node, image, node.integers("kernel_shape", ()))
    if window.dilations != (1, 1):
        raise node.refusal("TFLite's pools have no dilation", expected=(1, 1), got=window.dilations)
    return image, window


def _emit(graph: GraphBuilder, node: Node, builtin: Builtin, placed: Placed, window: Window) -> Value:
    image = placed.image
    spatial = window.outputs[2 - (image.rank - 2) :]
    made = graph.emit(
        builtin,
        [image.tensor],
        name=node.output,
        shape=(*image.shape[:2], *spatial),
        layout=image.layout,
        options={
            "padding": placed.padding,
            "strideH": window.strides[0],
            "strideW": window.strides[1],
            "filterHeight": window.kernel[0],
            "filterWidth": window.kernel[1],
        },
    )
    return replace(made, floor=min(image.floor, 0.0))
