from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgepe.errors import DataError, VerifyError
from edgepe.verify.run import RunResult, ending, run_artifact
from tests.tiny_models import dense, write_onnx, write_tflite

if TYPE_CHECKING:
    from pathlib import Path

X = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


def test_outputs_come_back_for_every_sample_in_order(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    result = run_artifact(path, "onnxruntime", {"x": X}, batch=3)
    (outputs,) = result.outputs.values()
    np.testing.assert_allclose(outputs, dense(X), atol=1e-5)


def test_a_fixed_batch_is_fed_as_it_is_fixed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path, batch=4)
    (outputs,) = run_artifact(path, "onnxruntime", {"x": X}).outputs.values()
    np.testing.assert_allclose(outputs, dense(X), atol=1e-5)


def test_the_tflite_runtime_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    write_tflite(path)
    result = run_artifact(path, "litert", {"x": X})
    (outputs,) = result.outputs.values()
    np.testing.assert_allclose(outputs, dense(X), atol=1e-5)
    assert result.runtime == "litert"


def test_times_and_memory_are_measured_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    result = run_artifact(path, "onnxruntime", {"x": X}, timings=20)
    assert len(result.times_ns) == 20
    assert result.median_us is not None
    assert result.p99_us is not None
    assert 0 < result.median_us <= result.p99_us
    assert result.load_ns > 0
    assert result.cold_ns > 0
    assert 10_000_000 < result.rss_bytes < 1_000_000_000
    assert 0 <= result.model_bytes < result.rss_bytes


def test_nothing_timed_is_not_zero() -> None:
    result = RunResult(
        outputs={}, times_ns=(), load_ns=1, cold_ns=1, rss_bytes=1, model_bytes=0, runtime="litert", version="2"
    )
    assert result.median_us is None
    assert result.p99_us is None


def test_the_memory_is_the_childs_own(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    ballast = np.ones(60_000_000, np.float32)  # 240 MB in this process
    assert run_artifact(path, "onnxruntime", {"x": X}).rss_bytes < ballast.nbytes


@pytest.mark.parametrize(
    "inputs", [{}, {"x": X[:0]}, {"x": X, "z": X[:3]}, {"x": np.float32(1)}], ids=["none", "empty", "uneven", "scalar"]
)
def test_samples_that_do_not_fit_together_are_refused(tmp_path: Path, inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match="do not fit together"):
        run_artifact(tmp_path / "model.onnx", "onnxruntime", inputs)


def test_wrong_names_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    with pytest.raises(VerifyError, match="do not have the model's names"):
        run_artifact(path, "onnxruntime", {"wrong": X})


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="cannot be read"):
        run_artifact(tmp_path / "absent.onnx", "onnxruntime", {"x": X})


@pytest.mark.parametrize(("code", "words"), [(-11, "signal SIGSEGV"), (-6, "signal SIGABRT"), (3, "exit code 3")])
def test_how_a_child_ended_is_told(code: int, words: str) -> None:
    assert ending(code) == words
