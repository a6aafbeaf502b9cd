"""Small ONNX graphs for tests: written step by step, or drawn at random from the table of operators."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray
    from onnx import ModelProto, NodeProto

__all__ = ["Graph", "random_graphs", "run_onnx", "small_cnn", "small_cnn_1d", "small_mlp"]

OPSET = 18
ERRORS_ONLY = 3


class Graph:
    """An ONNX graph in the making, with the shape of each value kept beside its name.

    Args:
        shape: Of the input ``x``; a batch may be a name.
        seed: Of the weights.
    """

    def __init__(self, shape: tuple[int | str, ...], *, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.input_shape = shape
        self.shapes: dict[str, tuple[int, ...]] = {"x": tuple(1 if isinstance(d, str) else d for d in shape)}
        self.last = "x"

    def __repr__(self) -> str:
        """Return what a failing test prints."""
        steps = [f"{n.output[0]} = {n.op_type}({', '.join(n.input)})" for n in self.nodes]
        return f"Graph(x{list(self.input_shape)}: {'; '.join(steps)}; shapes {self.shapes})"

    def constant(self, array: ArrayLike) -> str:
        """Add a constant."""
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        """Add a random constant."""
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def weight(self, *shape: int) -> str:
        """Add a random weight that keeps the size of what passes it."""
        return self.normal(*shape, scale=(1 / max(prod(shape[1:]), 1)) ** 0.5)

    def integers(self, *values: int) -> str:
        """Add a constant list of integers."""
        return self.constant(np.array(values, np.int64))

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...] = (), **attributes: Any) -> str:
        """Add a node and return its output, which becomes the last value."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{len(self.nodes)}", **attributes))
        self.shapes[name] = tuple(int(d) for d in shape)
        self.last = name
        return name

    def then(self, op: str, *inputs: str, **attributes: Any) -> Graph:
        """Add a node that reads the last value first."""
        self.add(op, [self.last, *inputs], **attributes)
        return self

    def proto(self, *outputs: str) -> ModelProto:
        """Return the model with these outputs, by default the last value."""
        names = list(dict.fromkeys(outputs or (self.last,)))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input_shape)],
            [helper.make_empty_tensor_value_info(name) for name in names],
            self.initializers,
        )
        for info in graph.output:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def model(self, *outputs: str) -> ir.Model:
        """Return the model as onnx-ir has it."""
        return ir.from_proto(self.proto(*outputs))


