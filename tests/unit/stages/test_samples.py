from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from device_agent.wire.manifest import Preprocess
from edgepe.capture.captured import Captured, Port
from edgepe.data import dataset
from edgepe.errors import DataError
from edgepe.signature import Signature
from edgepe.stages.candidate import Edge, graph_edges, permuted
from edgepe.stages.samples import Samples, choose_metric, input_specs, ports_of

RAW = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
NWC = Signature(inputs={"x": Preprocess(layout="NWC", scale=2.0, mean=(1.0, 2.0, 3.0))})


def _captured(outputs: int = 3) -> Captured:
    return Captured(
        name="net",
        model=ir.Model(ir.Graph([], [], nodes=[], name="g"), ir_version=10),
        inputs=(Port(name="input", dtype="float32", shape=(-1, 3, 5)),),
        outputs=(Port(name="y", dtype="float32", shape=(-1, outputs)),),
    )


def test_a_factory_is_called_with_channel_first_shapes_of_the_data() -> None:
    assert ports_of(dataset({"x": RAW}), NWC) == (Port(name="", dtype="float32", shape=(-1, 3, 5)),)
    assert ports_of(dataset({"x": RAW}), Signature())[0].shape == (-1, 5, 3)


def test_whole_numbers_stay_whole_unless_a_preprocess_makes_them_real() -> None:
    tokens = dataset({"x": np.arange(6, dtype=np.int32).reshape(2, 3)})
    assert ports_of(tokens, Signature())[0].dtype == "int64"
    assert ports_of(tokens, Signature(inputs={"x": Preprocess()}))[0].dtype == "float32"


def test_preparing_scales_by_channel_and_moves_channels_first() -> None:
    specs = input_specs(graph_edges(_captured()), dataset({"x": RAW}), NWC)
    prepared = Samples.fitting(dataset({"x": RAW}), specs).prepared()["input"]
    expected = (RAW * 2 - np.array([1, 2, 3], np.float32)).transpose(0, 2, 1)
    np.testing.assert_array_equal(prepared, expected)


def test_batches_hold_every_sample_once() -> None:
    data = dataset({"x": RAW.transpose(0, 2, 1)})
    samples = Samples.fitting(data, input_specs(graph_edges(_captured()), data, Signature()))
    assert [len(batch["input"]) for batch in samples.batches(1)] == [1, 1]


def test_means_that_do_not_fit_the_channels_are_an_error_of_the_data() -> None:
    wrong = Signature(inputs={"x": Preprocess(layout="NWC", mean=(1.0, 2.0))})
    data = dataset({"x": RAW})
    with pytest.raises(DataError, match="mean and std"):
        Samples.fitting(data, input_specs(graph_edges(_captured()), data, wrong)).prepared()


@pytest.mark.parametrize(
    ("labels", "name"),
    [(None, "agreement"), (np.array([0, 2]), "accuracy"), (np.array([0.5, 2.0]), "mse"), (np.ones((2, 2)), "mse")],
)
def test_the_labels_choose_the_metric(labels: np.ndarray | None, name: str) -> None:
    assert choose_metric(None, dataset({"x": RAW}, labels), _captured()).name == name


def test_class_labels_beyond_the_outputs_are_refused() -> None:
    with pytest.raises(DataError, match="out of range"):
        choose_metric("f1", dataset({"x": RAW}, np.array([0, 3])), _captured(outputs=3))


def test_outputs_with_channels_last_are_compared_channels_first() -> None:
    edge = Edge(name="y", dtype="float32", shape=(1, 5, 3), axes=(0, 2, 1))
    assert edge.layout == "NWC"
    np.testing.assert_array_equal(permuted({"y": RAW}, (edge,))["y"], RAW.transpose(0, 2, 1))


def test_four_axes_come_back_in_order() -> None:
    image = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    edge = Edge(name="y", dtype="float32", shape=(2, 4, 5, 3), axes=(0, 2, 3, 1))
    assert edge.layout == "NHWC"
    np.testing.assert_array_equal(permuted({"y": image.transpose(0, 2, 3, 1)}, (edge,))["y"], image)
