"""The updater with real children and simulated workers: what ends how, and what serves then."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from device_agent.errors import UpdateError
from device_agent.update.record import Request, read_record
from device_agent.update.slots import Slots
from device_agent.update.states import State, is_terminal
from device_agent.update.updater import Health, Moment, Updater, UpdateSettings
from device_agent.wire.messages import ActiveModel, Gate, Window
from tests.agent_kit import TARGET, FaultyRepository, bundle_bytes, desired_for, wait_for
from tests.tiny_models import write_slot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW_MS = 1_790_000_000_000


@dataclass
class SimulatedWorkers:
    """Workers that do what a test says."""

    health_now: Health = field(default_factory=Health)
    is_ready: bool = True
    refuses: str = ""
    serving: str = "a"
    prepared: str = ""

    def prepare(self, _name: str, folder: Path) -> None:
        self.prepared = folder.name

    def ready(self, _name: str) -> bool:
        if self.refuses:
            raise UpdateError("The worker refuses.", code=self.refuses)
        return self.is_ready

    def promote(self, _name: str) -> None:
        self.serving = self.prepared

    def serve(self, _name: str, folder: Path | None) -> None:
        self.serving = folder.name if folder else ""

    def health(self, _name: str) -> Health:
        return self.health_now


class Device:
    """Version 1 in slot a, version 2 in the repository."""

    def __init__(self, folder: Path, repository: FaultyRepository) -> None:
        self.folder = folder / "models" / "dense"
        self.workers = SimulatedWorkers()
        self.settings = UpdateSettings(repositories=(repository.url,), soak_s=0.1, probe_runs=2, target=TARGET)
        slots = Slots(self.folder)
        write_slot(slots.folder("a"))
        slots.seal("a", ActiveModel(name="dense", version="1", sha256="0" * 64, target=TARGET))
        slots.activate("a")
        data = bundle_bytes(folder / "two", version="2")
        document = desired_for(data, rev=1, version="2")
        repository.files[document.models[0].path] = data
        self.request = Request(rev=1, model=document.models[0])
        self.updater = self.restart()

    def restart(self) -> Updater:
        return Updater("dense", self.folder, settings=self.settings, serving=self.workers)

    def moment(self, *, later_s: float = 0) -> Moment:
        return Moment(wall_ms=NOW_MS, monotonic_s=time.monotonic() + later_s)

    def step_until(self, *states: State) -> None:
        def stepped() -> bool:
            self.updater.step(self.moment())
            return self.updater.record.state in states

        wait_for(stepped, f"one of {states}, not {self.updater.record}")

    def end(self) -> tuple[State, str, str]:
        """Go on to the end; return state, code and what serves."""
        self.step_until(*(state for state in State if is_terminal(state)))
        active = self.updater.slots.active()
        assert self.workers.serving == (active or "")
        return self.updater.record.state, self.updater.record.code, active or ""


@pytest.fixture
def repository() -> Iterator[FaultyRepository]:
    found = FaultyRepository()
    yield found
    found.close()


@pytest.fixture
def device(tmp_path: Path, repository: FaultyRepository) -> Iterator[Device]:
    found = Device(tmp_path, repository)
    yield found
    found.updater.close()


def test_a_good_update_is_committed(device: Device) -> None:
    device.updater.accept(device.request)
    assert device.end() == (State.COMMITTED, "", "b")
    assert device.updater.reported().percent == 100
    assert not device.updater.slots.incoming.exists()


@pytest.mark.parametrize(
    ("gate", "health", "code"),
    [
        pytest.param(Gate(), Health(crashes=1), "worker_crashed", id="crash"),
        pytest.param(Gate(), Health(inferences=99, errors=1), "errors", id="errors"),
        pytest.param(Gate(max_rss_bytes=1 << 40), Health(rss_bytes=1 << 41), "too_much_memory", id="memory"),
    ],
)
def test_a_bad_soak_is_rolled_back_and_the_digest_denied(device: Device, gate: Gate, health: Health, code: str) -> None:
    device.workers.health_now = health
    device.updater.accept(replace(device.request, gate=gate))
    assert device.end() == (State.ROLLED_BACK, code, "a")
    assert dict(device.updater.record.denied) == {device.request.model.sha256: 1}


def test_a_denied_digest_is_refused_until_a_newer_revision_names_it(device: Device) -> None:
    device.workers.health_now = Health(crashes=1)
    device.updater.accept(device.request)
    device.end()
    device.workers.health_now = Health()
    device.updater.accept(replace(device.request, rev=2))
    assert device.end() == (State.COMMITTED, "", "b")


def test_errors_within_the_gate_are_no_reason(device: Device) -> None:
    device.workers.health_now = Health(inferences=999, errors=1)
    device.updater.accept(replace(device.request, gate=Gate(max_errors_permille=1)))
    assert device.end() == (State.COMMITTED, "", "b")


def test_a_worker_that_never_gets_ready_is_rolled_back(device: Device) -> None:
    device.workers.is_ready = False
    device.updater.accept(device.request)
    device.step_until(State.SWITCHING)
    device.updater.step(device.moment())
    device.updater.step(device.moment(later_s=device.settings.ready_timeout_s + 1))
    assert device.end() == (State.ROLLED_BACK, "worker_timeout", "a")


def test_a_worker_that_refuses_its_model_is_rolled_back(device: Device) -> None:
    device.workers.refuses = "model_refused"
    device.updater.accept(device.request)
    assert device.end() == (State.ROLLED_BACK, "model_refused", "a")


@pytest.mark.parametrize(
    ("gate", "code"),
    [(Gate(max_p99_us=0), "too_slow"), (Gate(max_rss_bytes=1), "too_much_memory")],
)
def test_a_probe_past_its_gate_fails(device: Device, gate: Gate, code: str) -> None:
    device.updater.accept(replace(device.request, gate=gate))
    assert device.end() == (State.FAILED, code, "a")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"window": Window(start_ms=1, end_ms=NOW_MS)}, "window_closed", id="window"),
        pytest.param({"length": 2 << 30}, "too_large", id="size"),
    ],
)
def test_what_cannot_be_is_rejected_before_a_byte_is_fetched(
    device: Device, repository: FaultyRepository, change: dict[str, object], code: str
) -> None:
    request = device.request
    if isinstance(window := change.get("window"), Window):
        request = replace(request, window=window)
    if isinstance(length := change.get("length"), int):
        request = replace(request, model=replace(request.model, length=length))
    device.updater.accept(request)
    assert device.end() == (State.REJECTED, code, "a")
    assert not repository.requests


def test_an_update_waits_for_its_window(device: Device) -> None:
    device.updater.accept(replace(device.request, window=Window(start_ms=NOW_MS + 1, end_ms=NOW_MS + 9)))
    for _ in range(5):
        device.updater.step(device.moment())
    assert device.updater.record.state.value == "PREFLIGHT"
    device.updater.step(replace(device.moment(), wall_ms=NOW_MS + 1))
    assert device.updater.record.state.value == "DOWNLOADING"


@pytest.mark.parametrize(
    "state",
    [
        State.ACCEPTED,
        State.PREFLIGHT,
        State.DOWNLOADING,
        State.VERIFYING,
        State.STAGED,
        State.PROBING,
        State.SWITCHING,
        State.SOAKING,
    ],
)
def test_a_cancel_at_any_state_leaves_the_old_model_serving(device: Device, state: State) -> None:
    device.updater.accept(device.request)
    if state is not State.ACCEPTED:
        device.step_until(state)
    device.updater.cancel(detail="The operator said so.")
    assert device.end() == (State.CANCELLED, "cancelled", "a")


def test_a_newer_revision_of_another_digest_takes_the_place_of_the_one_under_way(
    device: Device, repository: FaultyRepository, tmp_path: Path
) -> None:
    device.updater.accept(device.request)
    device.step_until(State.DOWNLOADING)
    data = bundle_bytes(tmp_path / "three", version="3")
    document = desired_for(data, rev=2, version="3")
    repository.files[document.models[0].path] = data
    device.updater.accept(Request(rev=2, model=document.models[0]))
    assert device.end() == (State.COMMITTED, "", "b")
    active = device.updater.slots.active_model()
    assert active is not None
    assert active.version == "3"


def test_a_newer_revision_of_the_same_digest_goes_on(device: Device) -> None:
    device.updater.accept(device.request)
    device.step_until(State.DOWNLOADING)
    device.updater.accept(replace(device.request, rev=2))
    assert device.updater.record.state is State.DOWNLOADING
    assert device.end()[0] is State.COMMITTED
    assert device.updater.record.rev == 2


def test_a_model_that_serves_already_is_committed_at_once(device: Device, repository: FaultyRepository) -> None:
    device.updater.accept(replace(device.request, model=replace(device.request.model, sha256="0" * 64)))
    assert device.updater.record.state is State.COMMITTED
    assert not repository.requests


def test_the_first_model_of_a_device_that_is_rolled_back_leaves_nothing_serving(device: Device, tmp_path: Path) -> None:
    device.folder = tmp_path / "bare"
    device.workers.health_now, device.workers.serving = Health(crashes=1), ""
    device.updater = device.restart()
    device.folder.mkdir()
    device.updater.accept(device.request)
    assert device.end() == (State.ROLLED_BACK, "worker_crashed", "")


def test_a_disk_that_refuses_ends_in_failed_with_the_old_model(device: Device) -> None:
    device.updater.accept(device.request)
    device.step_until(State.VERIFYING)
    blocked = device.updater.slots.folder("b").with_name("b.tmp")
    blocked.write_bytes(b"in the way")
    state, code, active = device.end()
    assert (state, active) == (State.FAILED, "a")
    assert code == "disk"


def test_a_garbled_record_is_explained(device: Device) -> None:
    path = device.folder / "state.json"
    path.write_bytes(b"{")
    with pytest.raises(UpdateError) as caught:
        read_record(path, "dense")
    assert caught.value.code == "bad_record"
