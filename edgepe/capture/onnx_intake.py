"""Everything that touches the bytes of an ``.onnx`` file of somebody else's.

Rules kept here:
1. It runs in a child process with limits (``onnx_child``): libraries written in C++ read these bytes.
2. Order: size → parse → external data → claims → checker → cut → fix shapes → operator set → optimize.
3. A graph that is quantized already is refused: edgepe quantizes the float model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # protobuf ships no types
from onnx import checker, version_converter

from edgepe.capture.cut import cut
from edgepe.capture.external import check_claims, load_external, refuse_size
from edgepe.capture.finish import finish
from edgepe.capture.shapes import fix_shapes
from edgepe.errors import CaptureError
from edgepe.graph.infer_shapes import infer_shapes
from edgepe.graph.passes import fold_branches
from edgepe.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["OLDEST_OPSET", "read_onnx"]

OLDEST_OPSET = 18
"""Older graphs are converted: from here on axes of reductions are inputs, and Q/DQ are per channel."""

QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"})


def read_onnx(path: Path, *, shapes: Mapping[str, tuple[int, ...]], outputs: tuple[str, ...]) -> ir.Model:
    """Return an ONNX file as one optimized float graph.

    Args:
        path: The file; external data must lie beside it.
        shapes: Input name → shape for open dimensions; -1 keeps the batch open.
        outputs: Values to cut the graph at; none keeps its own outputs.

    Raises:
        CaptureError: It is no valid float ONNX graph, or leaves a dimension open.
        UsageError: A shape or an output does not fit.
    """
    proto = _load(path)
    model = ir.serde.deserialize_model(proto)
    if outputs:
        infer_shapes(model)
        cut(model, outputs)
    _refuse_quantized(model, path)
    fix_shapes(model, shapes)
    return finish(_canonical_opset(model, path))


def _load(path: Path) -> onnx.ModelProto:
    refuse_size(path.stat().st_size, str(path))
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise _invalid(path, error) from error
    load_external(proto, path.parent)
    check_claims(proto)
    newest = onnx.defs.onnx_opset_version()
    if _opset(proto) > newest:
        raise CaptureError(
            f"{path} is of a newer operator set than onnx {onnx.__version__} knows",
            expected=f"at most {newest}",
            got=_opset(proto),
            next_step="export it with an older opset_version, 20 for instance",
        )
    try:
        checker.check_model(proto)
    except (ValueError, RuntimeError, checker.ValidationError) as error:
        raise _invalid(path, error) from error
    return proto


def _invalid(path: Path, error: Exception) -> CaptureError:
    lines = [line.strip(" =>") for line in str(error).splitlines() if line.strip(" =>")]
    return CaptureError(
        f"{path} is not a valid ONNX model",
        expected="a model that onnx.checker accepts",
        got="; ".join(lines[:2]) or type(error).__name__,
        next_step="export it again",
    )


def _opset(proto: onnx.ModelProto) -> int:
    return next((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), 0)


def _refuse_quantized(model: ir.Model, path: Path) -> None:
    found = sorted({node.op_type for node in ir.traversal.RecursiveGraphIterator(model.graph)} & QUANTIZED)
    if found:
        raise CaptureError(
            f"{path} is quantized already",
            expected="the float model: edgepe chooses the precision per target",
            got=", ".join(found),
            next_step="give the model from before quantization",
        )


def _canonical_opset(model: ir.Model, path: Path) -> ir.Model:
    opset = model.opset_imports.get("", OLDEST_OPSET)
    if opset >= OLDEST_OPSET:
        return model
    proto = ir.serde.serialize_model(fold_branches(model))  # the converter does not look into branches
    try:
        converted = version_converter.convert_version(proto, OLDEST_OPSET)
        _check_cut(converted)
    except (version_converter.ConvertError, ValueError, RuntimeError, checker.ValidationError) as error:
        raise CaptureError(
            f"{path} cannot be brought to operator set {OLDEST_OPSET}",
            expected=f"operator set {OLDEST_OPSET} or newer, or one that onnx can convert",
            got=f"operator set {opset}: {first_line(error)}",
            next_step=f"export the model with opset_version={OLDEST_OPSET}",
        ) from error
    return ir.serde.deserialize_model(converted)


def _check_cut(proto: onnx.ModelProto) -> None:
    """Check a model whose outputs may be of unknown shape: where it was cut, which the checker does not take."""
    unknown = [value.type.tensor_type for value in proto.graph.output if not value.type.tensor_type.HasField("shape")]
    for tensor_type in unknown:
        tensor_type.shape.SetInParent()
    checker.check_model(proto)
    for tensor_type in unknown:
        tensor_type.ClearField("shape")
