"""An optimized ONNX graph to a TFLite model.

Rules kept here:
1. Each node goes through the operator table once, in order; a node outside of it is refused by name.
2. A symbolic batch becomes the batch asked for; any other open dimension is refused.
3. At the edges the caller chooses: ONNX's axes (``nchw``), or channels last (``nhwc``) wherever an input feeds, or an
   output comes from, operators on images or sequences of channels.
4. Shapes follow from the operators themselves; no shape inference runs and no weight is copied for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir as ir

from edgepe.errors import CaptureError, EdgepeError, UnsupportedOpError
from edgepe.lower.tflite.builder import GraphBuilder
from edgepe.lower.tflite.flat import Builtin, Model, Port, Tensor
from edgepe.lower.tflite.fold import constant_attribute, evaluate, shape_slice
from edgepe.lower.tflite.node import Node, read_node
from edgepe.lower.tflite.ops import TABLE
from edgepe.lower.tflite.ops.elementwise import ARITHMETIC, POINTWISE
from edgepe.lower.tflite.tidy import tidy
from edgepe.lower.tflite.value import Layout, Value, canonical, channel_last, physical_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["IoLayout", "lower", "supported_operators"]

IoLayout = Literal["nchw", "nhwc"]
WINDOWED = frozenset(
    {
        "Conv",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "BatchNormalization",
        "InstanceNormalization",
    }
)
PASSED_THROUGH = POINTWISE | frozenset({*ARITHMETIC, "Pad"})
IMAGE_RANKS = (3, 4)


def supported_operators() -> tuple[str, ...]:
    """Return the ONNX operators that the table holds, sorted."""
    return tuple(sorted(TABLE))


def lower(model: ir.Model, *, io_layout: IoLayout, batch: int = 1) -> Model:
    """Lower an ONNX graph to TFLite.

    Args:
        model: The optimized float graph; it is not changed.
        io_layout: ``nchw`` keeps ONNX's axes at the edges, ``nhwc`` puts channels last.
        batch: What a symbolic first dimension becomes.

    Returns:
        The float model, tidied; ``pack.serialize`` gives its bytes.

    Raises:
        UnsupportedOpError: If an operator or one of its attributes is outside of the table.
        CaptureError: If an input has an open dimension other than the batch, or is no float tensor.
    """
    graph = model.graph
    nodes = _live(graph)
    constants = {
        name: value.const_value.numpy() for name, value in graph.initializers.items() if value.const_value is not None
    }
    outputs = [value.name or "" for value in graph.outputs]
    builder = GraphBuilder([read_node(node) for node in nodes], constants, outputs)
    inputs = [
        _add_input(builder, value, io_layout, batch) for value in graph.inputs if value.name not in graph.initializers
    ]
    for node in nodes:
        _lower_node(builder, node, graph.opset_imports)
    builder.enter()
    ports = _add_outputs(builder, outputs, io_layout, {port.tensor for port in inputs})
    return Model(graph=tidy(builder.finish(inputs, ports)))


def _live(graph: ir.Graph) -> list[ir.Node]:
    """Return the nodes that an output depends on: dead readers would hide a chance to fuse."""
    needed = {id(value) for value in graph.outputs}
    alive: list[ir.Node] = []
    for node in reversed(graph):
        if needed.intersection(map(id, node.outputs)):
            alive.append(node)
            needed.update(id(value) for value in node.inputs if value is not None)
    return alive[::-1]


def _add_input(builder: GraphBuilder, value: ir.Value, io_layout: IoLayout, batch: int) -> Port:
    name = value.name or ""
    shape = _fixed_shape(value, batch)
    if value.dtype is not ir.DataType.FLOAT:
        raise CaptureError(
            f"input '{name}' cannot be an input of a TFLite model",
            expected="float32",
            got=str(value.dtype),
            next_step="move the conversion out of the network, or build for a target of format onnx",
        )
    layout: Layout = canonical(len(shape))
    if io_layout == "nhwc" and len(shape) in IMAGE_RANKS and _feeds_windows(builder, name):
        layout = channel_last(len(shape))
    physical = physical_shape(shape, layout)
    tensor = builder.add_tensor(Tensor(name=name, shape=physical, source=name))
    builder.set_value(name, Value(tensor=tensor, physical=physical, layout=layout, shape=shape))
    return Port(name=name, tensor=tensor, axes=_axes(layout))


def _fixed_shape(value: ir.Value, batch: int) -> tuple[int, ...]:
    sizes = [] if value.shape is None else list(value.shape)
    if sizes and not isinstance(sizes[0], int):
        sizes[0] = batch
    if value.shape is None or not all(isinstance(size, int) for size in sizes):
        raise CaptureError(
            f"input '{value.name}' has an open dimension besides its batch",
            expected="fixed sizes: a TFLite graph is planned for one shape",
            got=str(value.shape),
            next_step=f"give it with --shape {value.name}=1,…",
        )
    return tuple(int(size) for size in sizes if isinstance(size, int))


def _feeds_windows(builder: GraphBuilder, name: str) -> bool:
    """Say whether a value reaches an operator on images, through nothing but elementwise ones."""
    return any(
        reader.op in WINDOWED or (reader.op in PASSED_THROUGH and _feeds_windows(builder, reader.output))
        for reader in builder.readers(name)
    )


def _lower_node(builder: GraphBuilder, source: ir.Node, opsets: Mapping[str, int]) -> None:
    node = read_node(source)
    folded = _folded(builder, source, node, opsets)
    if folded is not None:
        for name, array in zip(node.outputs, folded, strict=True):
            builder.set_constant(name, array)
        return
    function = TABLE.get(node.op)
    if function is None:
        raise node.refusal("it is not in the table of operators", expected=f"one of {', '.join(supported_operators())}")
    builder.enter(node.name)
    try:
        lowered = function(builder, node)
    except EdgepeError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise node.refusal(f"its inputs or attributes are not what ONNX defines ({error})", got=node.inputs) from error
    for name, value in zip(node.outputs, lowered if isinstance(lowered, tuple) else (lowered,), strict=False):
        if value is not None:
            builder.set_value(name, value)


def _folded(
    builder: GraphBuilder, source: ir.Node, node: Node, opsets: Mapping[str, int]
) -> Sequence[NDArray[np.generic]] | None:
    """Return a node's outputs where they are constant."""
    if node.op == "Constant":
        array = constant_attribute(source)
        return None if array is None else (array,)
    if node.op == "Shape" and builder.constant(node.input(0)) is None:
        return (shape_slice(source, builder.value(node.input(0))),)
    arrays = {name: builder.constant(name) for name in node.inputs if name}
    known = {name: array for name, array in arrays.items() if array is not None}
    return evaluate(source, known, opsets) if known and len(known) == len(arrays) else None


