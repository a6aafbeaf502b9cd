"""What a bundle may hold, and what is refused before anything of it can do harm."""

from __future__ import annotations

import io
import stat
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from device_agent.errors import UpdateError
from device_agent.update.unpack import MAX_ENTRIES, Expected, unpack
from device_agent.wire.canonical import digest
from device_agent.wire.manifest import MANIFEST_NAME, FileEntry
from tests.wire_samples import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {"model.onnx": b"model" * 100, "golden.npz": b"golden"}
ENTRIES = tuple(FileEntry(name=name, sha256=digest(data), bytes=len(data)) for name, data in sorted(FILES.items()))
GOOD = replace(MANIFEST, files=ENTRIES)
ALL = {MANIFEST_NAME: GOOD.encode(), **FILES}


def zipped(files: dict[str, bytes], *, edit: Callable[[zipfile.ZipInfo], None] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            if edit and name == "model.onnx":
                edit(info)
            archive.writestr(info, data)
    return out.getvalue()


def link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def device(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFBLK | 0o600) << 16


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(30 << 20))
    return out.getvalue()


def lying_size() -> bytes:
    data = zipped(ALL)
    real, false = len(FILES["model.onnx"]).to_bytes(4, "little"), (3).to_bytes(4, "little")
    return data.replace(real, false)


def twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model.onnx", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("model.onnx", b"2")
    return out.getvalue()


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    return tmp_path / "slots" / "a"


def try_to_unpack(data: bytes, slot: Path, expected: Expected) -> None:
    bundle = slot.parent.parent / "x.edge"
    bundle.write_bytes(data)
    unpack(bundle, slot, expected)


def test_a_sound_bundle_becomes_a_slot(slot: Path) -> None:
    data = zipped(ALL)
    expected = Expected(name="watch", version="1.2", target="raspberry-pi-5", sha256=digest(data), length=len(data))
    try_to_unpack(data, slot, expected)
    assert {path.name: path.read_bytes() for path in slot.iterdir()} == ALL
    assert [path.name for path in slot.parent.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(zipped({**ALL, "../out": b""}), "bad_path", id="above"),
        pytest.param(zipped({**ALL, "/etc/out": b""}), "bad_path", id="absolute"),
        pytest.param(zipped({**ALL, "folder/file": b""}), "bad_path", id="folder"),
        pytest.param(zipped({**ALL, "..\\out": b""}), "bad_path", id="backslash"),
        pytest.param(zipped({**ALL, "..": b""}), "bad_path", id="parent"),
        pytest.param(zipped(ALL, edit=link), "bad_entry", id="link"),
        pytest.param(zipped(ALL, edit=device), "bad_entry", id="device"),
        pytest.param(zipped({f"f{n}": b"" for n in range(MAX_ENTRIES + 1)}), "too_many_files", id="many"),
        pytest.param(bomb(), "too_large", id="bomb"),
        pytest.param(twice, "bad_entry", id="twice"),
        pytest.param(lying_size(), "bad_listing", id="lies about a size"),
        pytest.param(zipped(FILES), "bad_manifest", id="no manifest"),
        pytest.param(zipped({**ALL, MANIFEST_NAME: b"{}"}), "bad_manifest", id="broken manifest"),
        pytest.param(zipped({**ALL, "more": b""}), "bad_listing", id="file that is not listed"),
        pytest.param(zipped({MANIFEST_NAME: GOOD.encode(), "model.onnx": b"x"}), "bad_listing", id="file missing"),
        pytest.param(
            zipped({**ALL, "model.onnx": b"MODEL" * 100}), "digest_mismatch", id="other bytes of the same length"
        ),
        pytest.param(b"no zip at all", "bad_bundle", id="no zip"),
        pytest.param(zipped(ALL)[:-40], "bad_bundle", id="cut"),
    ],
)
def test_an_unsound_bundle_leaves_nothing_behind(
    data: bytes | Callable[[], bytes], code: str, slot: Path, tmp_path: Path
) -> None:
    content = data if isinstance(data, bytes) else data()
    with pytest.raises(UpdateError) as caught:
        try_to_unpack(content, slot, Expected())
    assert caught.value.code == code
    assert not slot.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slots", "x.edge"]
    assert not list(slot.parent.iterdir())


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        pytest.param(Expected(length=5), "length_mismatch", id="length"),
        pytest.param(Expected(sha256="0" * 64), "digest_mismatch", id="digest"),
        pytest.param(Expected(name="other"), "wrong_bundle", id="name"),
        pytest.param(Expected(version="9"), "wrong_bundle", id="version"),
        pytest.param(Expected(target="jetson-orin"), "wrong_target", id="target"),
    ],
)
def test_a_bundle_that_is_not_the_wanted_one_is_refused(expected: Expected, code: str, slot: Path) -> None:
    with pytest.raises(UpdateError) as caught:
        try_to_unpack(zipped(ALL), slot, expected)
    assert caught.value.code == code
    assert not slot.exists()


def test_a_read_only_disk_is_explained(tmp_path: Path) -> None:
    (tmp_path / "slots").write_bytes(b"a file where the folder should be")
    with pytest.raises(UpdateError) as caught:
        try_to_unpack(zipped(ALL), tmp_path / "slots" / "a", Expected())
    assert caught.value.code == "disk"
