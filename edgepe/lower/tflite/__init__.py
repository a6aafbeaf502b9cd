"""ONNX graph to TFLite: layout as data, one small function per operator, our own flatbuffer writer.

The way of a graph: ``lower`` walks it through the table in ``ops`` into a ``flat.Model`` of plain values, which
``edgepe.quantize.apply_tflite`` may quantize, and ``serialize`` gives the bytes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepe.lower.tflite.flat import Model
    from edgepe.lower.tflite.lowering import lower
    from edgepe.lower.tflite.pack import serialize

__all__ = ["Model", "lower", "serialize"]

_HOMES = {"Model": "flat", "lower": "lowering", "serialize": "pack"}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: LiteRT's schema is large."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
