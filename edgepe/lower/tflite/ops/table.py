"""The table of operators: ONNX operator type to the function that lowers it.

Rules kept here:
1. One small function per ONNX operator (or per family that differs by one word); it returns the value of the node's
   output, or one value per output.
2. A function refuses what it cannot do through ``Node.refusal``, before it emits anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edgepe.lower.tflite.builder import GraphBuilder
from edgepe.lower.tflite.node import Node
from edgepe.lower.tflite.value import Value

__all__ = ["TABLE", "Lowered", "Lowering", "lowers"]

Lowered = Value | tuple[Value | None, ...]
Lowering = Callable[[GraphBuilder, Node], Lowered]
AnyLowering = TypeVar("AnyLowering", bound=Lowering)

TABLE: dict[str, Lowering] = {}


def lowers(*operators: str) -> Callable[[AnyLowering], AnyLowering]:
    """Register a function for ONNX operator types.

    Raises:
        ValueError: If one of them has a function already.
    """

    def register(function: AnyLowering) -> AnyLowering:
        for operator in operators:
            if operator in TABLE:
                msg = f"{operator} is lowered twice"
                raise ValueError(msg)
            TABLE[operator] = function
        return function

    return register
