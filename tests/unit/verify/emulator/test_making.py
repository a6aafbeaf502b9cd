from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from edgepe.errors import VerifyError
from edgepe.verify.emulator import making, wheels
from edgepe.verify.emulator.debian import PYTHON_PACKAGES, QEMU_PACKAGE, system_mirror
from edgepe.verify.emulator.folder import Content, Package, read_content, write_content
from edgepe.verify.emulator.making import make_emulator
from edgepe.verify.emulator.wheels import unpack_wheels, wanted_wheels


def packages(versions: dict[str, str]) -> tuple[Package, ...]:
    return tuple(Package(name=name, version=version, file=name, sha256="0") for name, version in versions.items())


DEBIAN = packages(dict.fromkeys((QEMU_PACKAGE, *PYTHON_PACKAGES), "1"))


def refuse(*_: object) -> None:
    pytest.fail("the network was asked")


def test_a_whole_machine_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(making, "download_packages", refuse)
    monkeypatch.setattr(making, "download_wheels", refuse)
    write_content(tmp_path, Content(debian=DEBIAN, pypi=packages(wanted_wheels())))
    told: list[str] = []
    assert make_emulator(tmp_path, tell=told.append).folder == tmp_path
    assert told == []


def test_another_version_of_a_runtime_is_fetched_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(wanted: dict[str, str], into: Path) -> None:
        assert wanted == wanted_wheels()
        assert into.parent == tmp_path
        raise VerifyError("no network")

    monkeypatch.setattr(making, "download_packages", refuse)
    monkeypatch.setattr(making, "download_wheels", fetch)
    write_content(tmp_path, Content(debian=DEBIAN, pypi=packages(wanted_wheels() | {"numpy": "1.0"})))
    with pytest.raises(VerifyError, match="no network"):
        make_emulator(tmp_path, tell=lambda _: None)
    assert read_content(tmp_path) == Content(debian=DEBIAN)


def test_a_machine_that_does_not_run_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unpack(_: Path, __: dict[str, str], tree: Path) -> tuple[Package, ...]:
        tree.mkdir()
        return packages(wanted_wheels())

    monkeypatch.setattr(making, "download_wheels", lambda *_: None)
    monkeypatch.setattr(making, "unpack_wheels", unpack)
    qemu = tmp_path / "debian" / "qemu-aarch64"
    qemu.parent.mkdir()
    qemu.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    qemu.chmod(0o755)
    write_content(tmp_path, Content(debian=DEBIAN))
    with pytest.raises(VerifyError, match="no such module"):
        make_emulator(tmp_path, tell=lambda _: None)
    assert read_content(tmp_path).pypi == ()


def test_a_host_without_apt_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VerifyError, match="EDGEPE_EMULATOR") as caught:
        system_mirror()
    assert caught.value.got == "no apt-get and no dpkg-deb"


def test_the_runtimes_are_those_of_this_host() -> None:
    wanted = wanted_wheels()
    assert set(wanted) == {"numpy", "onnxruntime", "flatbuffers", "ai-edge-litert"}
    assert wanted["onnxruntime"] == metadata.version("onnxruntime")


def test_a_runtime_that_the_host_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_installed", lambda name: name == "onnxruntime")
    assert set(wanted_wheels()) == {"numpy", "onnxruntime"}
    monkeypatch.setattr(wheels, "_installed", lambda _: False)
    with pytest.raises(VerifyError, match=r"edgepe\[compile\]"):
        wanted_wheels()


def test_wheels_are_unpacked_side_by_side(tmp_path: Path) -> None:
    for name in ("a_b", "c"):
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-cp311-cp311-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
    found = unpack_wheels(tmp_path, {"a-b": "1.0", "c": "1.0"}, tmp_path / "tree")
    assert [package.name for package in found] == ["a-b", "c"]
    assert (tmp_path / "tree" / "a_b" / "__init__.py").is_file()
    assert (tmp_path / "tree" / "c" / "__init__.py").is_file()


def test_a_damaged_wheel_is_removed_so_that_the_next_run_fetches_it(tmp_path: Path) -> None:
    path = tmp_path / "c-1.0-cp311-cp311-any.whl"
    path.write_bytes(b"PK")
    with pytest.raises(VerifyError, match="damaged"):
        unpack_wheels(tmp_path, {"c": "1.0"}, tmp_path / "tree")
    assert not path.exists()
    with pytest.raises(VerifyError, match="no wheel of c"):
        unpack_wheels(tmp_path, {"c": "1.0"}, tmp_path / "tree")
