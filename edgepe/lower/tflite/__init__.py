"""ONNX graph to TFLite: layout as data, one small function per operator, our own flatbuffer writer."""

from __future__ import annotations

__all__: list[str] = []
