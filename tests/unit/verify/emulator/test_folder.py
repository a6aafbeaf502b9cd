from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepe.errors import VerifyError
from edgepe.verify.emulator import folder
from edgepe.verify.emulator.folder import (
    Content,
    Emulator,
    Package,
    default_folder,
    find_emulator,
    read_content,
    write_content,
)

QEMU = Package(name="qemu-user", version="1:10.0.13+ds-0+deb13u1", file="q.deb", sha256="0")
NUMPY = Package(name="numpy", version="2.4.6", file="n.whl", sha256="1")
WHOLE = Content(debian=(QEMU,), pypi=(NUMPY,))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_content(tmp_path, WHOLE)
    assert read_content(tmp_path) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["content.json"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="absent"),
        pytest.param("{", id="cut"),
        pytest.param("[]", id="list"),
        pytest.param('{"schema": 2, "debian": [], "pypi": []}', id="later-schema"),
        pytest.param('{"schema": 1, "debian": [{"name": "x"}], "pypi": []}', id="half-a-package"),
    ],
)
def test_what_cannot_be_read_was_not_made(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "content.json").write_text(text)
    assert read_content(tmp_path) == Content()


@pytest.mark.parametrize("content", [Content(), Content(debian=(QEMU,))], ids=["nothing", "half"])
def test_an_unfinished_machine_is_an_error_that_says_what_to_do(tmp_path: Path, content: Content) -> None:
    write_content(tmp_path, content)
    with pytest.raises(VerifyError, match="make emulator") as caught:
        find_emulator(tmp_path)
    assert caught.value.exit_code == 1


def test_a_whole_machine_is_found(tmp_path: Path) -> None:
    write_content(tmp_path, WHOLE)
    assert find_emulator(tmp_path) == Emulator(folder=tmp_path, content=WHOLE)


def test_the_users_choice_of_folder_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPE_EMULATOR", str(tmp_path))
    assert default_folder() == tmp_path


def test_a_checkout_keeps_it_in_its_own_cache(monkeypatch: pytest.MonkeyPatch, repository_root: Path) -> None:
    monkeypatch.delenv("EDGEPE_EMULATOR", raising=False)
    assert default_folder() == repository_root / ".cache" / "emulator"


def test_elsewhere_it_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEPE_EMULATOR", raising=False)
    monkeypatch.setattr(folder, "CHECKOUT", tmp_path / "site-packages")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_folder() == tmp_path / "cache" / "edgepe" / "emulator"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "edgepe" / "emulator"


def test_the_machine_sees_its_own_code_and_nothing_of_the_hosts(tmp_path: Path) -> None:
    machine = Emulator(folder=tmp_path, content=WHOLE)
    assert machine.qemu_version == "10.0.13"
    assert machine.command("cortex-a76")[3:5] == ("-cpu", "cortex-a76")
    assert machine.command("cortex-a76")[-1] == "-S"
    environment = machine.environment(Path("code"))
    assert environment["PYTHONPATH"] == f"code:{tmp_path / 'pypi'}"
    assert "PATH" not in environment


def test_the_digest_is_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    path.write_bytes(b"abc")
    found = Package.of(path, name="a", version="1")
    assert found.file == "a.whl"
    assert found.sha256.startswith("ba7816bf")


def test_the_list_is_plain_json(tmp_path: Path) -> None:
    write_content(tmp_path, WHOLE)
    raw = json.loads((tmp_path / "content.json").read_text())
    assert raw["schema"] == 1
    assert raw["pypi"][0]["name"] == "numpy"
