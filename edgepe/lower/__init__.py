"""From the optimized graph to the bytes of an artifact: ``onnx_file`` for ONNX, ``tflite`` for TFLite."""

from __future__ import annotations

__all__: list[str] = []
