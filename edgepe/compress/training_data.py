"""Training data as tensors, checked where it is made.

Rules kept here:
1. Inputs are as the network takes them: preprocessed, float32, batch first. Labels are class indices, int64.
2. Nothing is repaired: lengths that differ, values that are not finite, labels out of range are errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgepe.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Samples", "TrainingData", "samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Inputs float32 [n, ...] and labels int64 [n]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.y)

    def shuffled(self, batch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches in random order; a last batch of less than two is left out (BatchNorm needs a variance)."""
        for picked in torch.split(torch.randperm(len(self), generator=generator), batch):
            if len(picked) > 1:
                yield self.x[picked], self.y[picked]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a run learns from, what it is tuned on, and how many classes there are."""

    train: Samples
    validation: Samples
    classes: int


def samples(x: NDArray[np.float32], y: NDArray[np.int64], *, classes: int) -> Samples:
    """Check arrays and return them as tensors.

    Args:
        x: Inputs [n, ...].
        y: Labels [n].
        classes: Labels are 0 to classes - 1.

    Raises:
        DataError: Empty, of unequal length, not finite, or labels out of range.
    """
    if len(x) == 0 or len(x) != len(y):
        raise DataError(
            "inputs and labels do not fit",
            expected="as many labels as inputs, at least one",
            got=f"{len(x)} inputs, {len(y)} labels",
        )
    if not np.isfinite(x).all():
        raise DataError(
            "inputs are not finite",
            expected="finite numbers",
            got="NaN or infinity",
            next_step="clean the data; nothing is made up in its place",
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= classes:
        raise DataError(
            "labels are out of range",
            expected=f"integers 0..{classes - 1}",
            got=f"{y.dtype} {y.min()}..{y.max()}",
        )
    return Samples(
        x=torch.from_numpy(np.ascontiguousarray(x, np.float32)), y=torch.from_numpy(np.ascontiguousarray(y, np.int64))
    )
