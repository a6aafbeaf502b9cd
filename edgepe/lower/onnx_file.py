"""Write a graph as an ONNX file that a given runtime can read.

Rules kept here:
1. The operator set and the IR version are at most what the target's runtime knows.
2. The same graph gives the same bytes; shapes of inner values, which a runtime infers anyway, are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from onnx import version_converter

from edgepe.errors import UnsupportedOpError

if TYPE_CHECKING:
    from edgepe.target import Target

__all__ = ["onnx_bytes"]


def onnx_bytes(model: ir.Model, target: Target) -> bytes:
    """Return the bytes of an ``.onnx`` file for a target.

    Args:
        model: The graph; not changed.
        target: Its ``opset_max`` and ``ir_max`` are kept.

    Raises:
        UnsupportedOpError: The graph needs a newer operator set than the target's runtime has.
    """
    proto = _capped(ir.serde.serialize_model(model), target)
    proto.ir_version = min(proto.ir_version, target.ir_max)
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    proto.producer_name, proto.producer_version = "edgepe", ""
    return bytes(proto.SerializeToString(deterministic=True))


def _capped(proto: onnx.ModelProto, target: Target) -> onnx.ModelProto:
    opset = next(entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"})
    if opset <= target.opset_max:
        return proto
    try:
        return version_converter.convert_version(proto, target.opset_max)
    except (version_converter.ConvertError, RuntimeError) as error:
        raise UnsupportedOpError(
            f"the model needs operator set {opset}, and {target.name} has {target.opset_max}",
            op="",
            node="",
            expected=f"operators of set {target.opset_max} or older",
            got=str(error).strip().splitlines()[0],
            next_step=f"export the model with opset_version={target.opset_max}",
        ) from error
