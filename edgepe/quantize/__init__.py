"""Calibrate, choose a scheme per op by the target's rules and the contract, apply.

The stages stand in modules of their own: ``calibrate`` (ranges), ``facts`` and ``assign`` (decisions), ``apply_onnx``,
``apply_tflite`` and ``fp16`` (writing), ``search`` (the contract). Nothing heavy is imported here.
"""

from __future__ import annotations

__all__: list[str] = []
