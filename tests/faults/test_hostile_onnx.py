"""Whatever an ONNX file holds, a build ends with an error or a graph: no crash, no hang, nothing written outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepe.capture import capture
from edgepe.capture.onnx_source import capture_onnx
from edgepe.errors import CaptureError, EdgepeError
from tests.onnx_graphs import small_cnn, small_cnn_1d

DRIVER = Path(__file__).with_name("capture_driver.py")
MUTANTS = 60


def _mutants(seed: bytes, count: int) -> list[bytes]:
    """Return copies with bytes changed, parts cut out, repeated, or the end missing."""
    rng = np.random.default_rng(len(seed))
    made = []
    for index in range(count):
        data = bytearray(seed)
        place, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
        match index % 4:
            case 0:
                for at in rng.integers(0, len(data), 1 + index // 8):
                    data[int(at)] = int(rng.integers(256))
            case 1:
                del data[place:]
            case 2:
                del data[place : place + length]
            case _:
                data[place:place] = data[place : place + length] * int(rng.integers(1, 5))
        made.append(bytes(data))
    return made


def _deformed(seed: bytes, count: int) -> list[bytes]:
    """Return well-formed files whose graphs make no sense: other operators, sets, attributes, sizes, connections."""
    rng = np.random.default_rng(len(seed))
    made = []
    for _ in range(count):
        model = onnx.load_from_string(seed)
        for _ in range(int(rng.integers(1, 4))):
            _deform(model, rng)
        made.append(model.SerializeToString())
    return made


def _deform(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    nodes, constants = model.graph.node, model.graph.initializer
    node, other = nodes[int(rng.integers(len(nodes)))], nodes[int(rng.integers(len(nodes)))]
    values = constants[int(rng.integers(len(constants)))]
    extreme = int(rng.choice([-(1 << 62), -(1 << 31), -1, 0, 1, 3, 1 << 20, 1 << 31, 1 << 62]))
    match int(rng.integers(6)):
        case 0:
            node.op_type = other.op_type
        case 1:
            model.opset_import[0].version = int(rng.integers(1, 27))
        case 2:
            for attribute in node.attribute:
                attribute.i = extreme
                attribute.ints[:] = [extreme for _ in attribute.ints]
        case 3:
            node.input[:] = [other.output[0], *node.input[1:]]
        case 4:
            model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = extreme
        case _ if values.data_type == TensorProto.INT64:
            values.raw_data = np.full(len(values.raw_data) // 8, extreme, np.int64).tobytes()
        case _:
            values.dims[:] = list(values.dims)[::-1]


@pytest.mark.parametrize("deform", [_mutants, _deformed])
def test_hostile_files_end_in_an_error_or_a_graph(tmp_path: Path, deform: Callable[[bytes, int], list[bytes]]) -> None:
    for number, graph in enumerate((small_cnn(), small_cnn_1d())):
        whole = onnx.shape_inference.infer_shapes(graph.proto(), strict_mode=True, data_prop=True)
        for index, data in enumerate(deform(whole.SerializeToString(), MUTANTS)):
            (tmp_path / f"{number}-{index:03}.onnx").write_bytes(data)
    outside = sorted(tmp_path.parent.iterdir())
    command = [sys.executable, str(DRIVER), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DRIVER.parents[2])
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2 * MUTANTS
    assert not [line for line in lines if " died " in line]
    assert sum(" refused " in line for line in lines) > MUTANTS / 2
    assert sum(" clean" in line for line in lines) > MUTANTS / 8
    assert sorted(tmp_path.parent.iterdir()) == outside


def _value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [_value("x", ["n", 4])],
        [_value("y", ["n", "m"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_constant_of_a_trillion_numbers_is_not_made(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["c"]),
        helper.make_node("ReduceMax", ["c"], ["m"], keepdims=0),
    ]
    nodes.append(helper.make_node("Add", ["x", "m"], ["y"]))
    path = _save(tmp_path / "a.onnx", nodes, {"huge": np.array([1 << 20, 1 << 20], np.int64)})
    captured = capture(path)
    assert "ConstantOfShape" in {node.op_type for node in captured.model.graph}


def test_a_repetition_whose_size_is_computed_is_told_and_not_made(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["big", "big"], ["huge"]), helper.make_node("Tile", ["one", "huge"], ["t"])]
    nodes += [helper.make_node("ReduceMax", ["t"], ["m"], keepdims=0), helper.make_node("Add", ["x", "m"], ["y"])]
    constants: dict[str, np.ndarray] = {"big": np.array([1 << 20], np.int64), "one": np.ones(1, np.float32)}
    try:
        captured = capture(_save(tmp_path / "a.onnx", nodes, constants))
    except CaptureError:
        return
    assert "Tile" in {node.op_type for node in captured.model.graph}


def test_branches_nested_without_end_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "g", [], [_value("b", ["n", 4])])
    for level in range(40):
        node = helper.make_node("If", ["c"], [f"b{level}"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [_value(f"b{level}", ["n", 4])])
        if len(graph.SerializeToString()) > 1 << 20:
            break
    inner = graph.SerializeToString()
    for _ in range(2_000):  # a graph in a node's attribute in a graph, as bare bytes: deeper than any parser goes
        attribute = b"\x32" + _sized(inner)
        node_bytes = b"\x2a" + _sized(attribute)
        inner = b"\x0a" + _sized(node_bytes)
        if len(inner) > 8 << 20:
            break
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08\x3a" + _sized(inner))
    with pytest.raises(CaptureError, match="not a valid ONNX model"):
        capture(tmp_path / "a.onnx")


def _sized(data: bytes) -> bytes:
    """Return the data behind its length, as protobuf writes it."""
    size, out = len(data), b""
    while size > 0x7F:
        out += bytes([size & 0x7F | 0x80])
        size >>= 7
    return out + bytes([size]) + data


def test_a_graph_that_onnxruntime_does_not_open_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="odd")]
    with pytest.raises(CaptureError, match=r"cannot be read[\s\S]*odd"):
        capture(_save(tmp_path / "a.onnx", nodes, {"w": np.ones((7, 3), np.float32)}))


def test_a_reader_that_does_not_end_is_ended(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])], {})
    with pytest.raises(CaptureError, match=r"limits of time and memory[\s\S]*not done after 0\.01 s"):
        capture_onnx(path, name="a", shapes={}, timeout_s=0.01)


@pytest.mark.parametrize("name", ["a.onnx", "ends in newline\n.onnx", "-rf.onnx"])
def test_a_file_of_nonsense_is_an_error_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)) * 16)
    with pytest.raises(EdgepeError, match="not a valid ONNX model"):
        capture(tmp_path / name)
