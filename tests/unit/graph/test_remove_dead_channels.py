from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepe.graph.passes import run_passes
from tests.small_graphs import cnn, graph, normal

DEAD = (0, 3, 4, 7)


def _run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(ir.serde.serialize_model(model).SerializeToString()).run(None, {"x": x})[0])


def _optimized(model: ir.Model, *shape: int) -> ir.Model:
    def valid(after: ir.Model) -> None:
        onnx.checker.check_model(ir.serde.serialize_model(after), full_check=True)

    after = run_passes(model, check=valid)
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(_run(after, x), _run(model, x), atol=1e-5)
    return after


def _shapes(model: ir.Model) -> list[tuple[int, ...]]:
    """Return the shapes of the weights, in the order of the nodes."""
    weights = (node.inputs[1] for node in model.graph if node.op_type in {"Conv", "Gemm"})
    return [tuple(weight.const_value.numpy().shape) for weight in weights if weight is not None and weight.const_value]


def _masked(array: np.ndarray, dead: tuple[int, ...] = DEAD, axis: int = 0) -> np.ndarray:
    masked = array.copy()
    np.moveaxis(masked, axis, 0)[list(dead)] = 0
    return masked


def _model(body: str, weights: dict[str, np.ndarray], *, shape: list[int | str], out: list[int | str]) -> ir.Model:
    return graph(body, inputs={"x": shape}, outputs={"y": out}, constants=weights)


CHAIN = "c = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(c) y = Conv{pads}(r, w2, b2)"


def _chain(*, pads: str, bias: np.ndarray) -> ir.Model:
    weights = {"w1": _masked(normal(8, 3, 3, 3)), "b1": bias, "w2": normal(5, 8, 3, 3), "b2": normal(5)}
    side = 10 if pads else 8
    return _model(CHAIN.format(pads=pads), weights, shape=["n", 3, 10, 10], out=["n", 5, side, side])


def test_a_channel_of_zeros_is_cut_out_of_both_convolutions() -> None:
    after = _optimized(_chain(pads="<pads=[1,1,1,1]>", bias=_masked(normal(8))), 2, 3, 10, 10)
    assert _shapes(after) == [(4, 3, 3, 3), (5, 4, 3, 3)]


def test_what_its_bias_says_joins_the_readers_bias() -> None:
    assert _shapes(_optimized(_chain(pads="", bias=np.abs(normal(8)) + 1), 2, 3, 10, 10)) == [
        (4, 3, 3, 3),
        (5, 4, 3, 3),
    ]


def test_a_constant_that_padding_would_break_keeps_its_channel() -> None:
    bias = np.full(8, 0.5, np.float32)
    bias[3] = -1  # ReLU makes it zero
    assert _shapes(_optimized(_chain(pads="<pads=[1,1,1,1]>", bias=bias), 2, 3, 10, 10)) == [(7, 3, 3, 3), (5, 7, 3, 3)]


def test_a_channel_that_nobody_reads_is_cut_out() -> None:
    weights = {"w1": normal(8, 4), "b1": normal(8), "w2": _masked(normal(3, 8), axis=1), "b2": normal(3)}
    model = _model(
        "a = Gemm<transB=1>(x, w1, b1) r = Tanh(a) y = Gemm<transB=1>(r, w2, b2)", weights, shape=["n", 4], out=["n", 3]
    )
    assert _shapes(_optimized(model, 5, 4)) == [(4, 4), (3, 4)]


@pytest.mark.parametrize(
    "flatten",
    [
        pytest.param("f = Flatten(p)", id="Flatten"),
        pytest.param("f = Reshape(p, to)", id="Reshape"),
    ],
)
@pytest.mark.parametrize("trans", [0, 1])
def test_a_flattening_takes_its_columns_along(flatten: str, trans: int) -> None:
    head = normal(5, 8 * 9)
    weights = {
        "w1": _masked(normal(8, 3, 3, 3)),
        "b1": normal(8),
        "w2": head if trans else head.T.copy(),
        "b2": normal(5),
    }
    weights["to"] = np.array([-1, 72], np.int64)
    body = f"c = Conv(x, w1, b1) r = LeakyRelu(c) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) {flatten} "
    model = _model(f"{body} y = Gemm<transB={trans}>(f, w2, b2)", weights, shape=["n", 3, 8, 8], out=["n", 5])
    assert _shapes(_optimized(model, 2, 3, 8, 8)) == [(4, 3, 3, 3), (5, 36) if trans else (36, 5)]


