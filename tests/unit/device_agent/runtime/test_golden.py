"""Golden vectors pass the model they were made of and no other."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from device_agent.errors import ModelError
from device_agent.runtime.golden import GoldenResult, check_golden, read_golden
from device_agent.runtime.slot import open_slot
from device_agent.wire.manifest import Preprocess
from tests.tiny_models import BIAS, write_slot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def check(slot: Path, *, tolerance: Mapping[str, Any] = MappingProxyType({}), **slot_options: Any) -> GoldenResult:
    manifest = write_slot(slot, **slot_options)
    manifest = replace(manifest, golden=replace(manifest.golden, **tolerance))
    return check_golden(open_slot(slot, manifest, threads=1), manifest, read_golden(slot / "golden.npz"))


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_the_model_they_were_made_of_passes(tmp_path: Path, model_format: str) -> None:
    result = check(tmp_path, model_format=model_format)
    assert result.passed
    assert result.agree == 1.0
    assert result.max_error < 1e-5
    assert result.detail == ""


def test_raw_inputs_go_through_the_preprocessing(tmp_path: Path) -> None:
    rule = Preprocess(layout="NC", scale=2.0, mean=(0.5, 0, 0, 1), std=(1, 2, 1, 1))
    assert check(tmp_path, preprocess=rule).passed


def test_another_model_fails_with_its_largest_error(tmp_path: Path) -> None:
    result = check(tmp_path, bias=BIAS + np.array([0, 0.25, 0], np.float32))
    assert not result.passed
    assert result.agree == 0.0
    assert result.max_error == pytest.approx(0.25, abs=1e-5)
    assert "0 of 6 agree" in result.detail


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_is_not_finite_fails_however_wide_the_tolerance(tmp_path: Path, value: float) -> None:
    result = check(tmp_path, bias=np.full(3, value, np.float32), tolerance={"atol": 1e30, "min_agree": 0.0})
    assert not result.passed
    assert result.max_error == np.inf


def test_tolerances_are_the_manifests(tmp_path: Path) -> None:
    assert check(tmp_path, bias=BIAS + np.float32(0.25), tolerance={"atol": 0.3}).passed


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param({"in.x": np.zeros((2, 4))}, id="no-outputs"),
        pytest.param({"in.x": np.zeros((2, 4)), "out.y": np.zeros((3, 3))}, id="uneven"),
        pytest.param({"in.x": np.zeros((0, 4)), "out.y": np.zeros((0, 3))}, id="empty"),
        pytest.param({"in.x": np.array([{}]), "out.y": np.zeros((1, 3))}, id="pickle"),
        pytest.param({"in.x": np.float32(1), "out.y": np.float32(1)}, id="scalars"),
    ],
)
def test_vectors_that_are_not_whole_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "golden.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(ModelError, match=r"golden\.npz"):
        read_golden(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_a_damaged_file_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "golden.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_golden(path)


def test_vectors_that_do_not_fit_the_model_are_a_model_error(tmp_path: Path) -> None:
    manifest = write_slot(tmp_path)
    arrays = {"in.x": np.zeros((2, 4), np.float32), "out.z": np.zeros((2, 3), np.float32)}
    np.savez(tmp_path / "golden.npz", allow_pickle=False, **arrays)
    with pytest.raises(ModelError, match="lacks an output"):
        check_golden(open_slot(tmp_path, manifest, threads=1), manifest, read_golden(tmp_path / "golden.npz"))
