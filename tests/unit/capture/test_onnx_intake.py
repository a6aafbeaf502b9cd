from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepe.capture import Captured, capture
from edgepe.capture.footprint import check_fits, least_bytes
from edgepe.errors import CaptureError, UnsupportedOpError, UsageError
from edgepe.scheme import Precision
from edgepe.target import load_target

X = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(len(name)).normal(size=shape).astype(np.float32), name)


def _ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _save(
    path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], *, opset: int, rank: int = 4
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{axis}" for axis in range(rank)])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.save(model, path)
    return path


def _net(path: Path, opset: int) -> Path:
    """Write a net whose operators were spelled differently in each of these operator sets."""
    constants = [
        _weight("w", 4, 3, 3, 3),
        _weight("fc", 5, 8),
        _weight("slope", 4, 1, 1),
        _ints("pads", *[0, 0, 1, 1] * 2),
    ]
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["c"]),
        helper.make_node("PRelu", ["c", "slope"], ["r"]),
        helper.make_node("Dropout", ["r"], ["d"]),
    ]
    if opset < 13:
        nodes += [
            helper.make_node("Split", ["d"], ["s1", "s2"], axis=1, split=[2, 2]),
            helper.make_node("ReduceSum", ["s2"], ["s"], axes=[2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["m"], ["m3"], axes=[2]),
            helper.make_node("Squeeze", ["m3"], ["m2"], axes=[2]),
        ]
    else:
        constants += [_ints("axes", 2, 3), _ints("two", 2), _ints("halves", 2, 2)]
        nodes += [
            helper.make_node("Split", ["d", "halves"], ["s1", "s2"], axis=1),
            helper.make_node("ReduceSum", ["s2", "axes"], ["s"], keepdims=0),
            helper.make_node("Unsqueeze", ["m", "two"], ["m3"]),
            helper.make_node("Squeeze", ["m3", "two"], ["m2"]),
        ]
    if opset < 18:
        mean = helper.make_node("ReduceMean", ["s1"], ["m"], axes=[2, 3], keepdims=0)
    else:
        mean = helper.make_node("ReduceMean", ["s1", "axes"], ["m"], keepdims=0)
    nodes.insert(5, mean)
    nodes += [
        helper.make_node("Concat", ["m2", "s", "m", "s"], ["k"], axis=1),
        helper.make_node("Gemm", ["k", "fc"], ["g"], transB=1),
        helper.make_node("Softmax", ["g"], ["y"], axis=-1),
    ]
    return _save(path, nodes, constants, opset=opset, rank=2)


def _run(model: bytes | str, x: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(model).run(None, {"x": x})[0])


def _bytes(captured: Captured) -> bytes:
    return bytes(ir.serde.serialize_model(captured.model).SerializeToString())


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20, 22])
def test_each_operator_set_gives_one_graph_that_computes_the_same(tmp_path: Path, opset: int) -> None:
    path = _net(tmp_path / "a.onnx", opset)
    captured = capture(path)
    assert captured.model.opset_imports[""] == max(opset, 18)
    assert "Dropout" not in {node.op_type for node in captured.model.graph}
    np.testing.assert_allclose(_run(_bytes(captured), X), _run(str(path), X), atol=1e-5)


def test_outputs_cut_the_graph_and_what_they_do_not_need(tmp_path: Path) -> None:
    captured = capture(_net(tmp_path / "a.onnx", 13), outputs=("m", "r"))
    assert [port.name for port in captured.outputs] == ["m", "r"]
    assert captured.outputs[0].shape == (-1, 2)
    assert not {"Gemm", "Softmax", "ReduceSum"} & {node.op_type for node in captured.model.graph}


