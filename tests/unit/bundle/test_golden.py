from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from device_agent.runtime.golden import read_golden
from edgepe.bundle.golden import FEWEST, MOST, golden_bytes, golden_rows, golden_terms
from edgepe.data import dataset
from edgepe.scheme import Precision

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)


def test_rows_are_spread_over_the_data() -> None:
    rows = golden_rows(dataset({"x": RNG.normal(size=(100, 4))}))
    assert len(rows) == MOST
    assert (rows[0], rows[-1]) == (0, 99)


def test_large_samples_give_few_vectors_and_little_data_all_of_it() -> None:
    assert len(golden_rows(dataset({"x": RNG.normal(size=(10, 1 << 18))}))) == FEWEST
    assert len(golden_rows(dataset({"x": RNG.normal(size=(1, 4))}))) == 1


def test_the_device_reads_what_was_written_and_the_bytes_are_always_the_same(tmp_path: Path) -> None:
    inputs, outputs = {"x": RNG.normal(size=(3, 4))}, {"y": RNG.normal(size=(3, 2))}
    data = golden_bytes(inputs, outputs)
    assert data == golden_bytes(inputs, outputs)
    (tmp_path / "golden.npz").write_bytes(data)
    vectors = read_golden(tmp_path / "golden.npz")
    np.testing.assert_array_equal(vectors.inputs["x"], inputs["x"])
    np.testing.assert_array_equal(vectors.outputs["y"], outputs["y"])


def test_tolerances_grow_with_the_spread_and_shrink_with_the_precision() -> None:
    outputs = {"y": np.array([[0.0, 10.0]])}
    assert golden_terms(outputs, Precision.INT8).atol == 1.0
    assert golden_terms(outputs, Precision.FP32).atol == 0.01
    assert golden_terms({"y": np.zeros((2, 2))}, Precision.FP32).atol > 0
