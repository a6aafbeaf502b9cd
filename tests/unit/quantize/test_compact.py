from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgepe.quantize.compact import compact
from tests.small_graphs import cnn, feeds, graph, run


def test_only_the_named_nodes_and_the_edges_keep_their_names() -> None:
    model = cnn()
    compact(model, nodes={"n_c1"})
    assert [node.name for node in model.graph if node.name] == ["n_c1"]
    assert model.graph.inputs[0].name == "x"
    assert model.graph.outputs[0].name == "y"


def test_the_function_stays() -> None:
    model = cnn()
    inputs = feeds(model)
    before = run(model, inputs)
    compact(model, nodes=())
    np.testing.assert_array_equal(run(model, inputs), before)


def test_a_short_name_never_takes_an_inputs_or_outputs_name() -> None:
    model = graph(
        "t = Add(x, k) s = Sin(t) a = Add(s, t)",
        inputs={"x": ["b", 2]},
        outputs={"a": ["b", 2]},
        constants={"k": np.ones(2, np.float32)},
    )
    model.graph.inputs[0].name, model.graph.outputs[0].name = "0", "1"
    compact(model, nodes=())
    names = [value.name for node in model.graph for value in node.outputs] + list(model.graph.initializers)
    assert len(set(names)) == len(names)
    assert "0" not in names
    assert names.count("1") == 1


def test_attributes_that_say_what_is_assumed_anyway_are_left_out() -> None:
    model = cnn()
    convolution = next(node for node in model.graph if node.op_type == "Conv")
    convolution.attributes["group"] = ir.AttrInt64("group", 1)
    convolution.attributes["auto_pad"] = ir.AttrString("auto_pad", "NOTSET")
    convolution.attributes["strides"] = ir.AttrInt64s("strides", [1, 1])
    convolution.attributes["dilations"] = ir.AttrInt64s("dilations", [1, 1])
    pads = convolution.attributes.get_ints("pads")
    inputs = feeds(model)
    before = run(model, inputs)
    compact(model, nodes=())
    assert not {"group", "auto_pad", "strides", "dilations"} & set(convolution.attributes)
    assert convolution.attributes.get_ints("pads") == pads
    np.testing.assert_array_equal(run(model, inputs), before)


def test_attributes_that_say_something_stay() -> None:
    model = graph(
        "y = MaxPool<kernel_shape=[2, 2], strides=[2, 1], ceil_mode=1>(x)",
        inputs={"x": ["b", 1, 6, 6]},
        outputs={"y": ["b", 1, 3, 5]},
    )
    compact(model, nodes=())
    (pool,) = model.graph
    assert set(pool.attributes) == {"kernel_shape", "strides", "ceil_mode"}
