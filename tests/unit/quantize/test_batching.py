from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgepe.graph import optimize
from edgepe.quantize.batching import LARGEST, batch_size, sample_bytes
from edgepe.quantize.calibrate import collect_ranges
from edgepe.quantize.methods import MeanSquare
from tests.onnx_graphs import Graph
from tests.small_graphs import cnn


def wide(batch: int | str = "n") -> ir.Model:
    """Return a graph whose values are large: x [n, 3, 64, 64], then 16 and 8 channels of the same size."""
    graph = Graph((batch, 3, 64, 64))
    graph.then("Conv", graph.weight(16, 3, 3, 3), pads=[1, 1, 1, 1]).then("Relu")
    return optimize(graph.then("Conv", graph.weight(8, 16, 1, 1)).model())


def test_the_bytes_of_a_sample_are_those_of_its_values() -> None:
    assert sample_bytes(wide()) == 4 * (3 + 16 + 16 + 8) * 64 * 64


def test_a_batch_is_what_fits_the_budget() -> None:
    model = wide()
    assert batch_size(model, budget_bytes=5 * sample_bytes(model)) == 5
    assert batch_size(model, budget_bytes=1) == 1
    assert batch_size(cnn()) == LARGEST


def test_a_fixed_batch_is_kept() -> None:
    assert batch_size(wide(7)) == 7


def test_the_size_of_a_batch_does_not_change_the_ranges_of_large_values() -> None:
    model, x = wide(), np.random.default_rng(0).normal(size=(6, 3, 64, 64)).astype(np.float32)
    one, other = (
        collect_ranges(model, [{"x": x[at : at + size]} for at in range(0, 6, size)], method=MeanSquare())
        for size in (1, 3)
    )
    assert one == other
