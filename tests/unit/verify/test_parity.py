from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from edgepe.capture.onnx_source import captured_from
from edgepe.errors import VerifyError
from edgepe.quantize.calibrate import collect_ranges
from edgepe.scheme import Precision
from edgepe.stages.candidate import make_artifact
from edgepe.target import load_target
from edgepe.verify.parity import (
    DIVERGENT_DB,
    FAITHFUL_DB,
    Parity,
    compare_layers,
    sample_count,
    sqnr_db,
    steps,
)
from edgepe.verify.parity_child import Energy, main
from edgepe.verify.standin import stand_in
from tests.small_graphs import cnn, feeds, graph, normal

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from edgepe.capture.captured import Captured


def captured(model: ir.Model | None = None) -> Captured:
    return captured_from(model or cnn(), name="net")


def compared(folder: Path, target_name: str, precision: Precision, *, spoil: str = "") -> Parity:
    """Build the float file and an artifact of the small CNN, spoil one of the artifact's weights, compare them."""
    net, target = captured(), load_target(target_name)
    samples = feeds(net.model, samples=8)
    ranges = collect_ranges(net.model, [samples])
    paths = []
    for each in (Precision.FP32, precision):
        artifact = make_artifact(net, target, each, ranges)
        paths.append(folder / f"{each}.{target.format}")
        paths[-1].write_bytes(artifact.data)
    if spoil:
        paths[1].write_bytes(spoiled(paths[1].read_bytes(), spoil))
    inputs = {name: array if target.format == "onnx" else np.moveaxis(array, 1, -1) for name, array in samples.items()}
    return compare_layers(paths[0], paths[1], stand_in(target, precision), inputs, steps(net.model))


def spoiled(data: bytes, node_name: str) -> bytes:
    """Return a model whose node has a weight with its channels turned round."""
    model = onnx.load_model_from_string(data)
    node = next(node for node in model.graph.node if node.name == node_name)
    producers = {output: other for other in model.graph.node for output in other.output}
    weight = producers[node.input[1]].input[0]
    initializer = next(each for each in model.graph.initializer if each.name == weight)
    array = onnx.numpy_helper.to_array(initializer)
    initializer.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array[::-1]), weight))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("target", ["raspberry-pi", "jetson", "generic", "android"])
def test_an_int8_artifact_is_near_its_twin_in_every_layer(tmp_path: Path, target: str) -> None:
    parity = compared(tmp_path, target, Precision.INT8)
    nodes = [layer.node for layer in parity.layers] + [node for layer in parity.layers for node in layer.fused]
    skipped = [node for node, _ in parity.skipped]
    assert sorted((*nodes, *skipped)) == sorted(step.node for step in steps(captured().model))
    assert len(parity.layers) >= 7
    assert all(15 < layer.sqnr_db < 60 for layer in parity.layers)
    assert all(0 < layer.max_error < layer.peak for layer in parity.layers)
    assert parity.first_divergent is None
    assert parity.samples == 8


@pytest.mark.parametrize("target", ["raspberry-pi", "jetson", "generic", "android"])
def test_probing_leaves_the_outputs_as_they_ship(tmp_path: Path, target: str) -> None:
    assert compared(tmp_path, target, Precision.INT8).disturbance_db > FAITHFUL_DB


def test_a_planted_bad_layer_is_the_first_divergent_one(tmp_path: Path) -> None:
    parity = compared(tmp_path, "raspberry-pi", Precision.INT8, spoil="n_c2")
    assert parity.first_divergent is not None
    assert parity.first_divergent.node == "n_c2"
    assert parity.first_divergent.sqnr_db < DIVERGENT_DB
    before = [layer for layer in parity.layers if layer.node in {"n_c1", "n_p1"}]
    assert len(before) == 2
    assert all(layer.sqnr_db > 25 for layer in before)


