"""The precision of one operator, as a value, with the reason why it has it.

Rules kept here:
1. Every operator of an artifact has exactly one :class:`OpScheme`; nothing falls back silently.
2. A reason is a code that a program can test; ``detail`` is the sentence for a reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["OpScheme", "Precision", "Reason"]


class Precision(StrEnum):
    """The arithmetic of an operator, or of a whole artifact (``mixed``: some int8, some float)."""

    INT8 = "int8"
    MIXED = "mixed"
    FP16 = "fp16"
    FP32 = "fp32"


class Reason(StrEnum):
    """Why an operator runs at its precision."""

    TARGET_RULE = "target-rule"  # the target's rules want it so
    FOLLOWS_INPUT = "follows-input"  # moves data only: keeps its input's precision and scale
    FLOAT_OP = "float-op"  # the target's rules keep this kind of operator in float
    FEW_CHANNELS = "few-channels"  # too few channels for the target's int8 kernels
    NO_INT8_KERNEL = "no-int8-kernel"  # the runtime has no int8 kernel for it
    WEIGHT_NOT_CONSTANT = "weight-not-constant"  # its weight is computed, so it has no fixed scale
    NO_RANGE = "no-range"  # calibration saw no usable range of its input
    INTEGER_DATA = "integer-data"  # works on indices or shapes, which are never quantized
    DYNAMIC = "dynamic"  # int8 with the range of its input taken at each run
    WEIGHT_ONLY = "weight-only"  # weights are stored as int8, the arithmetic is float
    RECURRENT = "recurrent"  # a recurrent operator: static int8 costs too much accuracy
    SENSITIVE = "sensitive"  # int8 here cost more of the score than the contract allows
    FP16_OVERFLOW = "fp16-overflow"  # a value or an initializer does not fit fp16
    WHOLE_PRECISION = "whole-precision"  # the whole artifact has this precision


@dataclass(frozen=True, slots=True, kw_only=True)
class OpScheme:
    """The precision of one operator.

    Attributes:
        node: Name of the node in the optimized graph, unique there.
        op: Operator type, such as ``Conv``.
        precision: The arithmetic it runs in; never ``mixed``.
        reason: Why, as a code.
        detail: Why, as a sentence; may be empty.
    """

    node: str
    op: str
    precision: Precision
    reason: Reason
    detail: str = ""

    def __post_init__(self) -> None:
        if self.precision is Precision.MIXED:
            message = f"one operator has one precision; '{self.node}' cannot be mixed"
            raise ValueError(message)