def test_a_depthwise_convolution_between_is_cut_too() -> None:
    weights = {"w1": _masked(normal(8, 3, 1, 1)), "b1": _masked(normal(8)), "wd": normal(8, 1, 3, 3), "bd": normal(8)}
    weights |= {
        "w2": normal(5, 8, 1, 1),
        "b2": normal(5),
        "zero": np.zeros((), np.float32),
        "six": np.full((), 6, np.float32),
    }
    body = "c = Conv(x, w1, b1) r = Clip(c, zero, six) d = Conv<group=8, pads=[1,1,1,1]>(r, wd, bd) "
    body += "e = Relu(d) y = Conv(e, w2, b2)"
    after = _optimized(_model(body, weights, shape=["n", 3, 6, 6], out=["n", 5, 6, 6]), 2, 3, 6, 6)
    assert _shapes(after) == [(4, 3, 1, 1), (4, 1, 3, 3), (5, 4, 1, 1)]


def test_widths_above_eight_stay_multiples_of_eight() -> None:
    weights = {"w1": _masked(normal(24, 4), tuple(range(11))), "b1": normal(24), "w2": normal(3, 24), "b2": normal(3)}
    model = _model(
        "a = Gemm<transB=1>(x, w1, b1) r = Relu(a) y = Gemm<transB=1>(r, w2, b2)", weights, shape=["n", 4], out=["n", 3]
    )
    assert _shapes(_optimized(model, 5, 4)) == [(16, 4), (3, 16)]


def test_a_layer_of_zeros_keeps_one_channel() -> None:
    weights = {"w1": np.zeros((6, 4), np.float32), "b1": normal(6), "w2": normal(3, 6), "b2": normal(3)}
    model = _model(
        "a = Gemm<transB=1>(x, w1, b1) r = Relu(a) y = Gemm<transB=1>(r, w2, b2)", weights, shape=["n", 4], out=["n", 3]
    )
    assert _shapes(_optimized(model, 5, 4)) == [(1, 4), (3, 1)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("r = Relu(x) c = Conv(r, w1, b1) s = Add(c, r) y = Conv(s, w2, b2)", id="a residual"),
        pytest.param("c = Conv(x, w1, b1) s = Softmax<axis=1>(c) y = Conv(s, w2, b2)", id="channels that meet"),
    ],
)
def test_other_chains_keep_their_channels(body: str) -> None:
    weights = {"w1": _masked(normal(8, 8, 1, 1)), "b1": normal(8), "w2": normal(5, 8, 1, 1), "b2": normal(5)}
    after = _optimized(_model(body, weights, shape=["n", 8, 6, 6], out=["n", 5, 6, 6]), 2, 8, 6, 6)
    assert _shapes(after) == [(8, 8, 1, 1), (5, 8, 1, 1)]


def test_a_net_without_dead_channels_stays_as_it_is() -> None:
    before = cnn()
    assert _shapes(_optimized(before, 2, 3, 12, 12)) == _shapes(before)


@settings(max_examples=25, deadline=None)
@given(
    dead=st.sets(st.integers(0, 7), max_size=8),
    bias=st.sampled_from([0.0, -1.0, 0.75]),
    pads=st.booleans(),
    middle=st.sampled_from(
        ["Relu(c)", "Sigmoid(c)", "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(c)"]
    ),
)
def test_whatever_is_dead_the_function_stays(dead: set[int], bias: float, pads: bool, middle: str) -> None:  # noqa: FBT001 - drawn
    weights = {"w1": _masked(normal(8, 3, 3, 3), tuple(dead)), "b1": np.full(8, bias, np.float32)}
    weights |= {"w2": normal(5, 8, 3, 3), "b2": normal(5)}
    side, attributes = (10, "<pads=[1,1,1,1]>") if pads else (8, "")
    body = f"c = Conv<pads=[1,1,1,1]>(x, w1, b1) r = {middle} y = Conv{attributes}(r, w2, b2)"
    _optimized(_model(body, weights, shape=["n", 3, 10, 10], out=["n", 5, side, side]), 2, 3, 10, 10)
