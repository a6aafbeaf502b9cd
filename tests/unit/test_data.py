from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from device_agent.wire.manifest import Preprocess, TensorSpec
from edgepe.data import check_against, check_informative, check_labels, dataset, load_dataset
from edgepe.errors import DataError, MissingFileError

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
SPEC = TensorSpec(name="image", dtype="float32", shape=(-1, 2, 3))


def _file(tmp_path: Path, **arrays: np.ndarray) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, allow_pickle=True, **arrays)
    return path


def test_an_npz_file_gives_inputs_and_labels(tmp_path: Path) -> None:
    data = load_dataset(_file(tmp_path, x=X, y=np.arange(4)))
    assert len(data) == 4
    assert list(data.inputs) == ["x"]
    assert data.labels is not None
    assert [len(batch["x"]) for batch in data.batches(3)] == [3, 1]


def test_a_folder_of_npy_files_is_a_set(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "y.npy", np.arange(4))
    assert set(load_dataset(tmp_path).inputs) == {"a"}


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first, again = load_dataset(_file(tmp_path, x=X)), dataset({"x": X})
    assert first.digest == again.digest != dataset({"x": X + 1}).digest


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no\.npz"):
        load_dataset(tmp_path / "no.npz")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        pytest.param({"y": np.arange(4)}, "holds no inputs", id="labels only"),
        pytest.param({"x": X[:0]}, "is empty", id="empty"),
        pytest.param({"x": X, "y": np.arange(3)}, "different numbers", id="ragged"),
        pytest.param({"x": np.where(X == 5, np.nan, X)}, "1 of 24 values", id="not finite"),
        pytest.param({"x": np.array(["a", "b"])}, "not numeric", id="texts"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_dataset(_file(tmp_path, **arrays))


@pytest.mark.parametrize("content", [b"", b"no zip", pickle.dumps({"x": 1})])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as data"):
        load_dataset(path)


def test_pickled_objects_inside_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no pickled objects"):
        load_dataset(path)


def test_x_stands_for_the_only_input() -> None:
    assert list(check_against(dataset({"x": X}), (SPEC,)).inputs) == ["image"]


def test_other_names_are_told_with_the_expected_ones() -> None:
    with pytest.raises(DataError, match=r"expected: image\n  got: picture"):
        check_against(dataset({"picture": X}), (SPEC,))


def test_another_shape_is_told_with_the_expected_one() -> None:
    with pytest.raises(DataError, match=r"expected: \(samples, 2, 3\)\n  got: \(4, 3, 2\)"):
        check_against(dataset({"x": X.transpose(0, 2, 1)}), (SPEC,))


def test_the_shape_that_counts_is_the_raw_one() -> None:
    spec = TensorSpec(
        name="image", dtype="float32", shape=(-1, 2, 3), layout="NCW", preprocess=Preprocess(layout="NWC")
    )
    check_against(dataset({"x": X.transpose(0, 2, 1)}), (spec,))


def test_constant_calibration_data_is_refused() -> None:
    with pytest.raises(DataError, match="is constant"):
        check_informative(dataset({"x": np.ones((5, 2))}))


@pytest.mark.parametrize(
    "labels", [np.array([0, 3]), np.array([-1, 0]), np.array([0.5, 1.0]), np.array([[0], [1]])], ids=str
)
def test_labels_out_of_range_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"out of range"):
        check_labels(labels, 3)


def test_labels_in_range_pass() -> None:
    check_labels(np.array([0.0, 1.0, 2.0]), 3)
