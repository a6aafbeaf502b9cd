"""Every runtime behaves the same behind the one interface."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto

from device_agent.errors import ModelError, RuntimeMissingError
from device_agent.runtime import base, tflite_
from device_agent.runtime.base import TensorInfo, installed_runtimes, open_runtime, runtime_for
from tests.tiny_models import dense, write_onnx, write_tflite

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.runtime.base import Runtime

X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture(params=["onnxruntime", "litert"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    if request.param == "onnxruntime":
        return open_runtime(write_onnx(tmp_path / "m.onnx", batch=1), kind="onnxruntime")
    return open_runtime(write_tflite(tmp_path / "m.tflite"), kind="litert")


def test_a_model_computes_what_it_says(runtime: Runtime) -> None:
    assert np.allclose(runtime.run({"x": X})["y"], dense(X))


def test_signatures_are_in_numpy_terms(runtime: Runtime) -> None:
    assert runtime.inputs == (TensorInfo(name="x", dtype="float32", shape=(1, 4)),)
    assert runtime.outputs == (TensorInfo(name="y", dtype="float32", shape=(1, 3)),)
    assert (runtime.name, runtime.version) in installed_runtimes()


def test_an_output_survives_the_next_run(runtime: Runtime) -> None:
    first = runtime.run({"x": X})["y"]
    kept = first.copy()
    runtime.run({"x": -X})
    runtime.close()
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        pytest.param({"z": X}, ["expected: ['x']", "got: ['z']"], id="name"),
        pytest.param({"x": X.astype(np.float64)}, ["expected: float32", "got: float64"], id="dtype"),
        pytest.param({"x": X[:, :3]}, ["expected: [1, 4]", "got: [1, 3]"], id="shape"),
        pytest.param({"x": X[0]}, ["expected: [1, 4]", "got: [4]"], id="rank"),
    ],
)
def test_a_misfit_input_is_refused_with_expected_and_got(
    runtime: Runtime, feeds: dict[str, np.ndarray], words: list[str]
) -> None:
    with pytest.raises(ModelError) as caught:
        runtime.run(feeds)
    assert all(word in str(caught.value) for word in words)


def test_a_closed_model_refuses_to_run(runtime: Runtime) -> None:
    runtime.close()
    runtime.close()
    with pytest.raises(ModelError, match="closed"):
        runtime.run({"x": X})


def test_float16_passes_through(tmp_path: Path) -> None:
    runtime = open_runtime(write_onnx(tmp_path / "m.onnx", dtype=TensorProto.FLOAT16), kind="onnxruntime")
    result = runtime.run({"x": X.astype(np.float16)})["y"]
    assert result.dtype == np.float16
    assert runtime.inputs[0].shape == (-1, 4)


def test_an_open_batch_takes_any_batch(tmp_path: Path) -> None:
    runtime = open_runtime(write_onnx(tmp_path / "m.onnx"), kind="onnxruntime")
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    assert np.allclose(runtime.run({"x": x})["y"], dense(x))


@pytest.mark.parametrize("kind", ["onnxruntime", "litert"])
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 4096], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_model_is_a_model_error(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="bad"):
        open_runtime(path, kind=kind)


@pytest.mark.parametrize("kind", ["onnxruntime", "litert"])
def test_a_missing_file_is_a_model_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        open_runtime(tmp_path / "absent", kind=kind)


def test_settings_reach_the_runtime_or_are_refused(tmp_path: Path) -> None:
    onnx = write_onnx(tmp_path / "m.onnx")
    assert open_runtime(onnx, kind="onnxruntime", settings={"session.x64quantprecision": "1"}).run({"x": X})
    tflite = write_tflite(tmp_path / "m.tflite")
    assert open_runtime(tflite, kind="litert", settings={"xnnpack": "0"}).run({"x": X})
    with pytest.raises(ModelError, match="setting is unknown"):
        open_runtime(tflite, kind="litert", settings={"xnpack": "0"})


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="onnxruntime or litert"):
        open_runtime(write_onnx(tmp_path / "m.onnx"), kind="openvino")


def test_a_missing_runtime_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tflite_.MODULES, "litert", ("absent_interpreter", "absent"))
    with pytest.raises(RuntimeMissingError, match=r"edgepe\[agent-tflite\]"):
        open_runtime(write_tflite(tmp_path / "m.tflite"), kind="litert")


def test_tflite_falls_to_the_older_runtime_where_only_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "installed_runtimes", lambda: (("tflite-runtime", "2.14.0"),))
    assert runtime_for("tflite") == "tflite-runtime"
    with pytest.raises(RuntimeMissingError, match="agent-ort"):
        runtime_for("onnx")


def test_asking_what_is_installed_imports_nothing_heavy() -> None:
    code = (
        "import sys; from device_agent.runtime.base import installed_runtimes; print(installed_runtimes());"
        "sys.exit(any(n in sys.modules for n in ('numpy', 'onnxruntime', 'ai_edge_litert')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
