from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgepe.errors import DataError
from edgepe.quantize.cache import RangeCache
from edgepe.quantize.calibrate import METHODS, Method, collect_ranges
from edgepe.quantize.calibration import calibrate
from tests.small_graphs import cnn, graph, normal

if TYPE_CHECKING:
    from collections.abc import Iterator

X = np.random.default_rng(0).normal(size=(70, 3, 12, 12)).astype(np.float32)


class Held:
    """Samples in memory."""

    def __init__(self, x: np.ndarray, digest: str = "d") -> None:
        self._x = x
        self.digest = digest

    def __len__(self) -> int:
        return len(self._x)

    def batches(self, size: int, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yield slices."""
        for start in range(first, len(self._x), size):
            yield {"x": self._x[start : start + size]}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_ranges_are_the_same_with_and_without_a_cache(tmp_path: Path, method: Method) -> None:
    wanted = collect_ranges(cnn(), Held(X).batches(32), method=method)
    cache = RangeCache(tmp_path, every_s=0.0)
    assert calibrate(cnn(), Held(X), method=method) == wanted
    assert calibrate(cnn(), Held(X), method=method, cache=cache) == wanted
    assert calibrate(cnn(), Held(X), method=method, cache=cache) == wanted


def test_other_data_is_calibrated_anew(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path)
    one = calibrate(cnn(), Held(X, "one"), method=METHODS["min-max"], cache=cache)
    other = calibrate(cnn(), Held(2 * X, "two"), method=METHODS["min-max"], cache=cache)
    assert other["x"].high == 2 * one["x"].high


@pytest.mark.parametrize("kept", [True, False], ids=["cache", "no cache"])
def test_a_fixed_batch_that_the_samples_do_not_fill_is_filled_up(tmp_path: Path, *, kept: bool) -> None:
    model = graph("y = MatMul(x, w)", inputs={"x": [8, 4]}, outputs={"y": [8, 2]}, constants={"w": normal(4, 2)})
    x = np.arange(80, dtype=np.float32).reshape(20, 4)
    seen: list[int] = []
    cache = RangeCache(tmp_path) if kept else None
    ranges = calibrate(model, Held(x), method=METHODS["percentile"], cache=cache, progress=seen.append)
    assert ranges["x"].high == 79.0
    assert seen[-1] == 20


def test_no_samples_are_an_error_also_with_a_cache(tmp_path: Path) -> None:
    for cache in (RangeCache(tmp_path), None):
        with pytest.raises(DataError, match="no calibration samples"):
            calibrate(cnn(), Held(X[:0]), method=METHODS["mse"], cache=cache)
    assert not list(tmp_path.iterdir())
