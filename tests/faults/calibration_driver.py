"""Calibrate into a cache and print each batch that runs: ``python -m tests.faults.calibration_driver FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepe.quantize.cache import RangeCache
from edgepe.quantize.calibration import calibrate
from edgepe.quantize.methods import MeanSquare
from tests.small_graphs import cnn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepe.quantize.ranges import Ranges

SAMPLES = 640


class Recorded:
    """Samples that grow, so that every batch changes the ranges; each batch that is asked for is printed."""

    digest = "0"

    def __len__(self) -> int:
        return SAMPLES

    def batches(self, size: int, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yield random samples."""
        for start in range(first, SAMPLES, size):
            sys.stdout.write(f"{start}\n")
            sys.stdout.flush()
            yield {"x": (np.random.default_rng(start).normal(size=(size, 3, 12, 12)) * start).astype(np.float32)}


def run(folder: Path | None) -> Ranges:
    """Calibrate, with a cache or without."""
    cache = RangeCache(folder, every_s=0.0) if folder else None
    return calibrate(cnn(), Recorded(), method=MeanSquare(), cache=cache)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
