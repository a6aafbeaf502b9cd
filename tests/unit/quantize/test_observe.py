from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgepe.errors import DataError
from edgepe.quantize.histogram import BINS
from edgepe.quantize.observe import WHOLE, ObservedGraph, stride
from tests.small_graphs import graph

SIDE = 120


def large() -> ir.Model:
    """Return a graph whose values are too large to be looked at whole: x [b, 2, side, side] → y."""
    shape: list[int | str] = ["b", 2, SIDE, SIDE]
    model = graph("q = Sqrt(x) y = Neg(q)", inputs={"x": shape}, outputs={"y": shape})
    for node in model.graph:
        for value in node.outputs:
            value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    return model


def positive(samples: int = 3) -> np.ndarray:
    """Return samples that have a root."""
    return np.random.default_rng(0).uniform(0, 9, (samples, 2, SIDE, SIDE)).astype(np.float32)


def test_a_large_value_tells_its_exact_span_and_a_fair_part() -> None:
    x = positive()
    told = {each.name: each for each in ObservedGraph(large(), bins=BINS).observe({"x": x})}
    assert list(told) == ["x", "q", "y"]
    for name, array in {"x": x, "q": np.sqrt(x), "y": -np.sqrt(x)}.items():
        assert (told[name].low, told[name].high) == (array.min(), array.max())
        part = told[name].values
        assert part is not None
        assert WHOLE / 2 <= part.size / len(x) <= WHOLE
        assert np.isin(part, array).all()
        assert part.mean() == pytest.approx(array.mean(), rel=0.02)


def test_spans_alone_bring_no_elements() -> None:
    assert all(each.values is None for each in ObservedGraph(large(), bins=0).observe({"x": positive()}))


def test_the_part_of_a_sample_does_not_depend_on_its_batch() -> None:
    x, observed = positive(), ObservedGraph(large(), bins=BINS)
    together = {each.name: each.values for each in observed.observe({"x": x})}
    alone = [{each.name: each.values for each in observed.observe({"x": x[at : at + 1]})} for at in range(3)]
    for name, part in together.items():
        assert part is not None
        apart = [values for each in alone if (values := each[name]) is not None]
        assert len(apart) == len(alone)
        assert np.array_equal(part, np.concatenate(apart))


def test_one_element_in_thousands_that_is_not_finite_is_found() -> None:
    x = positive()
    x[1, 1, 60, 61] = -1.0
    with pytest.raises(DataError, match="'q' is not finite"):
        list(ObservedGraph(large(), bins=0).observe({"x": x}))


def test_a_sum_beyond_float_of_finite_elements_is_no_error() -> None:
    x = np.full((1, 2, SIDE, SIDE), 3e37, np.float32)
    (first, *_) = ObservedGraph(large(), bins=0).observe({"x": x})
    assert first.high == x.max()


@pytest.mark.parametrize("elements", [8193, 112 * 112 * 32, 3 * 224 * 224, 30030])
def test_a_stride_walks_over_every_residue(elements: int) -> None:
    step = stride(elements)
    assert np.gcd(step, elements) == 1
    assert elements / step <= WHOLE
