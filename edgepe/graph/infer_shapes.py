"""Give every value the shape and type that ONNX can infer for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from onnx_ir.passes.common import ShapeInferencePass

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["infer_shapes"]

_PASS_LOGGER = logging.getLogger("onnx_ir.passes.common.shape_inference")


def infer_shapes(model: ir.Model) -> None:
    """Infer shapes in place; a value whose shape cannot be inferred keeps what it had.

    Requires: no functions left to inline. Ensures: shapes of static graphs are known.
    """
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
