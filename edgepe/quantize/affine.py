"""The arithmetic of affine int8: real = scale * (integer - zero_point).

Rules kept here:
1. Pure numpy, no graph. Rounding is to nearest, ties to even, as ONNX's QuantizeLinear and LiteRT do.
2. Activations use the int8 span [-128, 127]; weights stay in [-127, 127] with zero point 0, so that -w is exact and
   pairwise products never reach the one sum that overflows 16 bits.
3. A scale is a positive float32 that neither over- nor underflows when inverted.
4. A bias is int32 at scale s_x * s_w. Where that does not hold the bias (dead channels: weights near zero, bias not),
   the weight scale is raised until it does, and the channels are reported.

Formulas: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", sections 2.1 and 2.4; LiteRT's 8-bit quantization specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.quantize.calibrate import Range

__all__ = [
    "BIAS_LIMIT",
    "MIN_SCALE",
    "Affine",
    "activation_affine",
    "asymmetric",
    "bias_affine",
    "bias_floor",
    "dequantize",
    "quantize",
    "symmetric",
    "weight_affine",
]

LOW, HIGH = -128, 127
WEIGHT_HIGH = 127
MIN_SCALE = 2.0**-60
"""Smallest scale: its inverse, and the product of two (a bias's scale), are still normal float32 numbers."""
BIAS_LIMIT = 2.0**30
"""Largest |bias| in integers: half of int32, so that adding the products of a layer cannot overflow either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """Scale and zero point of one tensor.

    Attributes:
        scale: Positive float32, a scalar (shape ``()``) or one per channel.
        zero_point: int32 of the same shape.
        axis: The channel axis, or None where per tensor.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.scale.shape != self.zero_point.shape or (self.axis is None) != (self.scale.ndim == 0):
            raise ValueError(f"scale {self.scale.shape}, zero point {self.zero_point.shape}, axis {self.axis}")
        if not np.all(np.isfinite(self.scale) & (self.scale > 0)):
            raise ValueError("a scale must be positive and finite")

    def along(self, rank: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return scale and zero point shaped to broadcast over a tensor of that rank."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


def scalar(scale: float, zero_point: int) -> Affine:
    """Make per-tensor parameters."""
    return Affine(scale=np.asarray(max(scale, MIN_SCALE), np.float32), zero_point=np.asarray(zero_point, np.int32))


def symmetric(span: Range) -> Affine:
    """Choose zero point 0 and the scale that holds the larger side of a range in [-127, 127]."""
    return scalar(max(-span.low, span.high) / WEIGHT_HIGH, 0)


def asymmetric(span: Range) -> Affine:
    """Choose the scale that spreads a range over [-128, 127], with zero exactly on an integer."""
    scale = max((span.high - span.low) / (HIGH - LOW), MIN_SCALE)
    return scalar(scale, int(np.clip(np.rint(LOW - span.low / scale), LOW, HIGH)))


def activation_affine(span: Range, *, kind: str) -> Affine:
    """Choose per-tensor parameters of an activation.

    Args:
        span: Its range.
        kind: ``symmetric`` or ``asymmetric``, as the target's rules say.

    Raises:
        ValueError: The kind is neither.
    """
    if kind == "symmetric":
        return symmetric(span)
    if kind == "asymmetric":
        return asymmetric(span)
    raise ValueError(f"activation must be symmetric or asymmetric, got {kind!r}")


def weight_affine(weights: NDArray[Any], *, axis: int | None, floor: NDArray[np.float64] | float = 0.0) -> Affine:
    """Choose symmetric parameters of constant weights.

    Args:
        weights: Float weights of any rank.
        axis: Channel axis, or None for one scale.
        floor: Smallest scale allowed, per channel or one for all (rule 4).
    """
    others = None if axis is None else tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    peak = np.abs(weights.astype(np.float64)).max(axis=others, initial=0.0)
    scale = np.maximum(np.maximum(peak / WEIGHT_HIGH, floor), MIN_SCALE).astype(np.float32)
    wanted = None if axis is None else axis % weights.ndim
    if axis is None and scale.ndim:
        scale = scale.max()
    return Affine(scale=np.asarray(scale), zero_point=np.zeros(np.shape(scale), np.int32), axis=wanted)


def bias_floor(bias: NDArray[Any], *, input_scale: float) -> NDArray[np.float64]:
    """Return the smallest weight scale per channel whose int32 bias still fits: |b| / (s_x * BIAS_LIMIT)."""
    return np.abs(bias.astype(np.float64)) / (input_scale * BIAS_LIMIT)


def bias_affine(*, input_affine: Affine, weight: Affine) -> Affine:
    """Return the parameters of an int32 bias: s_x * s_w, zero point 0."""
    scale = np.asarray(input_affine.scale * weight.scale, np.float32)
    return Affine(scale=scale, zero_point=np.zeros(scale.shape, np.int32), axis=None if scale.ndim == 0 else 0)


def quantize(values: NDArray[Any], affine: Affine, *, low: int = LOW, high: int = HIGH) -> NDArray[np.int64]:
    """Round values to integers and saturate at ``low`` and ``high`` (both inclusive)."""
    scale, zero_point = affine.along(values.ndim)
    whole = np.rint(values.astype(np.float64) / scale.astype(np.float64)) + zero_point
    return np.clip(whole, low, high).astype(np.int64)


def dequantize(integers: NDArray[Any], affine: Affine) -> NDArray[np.float32]:
    """Turn integers back into real values, float32."""
    scale, zero_point = affine.along(integers.ndim)
    return (integers.astype(np.float32) - zero_point.astype(np.float32)) * scale
