from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepe.lower.tflite import lower, serialize
from edgepe.lower.tflite.flat import (
    Activation,
    Builtin,
    Graph,
    Model,
    Operator,
    Port,
    Quantization,
    Tensor,
)
from tests.onnx_graphs import small_cnn, small_mlp

if TYPE_CHECKING:
    from collections.abc import Mapping


def dense(options: Mapping[str, int] | None = None) -> Model:
    """Make y = relu(x @ w + b) by hand, with the same numbers in w as in v."""
    weights = np.arange(8, dtype=np.float32).reshape(2, 4)
    scale = Quantization(scale=(0.5, 0.25), axis=0)
    tensors = (
        Tensor(name="x", shape=(1, 4)),
        Tensor(name="w", shape=(2, 4), data=weights, quantization=scale),
        Tensor(name="b", shape=(2,), data=np.ones(2, np.float32)),
        Tensor(name="h", shape=(1, 2)),
        Tensor(name="v", shape=(2, 4), data=weights.copy(), quantization=scale),
        Tensor(name="y", shape=(1, 2)),
    )
    first = Operator(builtin=Builtin.FULLY_CONNECTED, inputs=(0, 1, 2), outputs=(3,), activation=Activation.RELU)
    second = Operator(builtin=Builtin.FULLY_CONNECTED, inputs=(0, 4, 2), outputs=(5,), options=options or {})
    return Model(
        graph=Graph(
            tensors=tensors,
            operators=(first, second),
            inputs=(Port(name="x", tensor=0, axes=(0, 1)),),
            outputs=(Port(name="h", tensor=3, axes=(0, 1)), Port(name="y", tensor=5, axes=(0, 1))),
        )
    )


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert serialize(lower(small_cnn().model(), io_layout="nhwc")) == serialize(
        lower(small_cnn().model(), io_layout="nhwc")
    )


def test_constants_lie_on_sixteen_byte_boundaries() -> None:
    content = serialize(lower(small_mlp().model(), io_layout="nhwc"))
    model = schema.Model.GetRootAsModel(content, 0)
    seen = 0
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % 16 == 0
            seen += 1
    assert seen >= 4


def test_equal_constants_and_equal_quantization_are_stored_once() -> None:
    content = serialize(dense())
    assert content.count(np.arange(8, dtype=np.float32).tobytes()) == 1
    assert content.count(np.array([0.5, 0.25], np.float32).tobytes()) == 1


def test_the_file_carries_activation_signature_and_versions() -> None:
    model = schema.ModelT.InitFromPackedBuf(serialize(dense(options={"keepNumDims": True})), 0)
    operators = model.subgraphs[0].operators
    assert operators[0].builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.RELU
    assert operators[1].builtinOptions.keepNumDims
    assert [code.version for code in model.operatorCodes] == [5]
    signature = model.signatureDefs[0]
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in signature.inputs] == [b"x"]
    assert [entry.name for entry in signature.outputs] == [b"h", b"y"]


def test_each_operator_asks_for_the_lowest_version_its_content_needs() -> None:
    plain = schema.ModelT.InitFromPackedBuf(serialize(dense()), 0)
    assert [code.version for code in plain.operatorCodes] == [1]
