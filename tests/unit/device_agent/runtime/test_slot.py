"""A slot is opened only if its files, its manifest and its model agree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from device_agent.errors import ModelError, RuntimeMissingError
from device_agent.runtime import slot as slot_module
from device_agent.runtime.slot import choose_runtime, open_slot, read_manifest
from device_agent.wire.manifest import RuntimeFloor, TensorSpec
from tests.tiny_models import write_slot

if TYPE_CHECKING:
    from pathlib import Path


def test_a_whole_slot_is_read_and_opened(tmp_path: Path) -> None:
    written = write_slot(tmp_path)
    assert read_manifest(tmp_path) == written
    assert open_slot(tmp_path, written, threads=2).name == "onnxruntime"


@pytest.mark.parametrize("file", ["model.onnx", "golden.npz"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, file: str) -> None:
    write_slot(tmp_path)
    data = bytearray((tmp_path / file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / file).write_bytes(data)
    with pytest.raises(ModelError, match=file) as caught:
        read_manifest(tmp_path)
    assert caught.value.code == "digest_mismatch"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(TensorSpec(name="z", dtype="float32", shape=(-1, 4)), r"expected: \['z'\]", id="name"),
        pytest.param(TensorSpec(name="x", dtype="int8", shape=(-1, 4)), r"expected: int8 \[-1, 4\]", id="dtype"),
        pytest.param(TensorSpec(name="x", dtype="float32", shape=(-1, 5)), r"got: float32 \[-1, 4\]", id="shape"),
        pytest.param(TensorSpec(name="x", dtype="float32", shape=(4,)), r"got: float32 \[-1, 4\]", id="rank"),
    ],
)
def test_a_manifest_of_another_model_is_refused(tmp_path: Path, spec: TensorSpec, words: str) -> None:
    manifest = replace(write_slot(tmp_path), inputs=(spec,))
    with pytest.raises(ModelError, match=words):
        open_slot(tmp_path, manifest, threads=1)


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        pytest.param((("litert", "2.3.0"), ("tflite-runtime", "2.14.0")), "litert", id="named"),
        pytest.param((("tflite-runtime", "2.14.0"),), "tflite-runtime", id="the-other-of-the-format"),
    ],
)
def test_the_named_runtime_is_chosen_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: tuple[tuple[str, str], ...], chosen: str
) -> None:
    manifest = write_slot(tmp_path, model_format="tflite")
    monkeypatch.setattr(slot_module, "installed_runtimes", lambda: installed)
    monkeypatch.setattr("device_agent.runtime.base.installed_runtimes", lambda: installed)
    assert choose_runtime(manifest) == chosen


@pytest.mark.parametrize(
    ("have", "floor", "enough"),
    [("1.23.2", "1.23.2", True), ("1.9", "1.23", False), ("2.0rc1", "1.31.1", True), ("1.31.0+cu12", "1.31.1", False)],
)
def test_a_runtime_below_the_floor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, have: str, floor: str, *, enough: bool
) -> None:
    manifest = replace(write_slot(tmp_path), runtime=RuntimeFloor(name="onnxruntime", version=floor))
    monkeypatch.setattr(slot_module, "installed_runtimes", lambda: (("onnxruntime", have),))
    if enough:
        assert choose_runtime(manifest) == "onnxruntime"
    else:
        with pytest.raises(RuntimeMissingError, match=r"edgepe\[agent-ort\]") as caught:
            choose_runtime(manifest)
        assert caught.value.code == "runtime_too_old"