def run_onnx(model: ir.Model, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return what onnxruntime computes, by output name."""
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def small_mlp() -> Graph:
    """Make a dense net over a window of sensor data, with a symbolic batch."""
    graph = Graph(("n", 10, 6))
    graph.then("Reshape", graph.integers(-1, 60)).then("Gemm", graph.weight(24, 60), graph.normal(24), transB=1)
    return graph.then("Relu").then("Gemm", graph.weight(5, 24), graph.normal(5), transB=1).then("Softmax", axis=-1)


def small_cnn_1d() -> Graph:
    """Make a 1-D convolutional net with a depthwise layer."""
    graph = Graph(("n", 6, 40))
    graph.then("Conv", graph.weight(16, 6, 5), graph.normal(16), pads=[2, 2]).then("Relu")
    graph.then("MaxPool", kernel_shape=[2], strides=[2])
    graph.then("Conv", graph.weight(16, 1, 3), graph.normal(16), group=16, pads=[1, 1])
    graph.then("Conv", graph.weight(24, 16, 1), graph.normal(24))
    graph.then("Clip", graph.constant(np.float32(0)), graph.constant(np.float32(6)))
    graph.then("GlobalAveragePool").then("Flatten")
    return graph.then("Gemm", graph.weight(5, 24), graph.normal(5), transB=1)


def small_cnn() -> Graph:
    """Make a 2-D net of inverted residuals over images that are not square."""
    graph = Graph(("n", 3, 18, 14))
    graph.then("Conv", graph.weight(8, 3, 3, 3), graph.normal(8), strides=[2, 2], pads=[1, 1, 1, 1]).then("Relu")
    start = graph.last
    bounds = graph.constant(np.float32(0)), graph.constant(np.float32(6))
    graph.then("Conv", graph.weight(24, 8, 1, 1), graph.normal(24)).then("Clip", *bounds)
    graph.then("Conv", graph.weight(24, 1, 3, 3), graph.normal(24), group=24, pads=[1, 1, 1, 1]).then("Clip", *bounds)
    graph.then("Conv", graph.weight(8, 24, 1, 1), graph.normal(8)).then("Add", start)
    graph.then("Conv", graph.weight(12, 8, 3, 3), graph.normal(12), strides=[2, 2]).then("HardSwish")
    graph.then("Flatten")
    return graph.then("Gemm", graph.weight(7, 12 * 4 * 3), graph.normal(7), transB=1)


Step: TypeAlias = "Callable[[st.DrawFn, Graph, str], None]"


def _conv(draw: st.DrawFn, g: Graph, x: str) -> None:
    n, c, *sizes = g.shapes[x]
    rank = len(sizes)
    depthwise = draw(st.booleans())
    groups = c if depthwise else draw(st.sampled_from([d for d in range(1, c + 1) if c % d == 0]))
    out = groups * draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, min(3, d))) for d in sizes]
    strides = [draw(st.integers(1, 2)) for _ in sizes]
    dilations = [draw(st.integers(1, 2)) for _ in sizes]
    pads = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    shape = [
        (d + pads[i] + pads[i + rank] - span) // s + 1
        for i, (d, span, s) in enumerate(zip(sizes, spans, strides, strict=True))
    ]
    if all(d + pads[i] + pads[i + rank] >= span for i, (d, span) in enumerate(zip(sizes, spans, strict=True))):
        inputs = [x, g.weight(out, c // groups, *kernel), *([g.normal(out)] if draw(st.booleans()) else [])]
        g.add("Conv", inputs, (n, out, *shape), group=groups, strides=strides, dilations=dilations, pads=pads)


def _activated_conv(draw: st.DrawFn, g: Graph, x: str) -> None:
    """Follow a convolution with an activation that it may take in, unless another node reads it too."""
    _conv(draw, g, x)
    made = g.last
    bounds = g.constant(np.float32(0)), g.constant(np.float32(6))
    active = g.add(*draw(st.sampled_from([("Relu", [made]), ("Clip", [made, *bounds])])), g.shapes[made])
    if draw(st.booleans()):
        g.add("Add", [active, made], g.shapes[made])


def _pool(draw: st.DrawFn, g: Graph, x: str) -> None:
    n, c, *sizes = g.shapes[x]
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    kernel = [draw(st.integers(1, min(3, d))) for d in sizes]
    strides = [draw(st.integers(1, 2)) for _ in sizes]
    pads = [draw(st.integers(0, k // 2)) for k in kernel] * 2
    rooms = [d + 2 * pads[i] - k for i, (d, k) in enumerate(zip(sizes, kernel, strict=True))]
    starts = [-(-room // s) * s for room, s in zip(rooms, strides, strict=True)]
    # ONNX's shape inference and onnxruntime disagree on a last window that starts in the padding: draw none.
    whole = all(start < d + pads[i] for i, (start, d) in enumerate(zip(starts, sizes, strict=True)))
    ceil = draw(st.integers(0, 1)) if whole and op == "MaxPool" else 0
    shape = [-(-room // s) + 1 if ceil else room // s + 1 for room, s in zip(rooms, strides, strict=True)]
    more = {"ceil_mode": ceil} if op == "MaxPool" else {"count_include_pad": 1}
    g.add(op, [x], (n, c, *shape), kernel_shape=kernel, strides=strides, pads=pads, **more)


def _unary(draw: st.DrawFn, g: Graph, x: str) -> None:
    op = draw(
        st.sampled_from(["Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Abs", "Neg", "Elu", "Identity", "Exp"])
    )
    if op == "Exp":
        x = g.add("Tanh", [x], g.shapes[x])
    g.add(op, [x], g.shapes[x])


def _clip(draw: st.DrawFn, g: Graph, x: str) -> None:
    low, high = draw(st.sampled_from([(0, 6), (-1, 1), (0, None), (None, 0.5), (-0.5, 2)]))
    ends = ["" if bound is None else g.constant(np.float32(bound)) for bound in (low, high)]
    g.add("Clip", [x, *ends], g.shapes[x])


def _binary(draw: st.DrawFn, g: Graph, x: str) -> None:
    op = draw(st.sampled_from(["Add", "Mul", "Sub", "Max", "Min"]))
    other = draw(st.sampled_from([name for name, shape in g.shapes.items() if shape == g.shapes[x]]))
    g.add(op, draw(st.permutations([x, other])), g.shapes[x])


def _constant_operand(draw: st.DrawFn, g: Graph, x: str) -> None:
    shape = [d if draw(st.booleans()) else 1 for d in g.shapes[x]]
    shape = shape[draw(st.integers(0, len(shape))) :]
    op = draw(st.sampled_from(["Add", "Mul", "Sub", "Div"]))
    values = g.constant((g.rng.uniform(0.5, 2.0, shape) * g.rng.choice([-1, 1], shape)).astype(np.float32))
    g.add(op, [x, values] if op == "Div" else draw(st.permutations([x, values])), g.shapes[x])


def _broadcast(draw: st.DrawFn, g: Graph, x: str) -> None:
    """Meet with a mean of itself: an operand with unit axes or of lower rank."""
    shape = g.shapes[x]
    axis = draw(st.integers(0, len(shape) - 1))
    keep = 1 if axis else draw(st.integers(0, 1))
    reduced = tuple(1 if i == axis else d for i, d in enumerate(shape) if keep or i != axis)
    mean = g.add("ReduceMean", [x, g.integers(axis)], reduced, keepdims=keep)
    g.add(draw(st.sampled_from(["Add", "Sub", "Mul"])), draw(st.permutations([x, mean])), shape)


def _reduce(draw: st.DrawFn, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    keep = draw(st.integers(0, 1))
    op = draw(st.sampled_from(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"]))
    out = tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
    signs = [axis - len(shape) if draw(st.booleans()) else axis for axis in axes]
    g.add(op, [x, g.integers(*signs)], out, keepdims=keep)


def _softmax(draw: st.DrawFn, g: Graph, x: str) -> None:
    g.add("Softmax", [x], g.shapes[x], axis=draw(st.integers(0, len(g.shapes[x]) - 1)))


def _transpose(draw: st.DrawFn, g: Graph, x: str) -> None:
    axes = draw(st.permutations(range(len(g.shapes[x]))))
    g.add("Transpose", [x], tuple(g.shapes[x][a] for a in axes), perm=axes)


def _reshape(draw: st.DrawFn, g: Graph, x: str) -> None:
    shape = list(g.shapes[x])
    for _ in range(2):
        at = draw(st.integers(0, len(shape) - 1))
        factors = [f for f in (2, 3, 4) if shape[at] % f == 0]
        if len(shape) > 1 and draw(st.booleans()):
            at = min(at, len(shape) - 2)
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif factors and len(shape) < 4:
            shape[at : at + 1] = [factors[0], shape[at] // factors[0]]
    g.add("Reshape", [x, g.integers(*shape)], tuple(shape))


def _flatten(draw: st.DrawFn, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    axis = draw(st.sampled_from([1, 1, 1, *range(len(shape) + 1)]))
    g.add("Flatten", [x], (prod(shape[:axis]), prod(shape[axis:])), axis=axis)


def _dense(draw: st.DrawFn, g: Graph, x: str) -> None:
    *rest, inner = g.shapes[x]
    out = draw(st.integers(1, 5))
    if len(rest) == 1 and draw(st.booleans()):
        g.add("Gemm", [x, g.weight(out, inner), g.normal(out)], (*rest, out), transB=1, alpha=0.5, beta=2.0)
        return
    product = g.add("MatMul", [x, g.weight(inner, out)], (*rest, out))
    if draw(st.booleans()):
        g.add("Add", draw(st.permutations([product, g.normal(out)])), (*rest, out))


def _flat_dense(draw: st.DrawFn, g: Graph, x: str) -> None:
    """Let an image end in a dense layer, now and then through an activation."""
    n, *rest = g.shapes[x]
    flat = g.add("Flatten", [x], (n, prod(rest)))
    if draw(st.booleans()):
        flat = g.add(draw(st.sampled_from(["Relu", "Tanh"])), [flat], (n, prod(rest)))
    g.add("Gemm", [flat, g.weight(4, prod(rest)), g.normal(4)], (n, 4), transB=1)


def _concat(draw: st.DrawFn, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    others = draw(st.lists(st.sampled_from([n for n, s in g.shapes.items() if s == shape]), min_size=1, max_size=3))
    axis = draw(st.integers(0, len(shape) - 1))
    out = tuple(d * (1 + len(others)) if i == axis else d for i, d in enumerate(shape))
    g.add("Concat", [x, *others], out, axis=axis)


def _pad(draw: st.DrawFn, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    pads = [draw(st.integers(0, 1)) for _ in range(2 * len(shape))]
    fill = [g.constant(np.float32(draw(st.sampled_from([0.0, 1.5]))))] if draw(st.booleans()) else []
    g.add("Pad", [x, g.integers(*pads), *fill], tuple(d + pads[i] + pads[i + len(shape)] for i, d in enumerate(shape)))


def _unit_axes(draw: st.DrawFn, g: Graph, x: str) -> None:
    shape = g.shapes[x]
    units = [i for i, d in enumerate(shape) if d == 1]
    if units and len(shape) > 1 and draw(st.booleans()):
        axis = draw(st.sampled_from(units))
        g.add("Squeeze", [x, g.integers(axis)], tuple(d for i, d in enumerate(shape) if i != axis))
    elif len(shape) < 4:
        axis = draw(st.integers(0, len(shape)))
        g.add("Unsqueeze", [x, g.integers(axis)], (*shape[:axis], 1, *shape[axis:]))


def _normalize(draw: st.DrawFn, g: Graph, x: str) -> None:
    channels = g.shapes[x][1]
    variance = g.constant(g.rng.uniform(0.5, 2.0, channels).astype(np.float32))
    scale, bias, mean = (g.normal(channels) for _ in range(3))
    g.add(
        "BatchNormalization", [x, scale, bias, mean, variance], g.shapes[x], epsilon=draw(st.sampled_from([1e-5, 1e-3]))
    )


def _global_pool(draw: st.DrawFn, g: Graph, x: str) -> None:
    n, c, *sizes = g.shapes[x]
    g.add(draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"])), [x], (n, c, *(1 for _ in sizes)))


ANY: tuple[Step, ...] = (_unary, _binary, _constant_operand, _broadcast, _clip, _softmax, _transpose, _reshape)
ANY += (_flatten, _concat, _pad, _unit_axes, _reduce)
IMAGES: tuple[Step, ...] = (
    _conv,
    _activated_conv,
    _activated_conv,
    _pool,
    _normalize,
    _global_pool,
    _flat_dense,
    *ANY,
)


@st.composite
def random_graphs(
    draw: st.DrawFn, *, batches: tuple[int, ...] = (1, 2), max_steps: int = 8
) -> tuple[Graph, tuple[str, ...]]:
    """Draw a small graph over images or sequences that are never square, and the names of its outputs."""
    sizes = draw(st.lists(st.integers(3, 9), min_size=1, max_size=2, unique=True))
    shape = (draw(st.sampled_from(batches)), draw(st.integers(1, 6)), *sizes)
    graph = Graph(shape, seed=draw(st.integers(0, 2**16)))
    for _ in range(draw(st.integers(1, max_steps))):
        recent = list(graph.shapes)[-3:]
        x = draw(st.sampled_from([recent[-1], *recent]))
        rank = len(graph.shapes[x])
        if not rank:
            continue
        choices = IMAGES if rank in (3, 4) else (ANY + (_dense,) + ((_normalize,) if rank > 1 else ()))
        if rank in (3, 4) and draw(st.integers(0, 5)) == 0:
            choices = (_dense,)
        if rank < 2:
            choices = (_unary, _constant_operand, _clip, _unit_axes)
        draw(st.sampled_from(choices))(draw, graph, x)
    if not graph.nodes:
        graph.then("Relu")
        graph.shapes[graph.last] = graph.shapes["x"]
    names = [name for name in graph.shapes if name != "x"]
    return graph, (names[-1], *draw(st.lists(st.sampled_from(names), max_size=1)))
