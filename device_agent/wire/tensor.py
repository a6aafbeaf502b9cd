"""One input or output of a model, and how a raw value becomes it.

Rules kept here:
1. ``shape`` is the artifact's shape in ``layout``; -1 is a symbolic batch.
2. A raw value in ``Preprocess.layout`` becomes ``(x · scale - mean) / std`` along the channel axis, float32, and is
   then transposed to ``TensorSpec.layout``. ``raw_shape`` is ``shape`` with the axes in the raw order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from device_agent.wire.errors import WireError
from device_agent.wire.fields import Extra, Fields, merge_extra

__all__ = ["LAYOUTS", "Preprocess", "TensorSpec"]

LAYOUTS = ("", "NC", "NCW", "NWC", "NCHW", "NHWC")
"""The known orders of axes; empty leaves them unnamed."""

_MAX_RANK = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """From the application's value to the model's: ``(x · scale - mean) / std`` along the channel axis of ``layout``.

    Attributes:
        layout: Order of the axes of the raw value, the same letters as the tensor's layout; empty for the same order.
        scale: Factor on the raw value.
        mean: One number per channel, or one for all, or none.
        std: One positive number per channel, or one for all, or none.
    """

    layout: str = ""
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    extra: Extra = ()

    def __post_init__(self) -> None:
        _check_layout(self.layout)
        if not all(math.isfinite(value) for value in (self.scale, *self.mean, *self.std)):
            raise WireError("Preprocessing is done with finite numbers.", got=self)
        if any(value <= 0 for value in self.std):
            raise WireError("A standard deviation is positive.", got=self.std)

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "layout": self.layout,
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> Preprocess:
        """Read the value from its JSON object."""
        return cls(
            layout=fields.text("layout", default=""),
            scale=fields.number("scale", default=1.0),
            mean=fields.numbers("mean"),
            std=fields.numbers("std"),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output: name, dtype as numpy spells it, shape with -1 for a symbolic batch, order of the axes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str = ""
    preprocess: Preprocess | None = None
    extra: Extra = ()

    def __post_init__(self) -> None:
        _check_layout(self.layout)
        if len(self.shape) > _MAX_RANK or any(size < -1 or size == 0 for size in self.shape):
            raise WireError(
                "This is no shape of a tensor.", expected="positive sizes, -1 for the batch", got=self.shape
            )
        if self.layout and len(self.layout) != len(self.shape):
            raise WireError("Layout and shape differ in rank.", expected=self.layout, got=self.shape)
        raw = self.preprocess.layout if self.preprocess else ""
        if raw and sorted(raw) != sorted(self.layout):
            raise WireError("The raw layout has other axes.", expected=f"the letters of {self.layout!r}", got=raw)

    @property
    def raw_layout(self) -> str:
        """Return the order of the axes of the raw value."""
        return (self.preprocess.layout if self.preprocess else "") or self.layout

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Return the shape of the raw value.

        >>> TensorSpec(name="x", dtype="float32", shape=(-1, 3, 100), layout="NCW",
        ...            preprocess=Preprocess(layout="NWC")).raw_shape
        (-1, 100, 3)
        """
        if not self.layout:
            return self.shape
        return tuple(self.shape[self.layout.index(axis)] for axis in self.raw_layout)

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "layout": self.layout,
            "preprocess": self.preprocess.to_json() if self.preprocess else None,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> TensorSpec:
        """Read the value from its JSON object."""
        preprocess = fields.fields_or_none("preprocess")
        return cls(
            name=fields.text("name"),
            dtype=fields.text("dtype"),
            shape=fields.integers("shape", low=-1),
            layout=fields.text("layout", default=""),
            preprocess=Preprocess.read(preprocess) if preprocess else None,
            extra=fields.extra(),
        )


def _check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise WireError("This layout is not known.", expected=LAYOUTS, got=layout)
