"""The search on nets made so that one thing goes wrong: what it tries, what ships, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest

from edgepe.bundle import read_bundle, read_evidence
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.pipeline import Built, Request, build
from edgepe.target import load_target
from tests.small_graphs import graph, normal, run

if TYPE_CHECKING:
    from pathlib import Path


LAYERS = 4


def chain(activation: str = "Relu({})", **more: np.ndarray) -> ir.Model:
    """Return four convolutions of 16 channels and a classifier: x [b, 16, 8, 8] → y [b, 6]."""
    body, last = "", "x"
    constants: dict[str, np.ndarray] = {}
    for index in range(LAYERS):
        body += f"c{index} = Conv<pads=[1,1,1,1]>({last}, w{index}, b{index}) "
        body += f"r{index} = {activation.format(f'c{index}')} " if index < LAYERS - 1 else ""
        last = f"r{index}"
        constants |= {f"w{index}": normal(16, 16, 3, 3, seed=index) * 1.4, f"b{index}": normal(16, seed=index) / 20}
    body += f"g = GlobalAveragePool(c{LAYERS - 1}) f = Flatten(g) y = Gemm<transB=1>(f, fw, fb)"
    constants |= {"fw": normal(6, 16) * 4, "fb": np.zeros(6, np.float32)}
    return graph(body, inputs={"x": ["b", 16, 8, 8]}, outputs={"y": ["b", 6]}, constants=constants | more)


def with_one_sensitive_layer() -> ir.Model:
    """Return a chain whose last convolution has weights so large that int8 rounds its others to nothing.

    What stands between its layers is a Clip, which equalization does not cross.
    """
    faint, outlier = normal(16, 16, 3, 3, seed=2) * 1.4, normal(16, 16, 3, 3, seed=3) * 1.4
    faint[7] *= 1e-6
    bias = normal(16, seed=2) / 20
    bias[7] = 0.0
    outlier[:, 7] *= 2e3
    bounds = {"low": np.zeros((), np.float32), "high": np.full((), 6.0, np.float32)}
    return balanced("Clip({}, low, high)", w2=faint, b2=bias, w3=outlier, **bounds)


def samples() -> np.ndarray:
    """Return 300 samples [300, 16, 8, 8] that differ in the means of their channels."""
    rng = np.random.default_rng(4)
    return (rng.normal(size=(300, 16, 1, 1)) + 0.3 * rng.normal(size=(300, 16, 8, 8))).astype(np.float32)


def balanced(activation: str = "Relu({})", **constants: np.ndarray) -> ir.Model:
    """Return a chain whose classes are equally likely on the samples."""
    mean = run(chain(activation, **constants), {"x": samples()}).mean(axis=0)
    return chain(activation, fb=-mean, **constants)


def built(
    folder: Path, model: ir.Model, target: str, *, x: np.ndarray | None = None, **bounds: float
) -> tuple[Built, dict[str, str]]:
    """Build a model on drawn samples and return the row, and the reason of each operator with weights."""
    np.savez(folder / "data.npz", x=samples() if x is None else x)
    (folder / "net.onnx").write_bytes(onnx_bytes(model))
    request = Request(
        source=str(folder / "net.onnx"),
        targets=(load_target(target),),
        calibration=folder / "data.npz",
        out=folder,
        max_drop=bounds.get("drop"),
        max_latency_us=bounds.get("latency_us"),
    )
    (row,) = build(request)
    ops = read_bundle(row.path).manifest.ops
    return row, {op.node: f"{op.precision} {op.reason}" for op in ops if op.op in {"Conv", "Gemm"}}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["raspberry-pi", "jetson", "android"])
def test_the_sensitive_layer_goes_back_to_float(tmp_path: Path, target: str) -> None:
    row, ops = built(tmp_path, with_one_sensitive_layer(), target, drop=4)
    assert str(row.precision) == "mixed"
    assert ops["n_c3"] == "fp32 sensitive"
    assert {ops[node] for node in ("n_c0", "n_c1", "n_c2")} == {"int8 target-rule"}
    assert row.bytes < 0.6 * row.float_bytes
    assert row.verdict.held
    attempts = read_evidence(row.path)["attempts"]
    assert attempts[0]["precision"] == "int8"  # type: ignore[index] # JSON values
    assert "n_c3" in attempts[-1]["note"]  # type: ignore[index] # JSON values
    assert "int8 breaks max_drop" in row.why


def with_uneven_channels() -> ir.Model:
    """Return a chain that computes the same as another, with channels of its middle that differ by powers of ten."""
    scale = np.float32(10.0) ** np.linspace(-2, 2, 16, dtype=np.float32)
    before, after = normal(16, 16, 3, 3, seed=1) * 1.4, normal(16, 16, 3, 3, seed=2) * 1.4
    bias = normal(16, seed=1) / 20
    return balanced(w1=before * scale[:, None, None, None], b1=bias * scale, w2=after / scale[None, :, None, None])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["raspberry-pi", "android"])
def test_uneven_channels_are_equalized_and_stay_int8(tmp_path: Path, target: str) -> None:
    row, ops = built(tmp_path, with_uneven_channels(), target, drop=4)
    assert str(row.precision) == "int8"
    assert set(ops.values()) == {"int8 target-rule"}
    attempts = read_evidence(row.path)["attempts"]
    assert "equalize" in attempts[-1]["note"]  # type: ignore[index] # JSON values
    assert row.verdict.held


@pytest.mark.slow
def test_speed_beside_float_is_measured_where_this_machine_is_the_target_and_told(tmp_path: Path) -> None:
    row, _ = built(tmp_path, chain(), "generic")
    raced = read_evidence(row.path)["against_float"]
    assert isinstance(raced, dict)
    assert len(raced["us"]) == len(raced["float_us"]) == 3
    assert ("slower than float: measured" in row.why) == raced["slower"]


@pytest.mark.slow
def test_int8_that_the_cost_table_calls_slower_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    body = "h = Gemm<transB=1>(x, w, b) y = Gemm<transB=1>(h, v, c)"
    constants = {"w": normal(8, 4), "b": normal(8), "v": normal(3, 8), "c": normal(3)}
    tiny = graph(body, inputs={"x": ["b", 4]}, outputs={"y": ["b", 3]}, constants=constants)
    row, _ = built(tmp_path, tiny, "raspberry-pi", x=np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    assert str(row.precision) == "fp32"
    assert "int8 takes 1." in row.why
    assert "times as long as float" in row.why
