from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from device_agent.wire.manifest import Golden, Manifest, RuntimeFloor, TensorSpec
from edgepe.bundle import evidence_path, read_bundle, read_evidence, write_bundle, write_evidence
from edgepe.bundle.pack import file_entries, pack
from edgepe.errors import BundleError, MissingFileError

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"model.onnx": b"weights", "golden.npz": b"vectors"}
MANIFEST = Manifest(
    name="net",
    version="1",
    target="raspberry-pi-5",
    format="onnx",
    precision="int8",
    model="model.onnx",
    files=file_entries(FILES),
    inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 2)),),
    runtime=RuntimeFloor(name="onnxruntime", version="1.20.0"),
    golden=Golden(file="golden.npz", count=1, atol=0.1, rtol=0.0, min_agree=1.0),
)


def test_the_same_content_has_the_same_bytes_in_any_order() -> None:
    assert pack(MANIFEST, FILES) == pack(MANIFEST, dict(reversed(FILES.items())))


def test_entries_are_stored_and_the_manifest_comes_first(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "new" / "net.edge", MANIFEST, FILES).path
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["manifest.json", "golden.npz", "model.onnx"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_bundle_reads_back_whole(tmp_path: Path) -> None:
    write_bundle(tmp_path / "net.edge", MANIFEST, FILES)
    bundle = read_bundle(tmp_path / "net.edge")
    assert bundle.manifest == MANIFEST
    assert {name: bundle.read(name) for name in FILES} == FILES
    bundle.extract(tmp_path / "slot")
    assert {file.name for file in (tmp_path / "slot").iterdir()} == {*FILES, "manifest.json"}


def test_files_that_the_manifest_does_not_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not those of the manifest"):
        write_bundle(tmp_path / "net.edge", MANIFEST, FILES | {"extra": b""})
    assert list(tmp_path.iterdir()) == []


def test_another_byte_in_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.edge"
    path.write_bytes(pack(MANIFEST, FILES).replace(b"weights", b"weighty"))
    with pytest.raises(BundleError, match="no whole bundle"):
        read_bundle(path).read("model.onnx")


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_a_bundle_that_was_cut_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "net.edge"
    path.write_bytes(pack(MANIFEST, FILES)[:cut])
    with pytest.raises(BundleError, match="no whole bundle"):
        read_bundle(path)


def test_a_zip_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.edge"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        read_bundle(path)


def test_a_bundle_without_a_listed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.edge"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", replace(MANIFEST, version="2").encode())
    with pytest.raises(BundleError, match=r"golden\.npz, model\.onnx missing"):
        read_bundle(path)


def test_a_missing_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_bundle(tmp_path / "no.edge")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BundleError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "net.edge", MANIFEST, FILES)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_evidence_lies_beside_its_bundle(tmp_path: Path) -> None:
    path = tmp_path / "net.edge"
    assert write_evidence(path, {"latency_us": 1.5}) == evidence_path(path)
    assert read_evidence(path) == {"latency_us": 1.5}
    evidence_path(path).write_text("[]")
    with pytest.raises(BundleError, match="JSON object"):
        read_evidence(path)
    evidence_path(path).unlink()
    with pytest.raises(MissingFileError):
        read_evidence(path)
