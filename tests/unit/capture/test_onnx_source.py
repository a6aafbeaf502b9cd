from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepe.capture import capture
from edgepe.capture.captured import Port
from edgepe.errors import CaptureError, MissingFileError, UsageError


def _write(path: Path, shape: list[int | str], *, opset: int = 18, node: onnx.NodeProto | None = None) -> Path:
    graph = helper.make_graph(
        [node or helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{axis}" for axis in range(len(shape))])],
        [numpy_helper.from_array(np.ones(1, np.float32), "unused")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def test_an_onnx_file_is_captured_with_its_batch_open(tmp_path: Path) -> None:
    captured = capture(_write(tmp_path / "my net.onnx", ["n", 3, 8]))
    assert captured.name == "my-net"
    assert captured.inputs == (Port(name="x", dtype="float32", shape=(-1, 3, 8)),)
    assert captured.outputs == (Port(name="y", dtype="float32", shape=(-1, 3, 8)),)


def test_a_folder_made_by_compress_is_a_source(tmp_path: Path) -> None:
    _write(tmp_path / "model.onnx", ["n", 4])
    with pytest.raises(CaptureError, match="not made by edgepe compress"):
        capture(tmp_path)
    (tmp_path / "compression.json").write_text("{}")
    assert capture(tmp_path).name == tmp_path.name.replace("[", "-").replace("]", "-").strip("-.")


def test_an_old_operator_set_is_brought_up(tmp_path: Path) -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)
    captured = capture(_write(tmp_path / "a.onnx", ["n", 4], opset=11, node=node))
    assert captured.model.opset_imports[""] == 18


def test_another_open_dimension_asks_for_shape(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"give --shape x=N,3,N with a number"):
        capture(_write(tmp_path / "a.onnx", ["n", 3, "time"]))


def test_shape_fixes_an_open_dimension(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.onnx", ["n", 3, "time"])
    assert capture(path, shapes={"x": (-1, 3, 8)}).outputs[0].shape == (-1, 3, 8)
    assert capture(path, shapes={"x": (1, 3, 8)}).inputs[0].shape == (1, 3, 8)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [({"x": (1, 4, 8)}, "contradicts"), ({"x": (1, 3)}, "contradicts"), ({"z": (1, 3, 8)}, "no input")],
)
def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path, shapes: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        capture(_write(tmp_path / "a.onnx", ["n", 3, "time"]), shapes=shapes)


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no\.onnx"):
        capture(tmp_path / "no.onnx")


def test_a_file_of_another_kind_says_how_to_give_a_torch_model(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(UsageError, match=r"package\.module:factory with --weights"):
        capture(tmp_path / "model.pth")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x08\x12\x02ab"])
def test_a_damaged_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(CaptureError, match="not a valid ONNX model"):
        capture(tmp_path / "a.onnx")


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    with pytest.raises(CaptureError, match="quantized already"):
        capture(_write(tmp_path / "a.onnx", ["n", 4], node=node))


def test_weights_go_with_a_factory_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --weights out"):
        capture(_write(tmp_path / "a.onnx", ["n", 4]), weights=tmp_path / "w.safetensors")
