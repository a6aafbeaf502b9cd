"""SIGKILL at entry, middle and exit of every state: the old or the new model serves, and the update ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from device_agent.update.record import Request
from device_agent.update.slots import Slots
from device_agent.update.states import UNDER_WAY, State, is_terminal
from device_agent.wire.messages import ActiveModel
from tests.agent_kit import FaultyRepository, bundle_bytes, desired_for
from tests.tiny_models import BIAS, write_slot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = "1", "2"


class Device:
    """A state folder with version 1 installed, and a repository with version 2."""

    def __init__(self, folder: Path, repository: FaultyRepository, *, data: bytes) -> None:
        self.folder = folder
        self.repository = repository
        self.slots = Slots(folder / "models" / "dense")
        write_slot(self.slots.folder("a"))
        self.slots.seal("a", ActiveModel(name="dense", version=OLD, sha256="0" * 64, target="generic-x86-64"))
        self.slots.activate("a")
        document = desired_for(data, rev=1, version=NEW)
        repository.files[document.models[0].path] = data
        request = Request(rev=1, model=document.models[0])
        (folder / "request.json").write_text(json.dumps(request.to_json()))

    def start(self, phase: str = "never", state: str = "-") -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "tests.faults.update_driver", str(self.folder), self.repository.url, phase, state]
        return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)

    def run(self, phase: str = "never", state: str = "-") -> tuple[int, list[str]]:
        process = self.start(phase, state)
        try:
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        return process.returncode, out.split()

    def state(self) -> State:
        path = self.folder / "models" / "dense" / "state.json"
        return State(json.loads(path.read_text())["state"]) if path.exists() else State.IDLE

    def check_whole(self) -> None:
        """Exactly one whole model is pointed to, and nothing half-made lies about."""
        model = self.slots.active_model()
        assert model is not None
        assert model.version in (OLD, NEW)
        assert (self.slots.folder(self.slots.active() or "") / "model.onnx").stat().st_size


@pytest.fixture
def repository() -> Iterator[FaultyRepository]:
    found = FaultyRepository()
    yield found
    found.close()


@pytest.fixture
def device(tmp_path: Path, repository: FaultyRepository) -> Device:
    return Device(tmp_path / "state", repository, data=bundle_bytes(tmp_path / "two", version=NEW))


POINTS = [(phase, state.value) for state in UNDER_WAY for phase in ("entered", "leaving")]


@pytest.mark.parametrize(("phase", "state"), [*POINTS, ("switched", "SWITCHING"), ("entered", "COMMITTED")])
def test_a_kill_at_any_state_ends_in_the_new_model_after_a_restart(device: Device, phase: str, state: str) -> None:
    status, _ = device.run(phase, state)
    assert status == -9
    assert device.state() is State(state)
    device.check_whole()
    assert device.run() == (0, ["COMMITTED", "-", NEW])
    device.check_whole()
    assert not list(device.folder.rglob("*.tmp"))


@pytest.mark.parametrize("state", [state.value for state in UNDER_WAY])
def test_a_kill_at_every_start_ends_in_the_old_model(device: Device, state: str) -> None:
    for _ in range(6):
        status, said = device.run("entered", state)
        device.check_whole()
        if status == 0:
            break
    switched = state in ("SWITCHING", "SOAKING")
    assert said == ["ROLLED_BACK" if switched else "FAILED", "interrupted", OLD]
    assert is_terminal(device.state())


@pytest.mark.parametrize("phase_of_end", ["FAILED", "ROLLED_BACK"])
def test_an_end_that_was_written_but_not_carried_out_is_carried_out(
    tmp_path: Path, repository: FaultyRepository, phase_of_end: str
) -> None:
    bias = BIAS + 1 if phase_of_end == "FAILED" else BIAS
    device = Device(tmp_path / "s", repository, data=bundle_bytes(tmp_path / "x", version=NEW, bias=bias))
    if phase_of_end == "ROLLED_BACK":
        for _ in range(4):
            device.run("entered", "SOAKING")
        assert device.slots.active_model() == device.slots.identity("b")
    status, _ = device.run("entered", phase_of_end)
    assert status == -9
    assert device.state() is State(phase_of_end)
    _, said = device.run()
    assert (said[0], said[2]) == (phase_of_end, OLD)


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_a_kill_in_the_middle_ends_in_one_whole_model(device: Device, after_s: float) -> None:
    process = device.start()
    time.sleep(after_s)
    process.kill()
    process.communicate()
    device.check_whole()
    assert device.run() == (0, ["COMMITTED", "-", NEW])