def test_a_relu_that_folded_away_is_told_with_its_producer(tmp_path: Path) -> None:
    parity = compared(tmp_path, "raspberry-pi", Precision.INT8)
    assert next(layer for layer in parity.layers if layer.node == "n_c1").fused == ("n_r1",)


def test_a_float_artifact_is_exact(tmp_path: Path) -> None:
    parity = compared(tmp_path, "generic", Precision.FP32)
    assert {layer.sqnr_db for layer in parity.layers} == {150.0}


def test_half_precision_is_nearer_than_int8(tmp_path: Path) -> None:
    parity = compared(tmp_path, "jetson", Precision.FP16)
    assert all(layer.sqnr_db > 50 for layer in parity.layers)


def test_a_node_without_a_counterpart_is_skipped_by_name(tmp_path: Path) -> None:
    net = captured(
        graph(
            "a = MatMul(x, w)\n b = Relu(a)\n y = Softmax(b)",
            inputs={"x": ["b", 4]},
            outputs={"y": ["b", 4]},
            constants={"w": normal(4, 4)},
        )
    )
    left = onnx.ModelProto.FromString(make_artifact(net, load_target("generic"), Precision.FP32, None).data)
    right = onnx.ModelProto()
    right.CopyFrom(left)
    right.graph.node[0].name = ""
    paths = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path, proto in zip(paths, (left, right), strict=True):
        path.write_bytes(proto.SerializeToString())
    judge = stand_in(load_target("generic"), Precision.FP32)
    parity = compare_layers(paths[0], paths[1], judge, feeds(net.model, samples=3), steps(net.model))
    assert [node for node, _ in parity.skipped] == ["n_a"]
    assert [layer.node for layer in parity.layers] == ["n_b", "n_y"]


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"\xff" * 40)
    judge = stand_in(load_target("generic"), Precision.FP32)
    with pytest.raises(VerifyError, match=r"a\.onnx cannot be probed"):
        compare_layers(tmp_path / "a.onnx", tmp_path / "b.onnx", judge, {"x": np.zeros((1, 4))}, ())


def test_a_tflite_file_that_is_none_is_the_childs_error(tmp_path: Path) -> None:
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).write_bytes(b"\xff" * 40)
    judge = stand_in(load_target("android"), Precision.INT8)
    with pytest.raises(VerifyError, match="cannot be compared"):
        compare_layers(tmp_path / "a.tflite", tmp_path / "b.tflite", judge, {"x": np.zeros((1, 4))}, ())


def test_a_job_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert main(tmp_path) == 0
    assert "parity.json" in (tmp_path / "found.json").read_text()


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(1.0, 0.1, 10.0), (1.0, 0.0, 150.0), (0.0, 0.0, 150.0), (0.0, 1.0, -150.0), (1.0, math.inf, -150.0)],
)
def test_decibels_are_finite(signal: float, noise: float, expected: float) -> None:
    assert sqnr_db(signal, noise) == pytest.approx(expected)


def test_energies_add_up_over_samples() -> None:
    left, right = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[1.0, 1.0], [3.0, -2.0]])
    at_once = Energy().add(left, right)
    assert at_once == Energy().add(left[0], right[0]).add(left[1], right[1])
    assert at_once == Energy(signal=30.0, noise=5.0, max_error=2.0, peak=4.0)


def test_an_infinite_reference_is_left_out_and_an_infinite_artifact_is_noise() -> None:
    masked = Energy().add(np.array([-np.inf, 1.0]), np.array([-1e9, 1.0]))
    assert masked == Energy(signal=1.0, noise=0.0, max_error=0.0, peak=1.0)
    assert Energy().add(np.array([1.0]), np.array([np.nan])).noise == math.inf


def test_large_activations_mean_fewer_samples() -> None:
    small = steps(captured().model)
    assert sample_count(1000, small) == 64
    assert sample_count(3, small) == 3
    huge = graph("y = Relu(x)", inputs={"x": ["b", 64, 1024, 1024]}, outputs={"y": ["b", 64, 1024, 1024]})
    assert sample_count(1000, steps(huge)) == 4
