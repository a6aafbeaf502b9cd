"""One small function per ONNX operator, by family; importing this package fills the table."""

from __future__ import annotations

from edgepe.lower.tflite.ops import conv, dense, elementwise, pool, reduce, shape
from edgepe.lower.tflite.ops.table import TABLE, Lowered, Lowering, lowers

__all__ = ["TABLE", "Lowered", "Lowering", "conv", "dense", "elementwise", "lowers", "pool", "reduce", "shape"]
