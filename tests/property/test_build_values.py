from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.manifest import Golden, Manifest, RuntimeFloor, TensorSpec
from edgepe.bundle.pack import file_entries, pack
from edgepe.contract import Contract, Measured, judge
from edgepe.metrics import compare, metric

NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True).filter(lambda name: name != "manifest.json")
CLASSES = st.lists(st.integers(0, 3), min_size=2, max_size=40)


def _logits(classes: list[int]) -> dict[str, np.ndarray]:
    return {"y": np.eye(4)[classes]}


@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=4))
def test_a_bundle_holds_its_files_byte_for_byte(extra: dict[str, bytes]) -> None:
    files = extra | {"model.onnx": b"m", "golden.npz": b"g"}
    manifest = Manifest(
        name="net",
        version="1",
        target="t",
        format="onnx",
        precision="int8",
        model="model.onnx",
        files=file_entries(files),
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 4)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 2)),),
        runtime=RuntimeFloor(name="onnxruntime", version="1"),
        golden=Golden(file="golden.npz", count=1, atol=0, rtol=0, min_agree=1),
    )
    data = pack(manifest, files)
    assert data == pack(manifest, dict(sorted(files.items(), reverse=True)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {name: archive.read(name) for name in files} == files


@given(st.data(), CLASSES, st.sampled_from(["accuracy", "agreement"]))
def test_the_interval_of_a_mean_holds_its_drop_and_that_of_a_twin_lies_around_none(
    data: st.DataObject, labels: list[int], name: str
) -> None:
    guess = data.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    result = compare(metric(name), _logits(labels), _logits(guess), np.array(labels))
    assert result.low <= result.drop + 1e-9
    assert result.drop <= result.high + 1e-9
    assert 0 <= result.score <= 1
    twin = compare(metric(name), _logits(guess), _logits(guess), np.array(labels))
    assert twin.drop == 0
    assert twin.low < 0 < twin.high
    assert twin.low == pytest.approx(-twin.high)


@given(CLASSES, CLASSES, st.sampled_from(["precision", "recall", "f1"]))
def test_macro_scores_lie_between_zero_and_one_and_are_one_on_themselves(
    labels: list[int], guess: list[int], name: str
) -> None:
    count = min(len(labels), len(guess))
    assert 0 <= metric(name).score(_logits(guess[:count]), np.array(labels[:count])) <= 1
    assert metric(name).score(_logits(labels), np.array(labels)) == pytest.approx(1)


MEASURED = st.builds(
    Measured, drop=st.floats(-5, 5), bytes=st.integers(1, 1000), latency_us=st.floats(1, 1000) | st.none()
)
CONTRACT = st.builds(
    Contract,
    metric=st.just("m"),
    max_drop=st.floats(0, 5) | st.none(),
    max_bytes=st.integers(1, 1000) | st.none(),
    max_latency_us=st.floats(1, 1000) | st.none(),
)


@given(CONTRACT, MEASURED)
def test_a_verdict_is_held_exactly_where_no_bound_is_exceeded(contract: Contract, measured: Measured) -> None:
    pairs = [
        (contract.max_drop, measured.drop),
        (contract.max_bytes, measured.bytes),
        (contract.max_latency_us, measured.latency_us),
    ]
    verdict = judge(contract, measured)
    assert len(verdict.bounds) == sum(limit is not None for limit, _ in pairs)
    assert verdict.held == all(limit is None or (value is not None and value <= limit) for limit, value in pairs)
    assert all(bound.value is None or bound.over > 0 for bound in verdict.broken)
