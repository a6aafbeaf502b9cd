"""From the value an application has to the tensor a model takes; the same code on the host and on the device.

Rules kept here:
1. ``(raw · scale - mean) / std`` along the raw layout's channel axis, all in float32, then transposed to the model's
   layout.
2. Without a ``Preprocess`` the value passes through untouched.
3. A shape is checked before anything is computed; a size-1 axis is never broadcast to fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from device_agent.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from device_agent.runtime.base import Array
    from device_agent.wire.manifest import Preprocess, TensorSpec

__all__ = ["prepare", "prepare_all"]

CHANNEL = "C"


def prepare_all(raw: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Prepare every input of a model.

    Args:
        raw: One raw array per input name.
        specs: The model's inputs.

    Raises:
        ModelError: Names or shapes do not fit.
    """
    names = {spec.name for spec in specs}
    if names != set(raw):
        raise ModelError("The inputs do not have the model's names.", expected=sorted(names), got=sorted(raw))
    return {spec.name: prepare(raw[spec.name], spec) for spec in specs}


def prepare(raw: Array, spec: TensorSpec) -> Array:
    """Turn a raw value into the tensor that the model takes.

    Args:
        raw: The value as the application has it: shape ``spec.raw_shape``; any integer or float dtype where the
            spec has a preprocess, else ``spec.dtype``.
        spec: The model's input.

    Returns:
        A C-contiguous array of ``spec.dtype`` and ``spec.shape``.

    Raises:
        ModelError: The shape does not fit, or the value is not numeric.
    """
    expected = spec.raw_shape
    if len(raw.shape) != len(expected) or any(e not in (-1, g) for e, g in zip(expected, raw.shape, strict=True)):
        raise ModelError(f"Input {spec.name!r} has the wrong shape.", expected=list(expected), got=list(raw.shape))
    rule = spec.preprocess
    if rule is None:
        return raw
    if raw.dtype.kind not in "iuf":
        raise ModelError(f"Input {spec.name!r} is not numeric.", expected="integers or floats", got=raw.dtype.name)
    value = raw.astype(np.float32)
    normalize(value, rule, layout=spec.raw_layout, name=spec.name)
    if spec.raw_layout != spec.layout:
        value = value.transpose(permutation(spec.raw_layout, spec.layout))
    return np.ascontiguousarray(value, dtype=spec.dtype)


def normalize(value: Array, rule: Preprocess, *, layout: str, name: str) -> None:
    """Apply scale, mean and std along the channel axis, in place.

    Raises:
        ModelError: There are several means or stds and they do not match the channels.
    """
    if rule.scale != 1:
        value *= np.float32(rule.scale)
    if any(rule.mean):
        value -= along_channels(rule.mean, value.shape, layout, name)
    if any(step != 1 for step in rule.std):
        value /= along_channels(rule.std, value.shape, layout, name)


def along_channels(values: Sequence[float], shape: Sequence[int], layout: str, name: str) -> Array:
    """Shape per-channel constants so that they broadcast along the channel axis.

    Raises:
        ModelError: Their number is neither one nor the number of channels.
    """
    row = np.asarray(values, np.float32)
    if len(values) == 1:
        return row
    axis = layout.find(CHANNEL)
    if axis < 0 or shape[axis] != len(values):
        raise ModelError(
            f"Input {name!r} has other channels than its mean and std.",
            expected=f"{len(values)} along {CHANNEL} of {layout or 'no layout'}",
            got=list(shape),
        )
    return row.reshape([-1 if at == axis else 1 for at in range(len(shape))])


def permutation(source: str, target: str) -> tuple[int, ...]:
    """Return the axes that transpose a value from one layout to another (the manifest has checked their letters)."""
    return tuple(source.index(axis) for axis in target)
