"""Small real graphs for the tests of quantization, written in ONNX's own text form."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import parser, shape_inference

__all__ = ["cnn", "feeds", "graph", "normal", "run"]

CNN = """
    c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)
    r1 = Relu(c1)
    p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
    c2 = Conv<pads=[1,1,1,1]>(p1, w2, b2)
    a = Add(c2, p1)
    r2 = Relu(a)
    c3 = Conv<pads=[1,1,1,1], group=16>(r2, wd, bd)
    r3 = Relu(c3)
    g = GlobalAveragePool(r3)
    f = Flatten(g)
    y = Gemm<transB=1>(f, fw, fb)
"""


def graph(
    body: str,
    *,
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 20,
) -> ir.Model:
    """Build a graph with inferred shapes; a node is named after its first output.

    Args:
        body: Nodes in ONNX's text form.
        inputs: Name → shape, float32.
        outputs: Name → shape, float32.
        constants: Name → initializer.
        opset: Operator set.
    """
    ports = [
        ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in side.items())
        for side in (inputs, outputs)
    ]
    text = f'<ir_version: 10, opset_import: ["" : {opset}]>\ntest ({ports[0]}) => ({ports[1]}) {{ {body} }}'
    proto = parser.parse_model(text)
    for node in proto.graph.node:
        node.name = f"n_{node.output[0]}"
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()
    )
    return ir.serde.deserialize_model(shape_inference.infer_shapes(proto, strict_mode=True))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Return random weights of a sensible size for their fan-in."""
    fan_in = max(1, int(np.prod(shape[1:])))
    drawn = np.random.default_rng([seed, *shape]).normal(size=shape)
    return np.asarray(drawn / np.sqrt(fan_in), np.float32)


def cnn(seed: int = 0) -> ir.Model:
    """Return a small residual CNN: x [b, 3, 12, 12] → y [b, 10]."""
    shapes = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "wd": (16, 1, 3, 3), "bd": (16,)}
    constants = {name: normal(*shape, seed=seed) for name, shape in (shapes | {"fw": (10, 16), "fb": (10,)}).items()}
    return graph(CNN, inputs={"x": ["b", 3, 12, 12]}, outputs={"y": ["b", 10]}, constants=constants)


def feeds(model: ir.Model, *, samples: int = 64, seed: int = 1) -> dict[str, np.ndarray]:
    """Return random samples for each input of a model."""
    rng = np.random.default_rng(seed)
    shapes = {str(value.name): [str(size) for size in value.shape or ()][1:] for value in model.graph.inputs}
    return {name: rng.normal(size=(samples, *map(int, shape))).astype(np.float32) for name, shape in shapes.items()}


def run(model: ir.Model, inputs: dict[str, np.ndarray], *, settings: dict[str, str] | None = None) -> np.ndarray:
    """Run a graph in onnxruntime and return its first output."""
    import onnxruntime as ort  # noqa: PLC0415 - graphs of most tests are only looked at

    options = ort.SessionOptions()
    options.log_severity_level = 3
    for key, value in ({"session.qdqisint8allowed": "1"} if settings is None else settings).items():
        options.add_session_config_entry(key, value)
    data = ir.serde.serialize_model(model).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])
