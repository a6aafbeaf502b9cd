"""The arithmetic of affine int8: real = scale * (integer - zero_point).

Rules kept here:
1. Pure numpy, no graph. Rounding is to nearest, ties to even, as ONNX's QuantizeLinear and LiteRT do.
2. Activations use their type's whole span; weights are int8 in [-127, 127] (8 bits) or [-63, 63] (7 bits, for kernels
   that sum two products in saturating 16 bits), zero point 0.
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
    "SPANS",
    "WEIGHT_HIGH",
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

SPANS = {"int8": (-128, 127), "uint8": (0, 255)}
"""Integer type of activations → its smallest and largest value."""
WEIGHT_HIGH = {8: 127, 7: 63}
"""Bits of a weight → its largest absolute integer."""
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


def symmetric(span: Range, *, dtype: str = "int8") -> Affine:
    """Choose the middle zero point and the scale that holds the larger side of a range in 127 steps."""
    low, high = SPANS[dtype]
    return scalar(max(-span.low, span.high) / ((high - low) // 2), (low + high + 1) // 2)


def asymmetric(span: Range, *, dtype: str = "int8") -> Affine:
    """Choose the scale that spreads a range over the whole type, with zero exactly on an integer."""
    low, high = SPANS[dtype]
    scale = max((span.high - span.low) / (high - low), MIN_SCALE)
    return scalar(scale, int(np.clip(np.rint(low - span.low / scale), low, high)))


def activation_affine(span: Range, *, symmetry: str, dtype: str = "int8") -> Affine:
    """Choose per-tensor parameters of an activation.

    Args:
        span: Its range.
        symmetry: ``symmetric`` or ``asymmetric``, as the target's rules say.
        dtype: ``int8`` or ``uint8``.

    Raises:
        ValueError: The symmetry is neither.
    """
    if symmetry == "symmetric":
        return symmetric(span, dtype=dtype)
    if symmetry == "asymmetric":
        return asymmetric(span, dtype=dtype)
    raise ValueError(f"symmetry must be symmetric or asymmetric, got {symmetry!r}")


def weight_affine(
    weights: NDArray[Any], *, axis: int | None, bits: int = 8, floor: NDArray[np.float64] | float = 0.0
) -> Affine:
    """Choose symmetric parameters of constant weights.

    Args:
        weights: Float weights of any rank.
        axis: Channel axis, or None for one scale.
        bits: 8 or 7, rule 2.
        floor: Smallest scale allowed, per channel or one for all (rule 4).
    """
    kept = None if axis is None else axis % weights.ndim
    others = tuple(i for i in range(weights.ndim) if i != kept)
    peak = np.abs(weights.astype(np.float64)).max(axis=others, initial=0.0)
    least = np.max(floor) if kept is None else floor
    scale = np.asarray(np.maximum(np.maximum(peak / WEIGHT_HIGH[bits], least), MIN_SCALE), np.float32)
    return Affine(scale=scale, zero_point=np.zeros(scale.shape, np.int32), axis=kept)


def bias_floor(bias: NDArray[Any], *, input_scale: float) -> NDArray[np.float64]:
    """Return the smallest weight scale per channel whose int32 bias still fits: |b| / (s_x * BIAS_LIMIT)."""
    return np.abs(bias.astype(np.float64)) / (input_scale * BIAS_LIMIT)


def bias_affine(*, input_affine: Affine, weight: Affine) -> Affine:
    """Return the parameters of an int32 bias: s_x * s_w, zero point 0."""
    scale = np.asarray(input_affine.scale * weight.scale, np.float32)
    return Affine(scale=scale, zero_point=np.zeros(scale.shape, np.int32), axis=None if scale.ndim == 0 else 0)


def quantize(values: NDArray[Any], affine: Affine, *, dtype: str = "int8") -> NDArray[Any]:
    """Round values to integers of a type and saturate at its ends."""
    scale, zero_point = affine.along(values.ndim)
    whole = np.rint(values.astype(np.float64) / scale.astype(np.float64)) + zero_point
    limits = np.iinfo(dtype)
    return np.clip(whole, limits.min, limits.max).astype(dtype)


def dequantize(integers: NDArray[Any], affine: Affine) -> NDArray[np.float32]:
    """Turn integers back into real values, float32, as ONNX's DequantizeLinear does."""
    scale, zero_point = affine.along(integers.ndim)
    return np.asarray((integers.astype(np.int64) - zero_point) * scale, np.float32)