def _add_outputs(builder: GraphBuilder, names: Sequence[str], io_layout: IoLayout, inputs: set[int]) -> list[Port]:
    """Bring each output into its layout, each in a tensor of its own."""
    ports: list[Port] = []
    taken = set(inputs)
    for name in names:
        if builder.constant(name) is not None:
            raise UnsupportedOpError(
                f"output '{name}' is constant: TFLite gives only what it computes",
                op="Constant",
                node=name,
                next_step="leave it out with --outputs",
            )
        value = builder.value(name)
        value = builder.lay_out(value, _output_layout(value, io_layout))
        tensor = value.tensor if value.tensor not in taken else _copy(builder, value, name)
        taken.add(tensor)
        ports.append(Port(name=name, tensor=tensor, axes=_axes(value.layout)))
    return ports


def _output_layout(value: Value, io_layout: IoLayout) -> Layout:
    if io_layout == "nhwc" and value.rank in IMAGE_RANKS:
        image = channel_last(value.rank)
        held = tuple(axis for axis in value.layout if axis is not None)
        if held == image:
            return image
    return canonical(value.rank)


def _copy(builder: GraphBuilder, value: Value, name: str) -> int:
    shape = builder.add_constant(np.asarray(value.physical, np.int32), "shape")
    return builder.emit(
        Builtin.RESHAPE,
        [value.tensor, shape],
        name=name,
        source=builder.tensor(value).source,
        shape=value.physical,
        layout=canonical(len(value.physical)),
        options={"newShape": value.physical},
    ).tensor


def _axes(layout: Layout) -> tuple[int, ...]:
    return tuple(axis for axis in layout if axis is not None)
