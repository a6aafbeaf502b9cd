from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from edgepe.compress import samples
from edgepe.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

X = np.zeros((3, 2), np.float32)
Y = np.array([0, 1, 2], np.int64)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        pytest.param(X[:0], Y[:0], "do not fit", id="empty"),
        pytest.param(X, Y[:2], "do not fit", id="unequal"),
        pytest.param(np.full_like(X, np.nan), Y, "not finite", id="nan"),
        pytest.param(X, Y - 1, "out of range", id="negative-label"),
        pytest.param(X, Y + 1, "out of range", id="label-too-large"),
        pytest.param(X, Y.astype(np.float32), "out of range", id="float-label"),
    ],
)
def test_data_that_does_not_fit_is_refused(x: NDArray[np.float32], y: NDArray[np.int64], message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples(x, y, classes=3)


def test_shuffling_gives_every_sample_once_and_drops_a_last_batch_of_one() -> None:
    made = samples(np.arange(10, dtype=np.float32)[:, None], np.arange(10) % 3, classes=3)
    batches = list(made.shuffled(3, torch.Generator().manual_seed(0)))
    assert [len(y) for _, y in batches] == [3, 3, 3]
    seen = torch.cat([x for x, _ in batches])[:, 0].tolist()
    assert len(set(seen)) == 9
    assert seen != sorted(seen)
