"""Two slots and a pointer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from device_agent.errors import UpdateError
from device_agent.update.slots import Slots, installed_models
from tests.wire_samples import ACTIVE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    found = Slots(tmp_path / "models" / "watch")
    found.folder("a").mkdir(parents=True)
    found.seal("a", ACTIVE)
    found.activate("a")
    return found


def test_an_empty_folder_serves_nothing(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    assert (slots.active(), slots.active_model(), slots.spare()) == (None, None, "a")
    assert installed_models(tmp_path) == ()


def test_the_pointer_says_what_serves(slots: Slots, tmp_path: Path) -> None:
    assert (slots.active(), slots.active_model(), slots.spare()) == ("a", ACTIVE, "b")
    assert installed_models(tmp_path) == ("watch",)


def test_a_slot_without_its_identity_does_not_count(slots: Slots) -> None:
    slots.folder("b").mkdir()
    assert slots.other_model() is None
    with pytest.raises(UpdateError):
        slots.activate("b")


def test_the_slot_that_serves_is_never_cleared(slots: Slots) -> None:
    with pytest.raises(UpdateError) as caught:
        slots.clear("a")
    assert caught.value.code == "active_slot"


def test_an_empty_slot_cannot_be_sealed(slots: Slots) -> None:
    with pytest.raises(UpdateError):
        slots.seal("b", ACTIVE)


def test_a_garbled_pointer_serves_nothing(slots: Slots, tmp_path: Path) -> None:
    (tmp_path / "models" / "watch" / "active").write_bytes(b"\xff../../etc")
    assert slots.active() is None


def test_collecting_removes_downloads_and_half_made_files_alone(slots: Slots, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "watch"
    slots.incoming.write_bytes(b"part")
    (folder / "slots" / "b.tmp").mkdir()
    (folder / "active.tmp").write_bytes(b"a")
    slots.collect()
    assert sorted(path.name for path in folder.rglob("*")) == ["a", "a.json", "active", "slots"]
