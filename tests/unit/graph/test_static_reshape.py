from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgepe.graph.passes import run_passes
from tests.small_graphs import graph

INTS = {"i0": np.array(0), "i1": np.array(1), "at0": np.array([0]), "at1": np.array([1]), "at2": np.array([2])}
INTS |= {"rest": np.array([-1]), "six": np.array([6]), "ends": np.array([2**62])}


def _optimized(body: str, *, out: list[int | str]) -> ir.Model:
    def valid(after: ir.Model) -> None:
        onnx.checker.check_model(ir.serde.serialize_model(after), full_check=True)

    model = graph(body, inputs={"x": ["n", 3, 4, 2]}, outputs={"y": out}, constants=INTS)
    after = run_passes(model, check=valid)
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 2)).astype(np.float32)
    runs = [
        ort.InferenceSession(ir.serde.serialize_model(each).SerializeToString()).run(None, {"x": x})[0]
        for each in (model, after)
    ]
    np.testing.assert_array_equal(*runs)
    return after


@pytest.mark.parametrize(
    ("shape", "out"),
    [
        pytest.param("g = Gather(s, i0) u = Unsqueeze(g, at0) t = Concat<axis=0>(u, rest)", 24, id="view(size(0), -1)"),
        pytest.param("b = Slice(s, at0, at1) t = Concat<axis=0>(b, rest)", 24, id="flatten(1)"),
        pytest.param("b = Slice(s, at0, at1, at0) t = Concat<axis=0>(rest, six)", 6, id="a constant that looks open"),
    ],
)
def test_a_shape_computed_from_the_batch_becomes_constant(shape: str, out: int) -> None:
    after = _optimized(f"r = Relu(x) s = Shape(r) {shape} y = Reshape(r, t)", out=["m", out])
    assert [node.op_type for node in after.graph] == ["Relu", "Reshape"]
    assert list(after.graph.outputs[0].shape or ())[1] == out


def test_a_size_taken_to_another_place_becomes_the_rest() -> None:
    body = (
        "s = Shape(x) c = Slice(s, at1, at2) n = Slice(s, at0, at1) l = Slice(s, at2, ends) t = Concat<axis=0>(c, n, l)"
    )
    after = _optimized(f"{body} y = Reshape(x, t)", out=["a", "b", "c", "d"])
    assert [node.op_type for node in after.graph] == ["Reshape"]
    wanted = next(iter(after.graph)).inputs[1]
    assert wanted is not None
    assert wanted.const_value is not None
    assert wanted.const_value.numpy().tolist() == [3, -1, 4, 2]


def test_a_shape_that_depends_on_values_stays() -> None:
    body = "m = ReduceMax<keepdims=0>(x) z = Cast<to=7>(m) f = Mul(z, i0) o = Add(f, i1) u = Unsqueeze(o, at0)"
    after = _optimized(f"{body} t = Concat<axis=0>(u, rest) y = Reshape(x, t)", out=["a", "b"])
    assert "Concat" in [node.op_type for node in after.graph]
