"""Write a graph as an ONNX file that a given runtime can read.

Rules kept here:
1. The operator set and the IR version are at most what the target's runtime knows.
2. The same graph gives the same bytes; shapes of inner values, which a runtime infers anyway, are left out.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import version_converter

from edgepe.errors import UnsupportedOpError
from edgepe.wording import first_line

__all__ = ["onnx_bytes"]

NEWEST = 1 << 30  # no cap


def onnx_bytes(model: ir.Model, *, opset_max: int = NEWEST, ir_max: int = NEWEST) -> bytes:
    """Return the bytes of an ``.onnx`` file.

    Args:
        model: The graph; not changed.
        opset_max: Newest operator set that the runtime knows.
        ir_max: Newest IR version that the runtime knows.

    Raises:
        UnsupportedOpError: The graph needs a newer operator set.
    """
    proto = _capped(ir.serde.serialize_model(model), opset_max)
    proto.ir_version = min(proto.ir_version, ir_max)
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    proto.producer_name, proto.producer_version = "edgepe", ""
    return bytes(proto.SerializeToString(deterministic=True))


def _capped(proto: onnx.ModelProto, opset_max: int) -> onnx.ModelProto:
    opset = next(entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"})
    if opset <= opset_max:
        return proto
    try:
        return version_converter.convert_version(proto, opset_max)
    except (version_converter.ConvertError, RuntimeError) as error:
        raise UnsupportedOpError(
            f"the model needs operator set {opset}, and the target's runtime has {opset_max}",
            op="",
            node="",
            expected=f"operators of set {opset_max} or older",
            got=first_line(error),
            next_step=f"export the model with opset_version={opset_max}",
        ) from error