def test_a_foreign_tail_can_be_cut_off(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["boxes"], name="head"),
            helper.make_node("EfficientNMS", ["boxes"], ["kept"], domain="trt", name="suppress"),
        ],
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, ["n", 4])],
    )
    opsets = [helper.make_opsetid("", 16), helper.make_opsetid("trt", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(UnsupportedOpError, match=r"node 'suppress'[\s\S]*trt::EfficientNMS[\s\S]*--outputs") as raised:
        capture(tmp_path / "a.onnx")
    assert (raised.value.node, raised.value.op) == ("suppress", "EfficientNMS")
    assert capture(tmp_path / "a.onnx", outputs=("boxes",)).outputs[0].shape == (-1, 4)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [(("mm",), r"expected: m2?, "), (("zzz",), "no node of the graph writes"), (("m", "m"), "twice")],
)
def test_a_wrong_output_is_told_with_its_neighbours(tmp_path: Path, outputs: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        capture(_net(tmp_path / "a.onnx", 17), outputs=outputs)


def test_a_branch_that_shapes_decide_is_taken(tmp_path: Path) -> None:
    outer = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 3, 8, 8])
    branches = {
        "then_branch": helper.make_graph([helper.make_node("Identity", ["r"], ["b"])], "then", [], [outer]),
        "else_branch": helper.make_graph([helper.make_node("Neg", ["r"], ["b"])], "else", [], [outer]),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Shape", ["r"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["width"]),
        helper.make_node("Equal", ["width", "eight"], ["is_eight"]),
        helper.make_node("If", ["is_eight"], ["chosen"], **branches),
        helper.make_node("Sigmoid", ["chosen"], ["y"]),
    ]
    path = _save(tmp_path / "a.onnx", nodes, [_ints("axis", 3), _ints("eight", 8)], opset=15)
    captured = capture(path)
    assert [node.op_type for node in captured.model.graph] == ["Relu", "Sigmoid"]
    np.testing.assert_allclose(_run(_bytes(captured), X), _run(str(path), X), atol=1e-6)


def _external(folder: Path, *, location: str = "weights.bin", length: int = 32, offset: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 8], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    path = _save(folder / "a.onnx", [helper.make_node("Mul", ["x", "v"], ["y"])], [_weight("v", 8)], opset=18)
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(tensor)
    model.graph.initializer[0].name = "v"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_beside_the_model_is_brought_in(tmp_path: Path) -> None:
    captured = capture(_external(tmp_path / "m"))
    np.testing.assert_allclose(_run(_bytes(captured), X), X * np.arange(8, dtype=np.float32), atol=1e-6)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        pytest.param({"location": "../secret.bin"}, "expected: a file in", id="above"),
        pytest.param({"location": "/etc/passwd"}, "expected: a file in", id="absolute"),
        pytest.param({"location": "link.bin"}, "expected: a file in", id="a link that leads outside"),
        pytest.param({"location": "absent.bin"}, "no such file", id="absent"),
        pytest.param({"location": ""}, "no location", id="nowhere"),
        pytest.param({"length": 4_000_000_000}, "32 bytes, as its type", id="longer than its tensor"),
        pytest.param({"offset": 16}, "at 16 of a file of 32", id="beyond the end"),
        pytest.param({"offset": -4}, "at -4 of a file", id="before the beginning"),
    ],
)
def test_external_data_that_is_not_the_models_is_refused(tmp_path: Path, told: dict[str, Any], said: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = _external(tmp_path / "m", **told)
    with pytest.raises(CaptureError, match=f"external data of tensor 'v' is refused[\\s\\S]*{said}"):
        capture(path)


def test_a_tensor_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.onnx", [helper.make_node("Mul", ["x", "v"], ["y"])], [_weight("v", 8)], opset=18)
    model = onnx.load(path)
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CaptureError, match="tensor 'v' is damaged"):
        capture(path)


def test_an_empty_dimension_is_told(tmp_path: Path) -> None:
    nodes = [helper.make_node("Slice", ["x", "two", "two", "axis"], ["nothing"], name="slice")]
    nodes.append(helper.make_node("Concat", ["x", "nothing"], ["y"], axis=2))
    path = _save(tmp_path / "a.onnx", nodes, [_ints("two", 2), _ints("axis", 2)], opset=18)
    with pytest.raises(CaptureError, match=r"node '.*' \(Slice\) computes an empty value"):
        capture(path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 0
    onnx.save(model, path)
    with pytest.raises(CaptureError, match="'x' has an empty dimension"):
        capture(path)


def test_an_operator_that_onnx_does_not_have_is_named_with_its_node(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.onnx", [helper.make_node("Frobnicate", ["x"], ["y"], name="odd")], [], opset=18)
    with pytest.raises(CaptureError, match=r"Frobnicate[\s\S]*odd"):
        capture(path)


def test_an_operator_set_from_the_future_says_what_to_do(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])], [], opset=99)
    with pytest.raises(CaptureError, match=r"newer operator set[\s\S]*older opset_version"):
        capture(path)


def test_a_model_larger_than_the_boards_memory_is_refused(tmp_path: Path) -> None:
    model = capture(_net(tmp_path / "a.onnx", 18)).model
    board = load_target("raspberry-pi")
    check_fits(model, board, board.precisions)
    assert least_bytes(model, Precision.FP32) == 4 * least_bytes(model, Precision.INT8)
    board = replace(board, ram_bytes=500)
    with pytest.raises(CaptureError, match=r"larger than the memory of raspberry-pi-5[\s\S]*in int8"):
        check_fits(model, board, board.precisions)
