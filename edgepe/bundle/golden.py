"""Golden vectors: a few real inputs, and what the artifact makes of them on a faithful twin of the device.

Rules kept here:
1. Inputs are raw and evenly spaced over the data, never made up.
2. The tolerance is a share of the spread of the outputs: another rounding passes, another model does not.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from device_agent.wire.manifest import Golden
from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgepe.data import Dataset

__all__ = ["GOLDEN_FILE", "golden_bytes", "golden_rows", "golden_terms"]

GOLDEN_FILE = "golden.npz"
MOST = 8
FEWEST = 2
BUDGET_BYTES = 1 << 18

# Share of the spread of the outputs that an element may be off, and share of the vectors that have to agree: int8
# kernels of different machines round differently, and one step of a requantization can move on through the layers.
TOLERANCE = {Precision.INT8: 0.1, Precision.MIXED: 0.1, Precision.FP16: 0.02, Precision.FP32: 1e-3}
MIN_AGREE = {Precision.INT8: 0.85, Precision.MIXED: 0.85, Precision.FP16: 1.0, Precision.FP32: 1.0}
RTOL = 1e-3


def golden_rows(data: Dataset) -> NDArray[np.int64]:
    """Return which samples of the data become golden vectors: evenly spaced, within the budget of bytes."""
    per_sample = sum(array[:1].nbytes for array in data.inputs.values())
    count = min(len(data), max(FEWEST, min(MOST, BUDGET_BYTES // max(per_sample, 1))))
    return np.linspace(0, len(data) - 1, count).round().astype(np.int64)


def golden_bytes(inputs: Mapping[str, NDArray[np.generic]], outputs: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return the bytes of ``golden.npz``.

    Args:
        inputs: Raw inputs by name, samples first.
        outputs: The artifact's outputs for them by name, samples first.
    """
    arrays = {f"in.{name}": array for name, array in inputs.items()}
    arrays |= {f"out.{name}": array for name, array in outputs.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # numpy dates its entries 1980, so the bytes are the same each time
    return buffer.getvalue()


def golden_terms(outputs: Mapping[str, NDArray[np.generic]], precision: Precision) -> Golden:
    """Return the tolerances under which another machine's outputs count as the same."""
    spread = max(float(np.ptp(array.astype(np.float64))) for array in outputs.values())
    return Golden(
        file=GOLDEN_FILE,
        count=len(next(iter(outputs.values()))),
        atol=TOLERANCE[precision] * spread or RTOL,
        rtol=RTOL,
        min_agree=MIN_AGREE[precision],
    )
