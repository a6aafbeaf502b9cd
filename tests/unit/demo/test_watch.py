from __future__ import annotations

import importlib.util
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from device_agent.runtime.preprocess import prepare
from device_agent.wire.tensor import Preprocess, TensorSpec
from edgepe.demo.watch import (
    CHANNELS,
    LABELS,
    TEST_PEOPLE,
    TRAIN_PEOPLE,
    VALIDATION_PEOPLE,
    WatchData,
    cut,
    load_recordings,
    load_watch,
    normalization,
    save_windows,
)
from edgepe.errors import DataError, MissingExtraError
from edgepe.signature import parse_signature

# Recordings of these ids are near-equal in length, set by set and arm by arm: perhaps one person twice.
PAIRS = ((1, 2), (3, 4), (5, 6), (7, 10), (8, 9))


@pytest.fixture(scope="module")
def data() -> WatchData:
    return load_watch()


def test_windows_are_raw_and_of_the_shapes_that_are_promised(data: WatchData) -> None:
    for part in (data.train, data.validation, data.test):
        assert part.x.shape == (len(part.y), 100, len(CHANNELS))
        assert part.x.dtype == np.float32
        assert np.isfinite(part.x).all()
        assert set(part.y.tolist()) == set(range(len(LABELS)))
        assert len(part.person) == len(part.recording) == len(part.y)
    assert len(data.train.y) + len(data.validation.y) + len(data.test.y) == 4677


def test_no_person_and_no_pair_of_people_is_in_two_parts(data: WatchData) -> None:
    parts = [set(part.person.tolist()) for part in (data.train, data.validation, data.test)]
    assert [sorted(part) for part in parts] == [sorted(p) for p in (TRAIN_PEOPLE, VALIDATION_PEOPLE, TEST_PEOPLE)]
    assert set.union(*parts) == set(range(1, 11))
    for pair in PAIRS:
        assert sum(bool(part & set(pair)) for part in parts) == 1


def test_no_window_of_training_is_in_the_test_part(data: WatchData) -> None:
    seen = {window.tobytes() for window in data.train.x}
    assert not any(window.tobytes() in seen for window in data.test.x)


def test_the_pairs_are_what_the_recordings_say() -> None:
    lengths: dict[int, dict[tuple[int, int], int]] = {}
    for recording in load_recordings():
        lengths.setdefault(recording.person, {})[recording.label, recording.arm] = len(recording.samples)
    for first, second in PAIRS:
        distance = {
            other: sum(abs(lengths[first][key] - lengths[other][key]) for key in lengths[first])
            for other in lengths
            if other != first
        }
        assert min(distance, key=distance.__getitem__) == second


def test_the_network_sees_what_the_device_computes(data: WatchData) -> None:
    """The normalization, and its signature file, mean the same as the preprocessing that runs on the device."""
    made = normalization(data.train)
    signature = parse_signature(made.signature(), source="signature")
    assert signature.labels == LABELS
    assert signature.inputs["x"] == Preprocess(layout="NWC", mean=made.mean, std=made.std)
    spec = TensorSpec(name="x", dtype="float32", shape=(-1, 6, 100), layout="NCW", preprocess=signature.inputs["x"])
    assert np.abs(prepare(data.test.x[:50], spec) - made.apply(data.test.x[:50])).max() <= 1e-6


def test_saved_windows_can_be_read_without_pickles(data: WatchData, tmp_path: Path) -> None:
    path = save_windows(data.test, tmp_path / "test.npz")
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["x"], data.test.x)
        assert np.array_equal(archive["y"], data.test.y)
    assert [entry.name for entry in tmp_path.iterdir()] == ["test.npz"]


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs the extra 'demo'"):
        load_recordings()


class Harm:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("harmed",)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(pickle.dumps(Harm()), id="code"),
        pytest.param(pickle.dumps(np.array({"X": []}, dtype=object)), id="other-table"),
        pytest.param(pickle.dumps(np.zeros(3)), id="no-table"),
        pytest.param(b"", id="cut-off"),
    ],
)
def test_a_file_that_is_not_the_recordings_is_refused(payload: bytes, tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path = tmp_path / "watch_dataset.npy"
    path.write_bytes(header.getvalue() + payload)
    with pytest.raises(DataError):
        load_recordings(path)
    assert not Path("harmed").exists()


def test_unknown_people_are_an_error() -> None:
    with pytest.raises(DataError, match="no recordings of these people"):
        cut(load_recordings(), (77,))
