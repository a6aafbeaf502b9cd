"""Capture an ONNX file: check it, bring it to one operator set, fix what the user fixes, strip the rest.

Rules kept here:
1. A graph that is quantized already is refused: edgepe quantizes the float model.
2. An open dimension other than the batch is an error that asks for ``--shape``; a known one is never overruled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # protobuf ships no types
from onnx import checker, version_converter

from edgepe.capture.captured import Captured, Port
from edgepe.errors import CaptureError, UsageError
from edgepe.graph import optimize
from edgepe.graph.infer_shapes import infer_shapes
from edgepe.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["OLDEST_OPSET", "capture_onnx", "captured_from"]

OLDEST_OPSET = 18
"""Older graphs are converted: from here on axes of reductions are inputs, and Q/DQ are per channel."""

QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"})


def capture_onnx(path: Path, *, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Captured:
    """Return an ONNX file as a captured model.

    Args:
        path: The file; external data must lie beside it.
        name: The model's name.
        shapes: Input name → shape for open dimensions; -1 keeps the batch open.

    Raises:
        CaptureError: It is no valid float ONNX graph, or leaves a dimension open.
        UsageError: A shape does not fit.
    """
    proto = _load(path)
    _refuse_quantized(proto, path)
    model = ir.serde.deserialize_model(_canonical_opset(proto, path))
    _fix_shapes(model, shapes)
    return captured_from(model, name=name)


def captured_from(model: ir.Model, *, name: str) -> Captured:
    """Return a graph as a captured model: optimized, stripped, its open dimensions checked.

    Raises:
        CaptureError: A dimension other than the batch is open, or a type or shape is not known.
    """
    infer_shapes(model)
    inputs = tuple(_port(value) for value in model.graph.inputs if value.name not in model.graph.initializers)
    clean = optimize(model)
    return Captured(
        name=name, model=clean, inputs=inputs, outputs=tuple(_port(value, open_ok=-1) for value in clean.graph.outputs)
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(path)
        checker.check_model(proto)
    except (DecodeError, ValueError, OSError, checker.ValidationError) as error:
        raise CaptureError(
            f"{path} is not a valid ONNX model",
            expected="a model that onnx.checker accepts",
            got=first_line(error),
            next_step="export it again",
        ) from error
    return proto


def _refuse_quantized(proto: onnx.ModelProto, path: Path) -> None:
    found = sorted({node.op_type for node in proto.graph.node} & QUANTIZED)
    if found:
        raise CaptureError(
            f"{path} is quantized already",
            expected="the float model: edgepe chooses the precision per target",
            got=", ".join(found),
            next_step="give the model from before quantization",
        )


def _canonical_opset(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    opset = next((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if opset >= OLDEST_OPSET:
        return proto
    try:
        return version_converter.convert_version(proto, OLDEST_OPSET)
    except (version_converter.ConvertError, RuntimeError) as error:
        raise CaptureError(
            f"{path} cannot be brought to operator set {OLDEST_OPSET}",
            expected=f"operator set {OLDEST_OPSET} or newer, or one that onnx can convert",
            got=f"operator set {opset}: {first_line(error)}",
            next_step=f"export the model with opset_version={OLDEST_OPSET}",
        ) from error


def _fix_shapes(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
    inputs = {str(value.name): value for value in model.graph.inputs}
    for name, shape in shapes.items():
        value = inputs.get(name)
        if value is None:
            raise UsageError(f"--shape names '{name}', which is no input", expected=", ".join(inputs), got=name)
        old = list(value.shape) if value.shape is not None else [None] * len(shape)
        fits = len(old) == len(shape) and all(
            not isinstance(known, int) or known == wanted for known, wanted in zip(old, shape, strict=True)
        )
        if not fits:
            raise UsageError(
                f"--shape {name} contradicts the model",
                expected=f"{name}={','.join(str(dim) if isinstance(dim, int) else 'N' for dim in old)}",
                got=f"{name}={','.join(map(str, shape))}",
                next_step="give numbers for the open dimensions (N) and keep the others",
            )
        value.shape = ir.Shape([_batch_or(dim, index) for index, dim in enumerate(shape)])
    if shapes:
        for node in model.graph:
            for output in node.outputs:
                output.shape = None


def _batch_or(size: int, index: int) -> int | str:
    return "batch" if size == -1 and index == 0 else size


def _port(value: ir.Value, *, open_ok: int = 1) -> Port:
    """Return a value as a port; the first ``open_ok`` dimensions (-1: all) may be open."""
    name, dtype, shape = str(value.name), value.dtype, value.shape
    if dtype is None or shape is None:
        raise CaptureError(
            f"the shape or type of '{name}' is not known",
            expected="a tensor of known type and shape",
            got=f"type {dtype}, shape {shape}",
            next_step=f"give --shape {name}=…",
        )
    dims = tuple(dim if isinstance(dim, int) and dim > 0 else -1 for dim in shape)
    if open_ok >= 0 and -1 in dims[open_ok:]:
        shown = ",".join(str(dim) if isinstance(dim, int) else "N" for dim in shape)
        raise CaptureError(
            f"input '{name}' has an open dimension besides the batch",
            expected="sizes known at compile time",
            got=f"{name}={shown}",
            next_step=f"give --shape {name}={shown} with a number for each N (-1 keeps the batch open)",
        )
    return Port(name=name, dtype=dtype.numpy().name, shape=dims)
