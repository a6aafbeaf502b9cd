"""Windows that slide over an image: kernel, stride, dilation and padding, for convolutions and pools alike.

Rules kept here:
1. Inside, everything has two spatial axes; a 1-D window has height 1, through the layout alone.
2. Padding becomes TFLite's SAME where it places the window identically, VALID where nothing is padded, else an explicit
   PAD of only what the window reads.
3. Formulas: ONNX operator specification, Conv and MaxPool (``auto_pad``, ``pads``, ``ceil_mode``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from edgepe.lower.tflite.flat import Builtin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgepe.lower.tflite.builder import GraphBuilder
    from edgepe.lower.tflite.node import Node
    from edgepe.lower.tflite.value import Layout, Value

__all__ = ["Padding", "Placed", "Window", "pad_spatial", "place", "read_window", "same_pads", "to_image"]

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
IMAGE_RANK = 4


class Padding(IntEnum):
    """TFLite's two ways to pad, by the schema's numbers."""

    SAME = 0
    VALID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A sliding window over (height, width).

    Attributes:
        kernel: Size.
        strides: Steps.
        dilations: Distances between taps.
        pads: (before, after) of each axis, in elements.
        sizes: Input's height and width.
        outputs: Output's height and width.
    """

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: Pads
    sizes: Pair
    outputs: Pair

    @property
    def spans(self) -> Pair:
        """Elements from the first tap to the last, on each axis."""
        return _pair((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def read_pads(self) -> Pads:
        """The part of the padding that a window really reads."""
        tails = (
            max(0, (count - 1) * step + span - size - before)
            for count, step, span, size, (before, _) in zip(
                self.outputs, self.strides, self.spans, self.sizes, self.pads, strict=True
            )
        )
        return _pads((before, tail) for (before, _), tail in zip(self.pads, tails, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An image ready for the operator, and how the operator shall pad it."""

    image: Value
    padding: Padding


def to_image(graph: GraphBuilder, node: Node) -> Value:
    """Return the first input as NHWC (a 1-D one with height 1).

    Raises:
        UnsupportedOpError: If it has neither one nor two spatial axes.
    """
    value = graph.value(node.input(0))
    layouts: dict[int, Layout] = {3: (0, None, 2, 1), IMAGE_RANK: (0, 2, 3, 1)}
    if value.rank not in layouts:
        raise node.refusal("only one or two spatial axes are lowered", expected="rank 3 or 4", got=value.shape)
    return graph.lay_out(value, layouts[value.rank])


def read_window(node: Node, image: Value, kernel: tuple[int, ...]) -> Window:
    """Return the window of a Conv or pool node over an image; ``kernel`` is as ONNX has it."""
    count = image.rank - 2
    lift = (1,) * (2 - count)
    sizes = _pair(image.physical[1:3])
    strides = _pair((*lift, *node.integers("strides", (1,) * count)))
    dilations = _pair((*lift, *node.integers("dilations", (1,) * count)))
    window = Window(
        kernel=_pair((*lift, *kernel)),
        strides=strides,
        dilations=dilations,
        pads=((0, 0), (0, 0)),
        sizes=sizes,
        outputs=sizes,
    )
    window = replace(window, pads=_read_pads(node, window, count))
    window = replace(window, outputs=_outputs(window, node.integer("ceil_mode", 0)))
    if min(window.outputs) < 1:
        raise node.refusal("its window is larger than the padded input", expected=f"at most {sizes}", got=window.spans)
    return window


def same_pads(window: Window) -> Pads:
    """Return the padding that TFLite's SAME would apply."""
    totals = (
        max((-(-size // step) - 1) * step + span - size, 0)
        for size, step, span in zip(window.sizes, window.strides, window.spans, strict=True)
    )
    return _pads((total // 2, total - total // 2) for total in totals)


def place(graph: GraphBuilder, image: Value, window: Window, fill: float) -> Placed:
    """Choose SAME or VALID, after an explicit PAD of ``fill`` where neither places the window alike."""
    if not any(map(any, window.read_pads)):
        return Placed(image=image, padding=Padding.VALID)
    if window.pads == same_pads(window):
        return Placed(image=image, padding=Padding.SAME)
    return Placed(image=pad_spatial(graph, image, window.read_pads, fill), padding=Padding.VALID)


def pad_spatial(graph: GraphBuilder, image: Value, pads: Pads, fill: float) -> Value:
    """Pad height and width of an NHWC image with a constant."""
    amounts = np.asarray([(0, 0), *pads, (0, 0)], np.int32)
    inputs = [image.tensor, graph.add_constant(amounts, "pads")]
    if fill:
        inputs.append(graph.add_constant(np.asarray([fill], np.float32), "fill"))
    grown = {axis: sum(pads[k - 1]) for k, axis in enumerate(image.layout) if k in (1, 2) and axis is not None}
    shape = tuple(size + grown.get(axis, 0) for axis, size in enumerate(image.shape))
    origin = graph.tensor(image)
    padded = graph.emit(
        Builtin.PADV2 if fill else Builtin.PAD,
        inputs,
        name=f"{origin.name}/pad",
        source=origin.source,
        shape=shape,
        layout=image.layout,
    )
    return replace(padded, floor=min(image.floor, fill))


def _read_pads(node: Node, window: Window, count: int) -> Pads:
    mode = node.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = node.integers("pads", (0,) * (2 * count))
        lift = ((0, 0),) * (2 - count)
        return _pads((*lift, *zip(pads[:count], pads[count:], strict=True)))
    if mode == "SAME_UPPER":
        return same_pads(window)
    if mode == "SAME_LOWER":
        return _pads((after, before) for before, after in same_pads(window))
    return ((0, 0), (0, 0))


def _outputs(window: Window, ceil_mode: int) -> Pair:
    rooms = [
        size + before + after - span
        for size, (before, after), span in zip(window.sizes, window.pads, window.spans, strict=True)
    ]
    if not ceil_mode:
        return _pair(room // step + 1 for room, step in zip(rooms, window.strides, strict=True))
    # A window that would start in the padding behind the input does not count.
    starts = [size + before for size, (before, _) in zip(window.sizes, window.pads, strict=True)]
    return _pair(
        min(-(-room // step) + 1, -(-start // step))
        for room, step, start in zip(rooms, window.strides, starts, strict=True)
    )


def _pair(items: Iterable[int]) -> Pair:
    first, second = items
    return int(first), int(second)


def _pads(items: Iterable[Iterable[int]]) -> Pads:
    first, second = items
    return _pair(first), _pair(second)
