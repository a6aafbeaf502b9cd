"""Tiny real models for tests: the same dense layer in ONNX and in TFLite."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, checker, helper, numpy_helper, save

from device_agent.wire.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Golden,
    Manifest,
    Preprocess,
    RuntimeFloor,
    TensorSpec,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BIAS", "WEIGHT", "dense", "write_onnx", "write_slot", "write_tflite"]

WEIGHT = np.array([[1, 0, -1, 2], [0, 1, 1, -1], [-2, 1, 0, 1]], np.float32)
BIAS = np.array([0.5, -0.25, 0], np.float32)


def dense(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute what both models compute: [n, 4] to [n, 3]."""
    return (x @ WEIGHT.T + BIAS).astype(np.float32)


def write_onnx(
    path: Path, *, batch: int | str = "batch", dtype: int = TensorProto.FLOAT, bias: NDArray[np.float32] = BIAS
) -> Path:
    """Write ``y = x · Wᵀ + b`` with input ``x`` [batch, 4] and output ``y`` [batch, 3]."""
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "dense",
        [helper.make_tensor_value_info("x", dtype, [batch, 4])],
        [helper.make_tensor_value_info("y", dtype, [batch, 3])],
        [
            numpy_helper.from_array(WEIGHT.astype(numpy_type), "w"),
            numpy_helper.from_array(bias.astype(numpy_type), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)
    return path


def write_tflite(path: Path, *, bias: NDArray[np.float32] = BIAS) -> Path:
    """Write ``y = x · Wᵀ + b`` with input ``x`` [1, 4] and output ``y`` [1, 3]; no signature."""
    model = schema.ModelT()
    model.version = 3
    model.description = "dense"
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    model.operatorCodes = [code]
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor(model, "x", (1, 4)),
        tensor(model, "w", WEIGHT.shape, WEIGHT),
        tensor(model, "b", bias.shape, bias),
        tensor(model, "y", (1, 3)),
    ]
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [3]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def tensor(
    model: schema.ModelT, name: str, shape: tuple[int, ...], value: NDArray[np.float32] | None = None
) -> schema.TensorT:
    """Make a float tensor; a value becomes a buffer of its own."""
    row = schema.TensorT()
    row.name, row.shape, row.type = name, list(shape), schema.TensorType.FLOAT32
    row.buffer = 0
    if value is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        row.buffer = len(model.buffers)
        model.buffers.append(buffer)
    return row


def write_slot(
    folder: Path,
    *,
    model_format: str = "onnx",
    bias: NDArray[np.float32] = BIAS,
    labels: tuple[str, ...] = ("sit", "walk", "run"),
    preprocess: Preprocess | None = None,
) -> Manifest:
    """Write a whole slot of the dense model: model file, golden vectors (of the *unchanged* bias) and manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"model.{model_format}"
    writer = write_onnx if model_format == "onnx" else write_tflite
    writer(folder / name, bias=bias)
    x = np.random.default_rng(7).normal(size=(6, 4)).astype(np.float32)
    rule = preprocess or Preprocess()
    seen = (x * rule.scale - (rule.mean or (0.0,))) / (rule.std or (1.0,))
    np.savez(folder / "golden.npz", allow_pickle=False, **{"in.x": x, "out.y": dense(seen.astype(np.float32))})
    batch = -1 if model_format == "onnx" else 1
    manifest = Manifest(
        name="dense",
        version="1",
        target="generic-x86-64",
        format=model_format,
        precision="fp32",
        model=name,
        files=tuple(entry(folder / file) for file in ("golden.npz", name)),
        inputs=(TensorSpec(name="x", dtype="float32", shape=(batch, 4), layout="NC", preprocess=preprocess),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(batch, 3)),),
        labels=labels,
        runtime=RuntimeFloor(name="onnxruntime" if model_format == "onnx" else "litert", version="1.0"),
        golden=Golden(file="golden.npz", count=6, atol=1e-5, rtol=1e-5, min_agree=1.0),
    )
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())
    return manifest


def entry(path: Path) -> FileEntry:
    """Describe a file for a manifest."""
    data = path.read_bytes()
    return FileEntry(name=path.name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
