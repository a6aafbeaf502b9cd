from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepe.graph import optimize
from edgepe.graph.fix_batch import fix_batch
from edgepe.graph.passes import run_passes

if TYPE_CHECKING:
    from collections.abc import Sequence

RNG = np.random.default_rng(0)
Shape = list[int | str]


def _model(nodes: Sequence[onnx.NodeProto], initializers: dict[str, np.ndarray], shape: Shape, out: Shape) -> ir.Model:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
        doc_string="/mnt/somebody/model.py",
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(proto, full_check=True)
    return ir.serde.deserialize_model(proto)


def _norm(channels: int) -> dict[str, np.ndarray]:
    values = {name: RNG.normal(size=channels).astype(np.float32) for name in ("gamma", "beta", "mean")}
    return values | {"var": RNG.uniform(0.5, 2, channels).astype(np.float32)}


def _run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.serde.serialize_model(model).SerializeToString())
    return np.asarray(session.run(None, {"x": x})[0])


def _same(model: ir.Model, shape: tuple[int, ...]) -> ir.Model:
    def valid(after: ir.Model) -> None:
        onnx.checker.check_model(ir.serde.serialize_model(after), full_check=True)

    optimized = run_passes(model, check=valid)
    x = RNG.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(_run(optimized, x), _run(model, x), atol=1e-5)
    return optimized


def _ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


BN = helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"])


@pytest.mark.parametrize(
    ("node", "weight", "shape", "out"),
    [
        pytest.param(
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1]), (4, 3, 3), (5, 3, 8), (4, 8), id="Conv, no bias"
        ),
        pytest.param(
            helper.make_node("Conv", ["x", "w", "b"], ["c"], group=2), (4, 2, 1), (5, 4, 8), (4, 8), id="Conv, groups"
        ),
        pytest.param(
            helper.make_node("ConvTranspose", ["x", "w", "b"], ["c"], group=2),
            (6, 2, 1),
            (5, 6, 8),
            (4, 8),
            id="ConvTranspose, groups",
        ),
        pytest.param(
            helper.make_node("Gemm", ["x", "w", "b"], ["c"], transB=1, beta=0.5, alpha=2.0),
            (4, 3),
            (5, 3),
            (4,),
            id="Gemm, transposed",
        ),
        pytest.param(helper.make_node("Gemm", ["x", "w"], ["c"]), (3, 4), (5, 3), (4,), id="Gemm, no bias"),
    ],
)
def test_batchnorm_folds_into_its_producer(
    node: onnx.NodeProto, weight: tuple[int, ...], shape: tuple[int, ...], out: tuple[int, ...]
) -> None:
    constants = {"w": RNG.normal(size=weight).astype(np.float32)} | _norm(4)
    if "b" in node.input:
        constants["b"] = RNG.normal(size=4).astype(np.float32)
    optimized = _same(_model([node, BN], constants, ["n", *shape[1:]], ["n", *out]), shape)
    assert _ops(optimized) == [node.op_type]
    assert optimized.graph.outputs[0].name == "y"


def test_batchnorm_behind_a_shared_value_stays() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    constants = {"w": RNG.normal(size=(4, 3, 1)).astype(np.float32)} | _norm(4)
    assert "BatchNormalization" in _ops(_same(_model(nodes, constants, ["n", 3, 8], ["n", 4, 8]), (2, 3, 8)))


def test_what_does_not_depend_on_the_input_is_computed() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["a", "two"], ["b"]),
        helper.make_node("Sqrt", ["b"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    optimized = _same(_model(nodes, {"a": np.array([2, 8], np.float32)}, ["n", 2], ["n", 2]), (3, 2))
    assert _ops(optimized) == ["Add"]


def test_a_constant_that_would_inflate_the_file_is_left_to_the_device() -> None:
    nodes = [
        helper.make_node("Expand", ["a", "size"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    constants: dict[str, np.ndarray] = {"a": np.ones(1, np.float32), "size": np.array([1 << 20], np.int64)}
    assert "Expand" in _ops(optimize(_model(nodes, constants, [1 << 20], [1 << 20])))


def test_dead_parts_and_no_ops_go() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Dropout", ["a"], ["b", "mask"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 1]),
        helper.make_node("Exp", ["d"], ["dead"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    assert _ops(_same(_model(nodes, {}, ["n", 4], ["n", 4]), (3, 4))) == ["Relu"]


def test_a_graph_of_nothing_but_a_no_op_still_has_its_output() -> None:
    optimized = _same(_model([helper.make_node("Dropout", ["x"], ["y"])], {}, ["n", 4], ["n", 4]), (3, 4))
    assert optimized.graph.outputs[0].name == "y"


def test_a_mean_over_time_through_a_fourth_axis_is_a_global_pool() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "two"], ["b"]),
        helper.make_node("ReduceMean", ["b", "axes"], ["c"], keepdims=1),
        helper.make_node("Squeeze", ["c", "two"], ["y"]),
    ]
    constants = {"two": np.array([-2]), "axes": np.array([-1, -2])}
    assert _ops(_same(_model(nodes, constants, ["n", 3, 8], ["n", 3, 1]), (2, 3, 8))) == ["Relu", "GlobalAveragePool"]


@pytest.mark.parametrize(("axes", "keepdims", "out"), [([2], 1, [3, 1, 8]), ([2, 3], 0, [3])])
def test_another_mean_stays_a_mean(axes: list[int], keepdims: int, out: list[int]) -> None:
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)
    model = _model([node], {"axes": np.array(axes)}, ["n", 3, 8, 8], ["n", *out])
    assert _ops(_same(model, (2, 3, 8, 8))) == ["ReduceMean"]


def test_metadata_and_paths_are_stripped_and_the_bytes_do_not_tell_where_a_model_was_made() -> None:
    def made(path: str) -> bytes:
        model = _model([helper.make_node("Relu", ["x"], ["y"], doc_string=path)], {}, ["n", 4], ["n", 4])
        model.metadata_props["pkg.torch.onnx.stack_trace"] = path
        model.graph.inputs[0].metadata_props["trace"] = path
        model.producer_version = path
        for node in model.graph:
            node.metadata_props["trace"] = path
        return bytes(ir.serde.serialize_model(optimize(model)).SerializeToString(deterministic=True))

    assert made("/mnt/ann/a.py") == made("/srv/bob/b.py")
    assert b"/mnt" not in made("/mnt/ann/a.py")


def test_the_argument_is_not_changed() -> None:
    model = _model([helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])], {}, [2], [2])
    optimize(model)
    assert _ops(model) == ["Identity", "Relu"]


def test_a_fixed_batch_makes_the_shapes_that_followed_it_constant() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], end=1),
        helper.make_node("Concat", ["s", "rest"], ["t"], axis=0),
        helper.make_node("Expand", ["row", "t"], ["e"]),
        helper.make_node("Add", ["x", "e"], ["y"]),
    ]
    constants = {"rest": np.array([4]), "row": np.ones((1, 4), np.float32)}
    model = _model(nodes, constants, ["n", 4], ["n", 4])
    assert _ops(fix_batch(model, 1)) == ["Add"]
    assert _ops(optimize(model)) == ["Shape", "Concat", "Expand", "Add"]
