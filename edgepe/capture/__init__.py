"""Sources of models, one module each: everything becomes one deterministic ONNX graph."""

from __future__ import annotations

__all__: list[str] = []
