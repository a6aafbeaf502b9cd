"""From the user's model, whatever it is, to one deterministic float graph.

Rules kept here:
1. A source is an ``.onnx`` file, a folder that ``edgepe compress`` made, a ``.pt2``, TorchScript, or
   ``package.module:factory`` with weights.
2. Weights are read as tensors only; a pickle that could run code is refused.
3. The graph has one canonical operator set, float32, no host paths or stack traces; only the batch may be open.
"""

from __future__ import annotations

from edgepe.capture.captured import Captured, Deterministic
from edgepe.capture.source import capture, source_name, wants_shapes

__all__ = ["Captured", "Deterministic", "capture", "source_name", "wants_shapes"]
