"""Install a bundle from a file: a local operator's act, on an agent that is not running.

Rules kept here:
1. The same children as in an update: unpacking checks every digest, the probe runs the golden vectors.
2. The model that was installed before stays in the other slot until the new one has passed.
3. The record says COMMITTED with revision 0, so that the first ``desired`` of a fleet is newer.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from device_agent.errors import UpdateError
from device_agent.update.job import Job
from device_agent.update.record import Record, read_record, write_record
from device_agent.update.slots import Slots, installed_models
from device_agent.update.states import State, is_terminal
from device_agent.wire.messages import ActiveModel

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.update.job import JobResult
    from device_agent.update.updater import UpdateSettings

__all__ = ["install"]

_CHUNK = 1 << 20


def install(bundle: Path, state: Path, settings: UpdateSettings) -> tuple[ActiveModel, JobResult]:
    """Put a bundle into service for the next start of the agent.

    Args:
        bundle: The ``.edge`` file.
        state: The agent's state folder, locked by the caller.
        settings: What to know of the device.

    Returns:
        What is installed, and what the probe measured.

    Raises:
        UpdateError: The bundle is not sound, not for this board, or fails its golden vectors.
    """
    sha256 = _digest(bundle)
    scratch = state / "install"
    arguments = [f"--bundle={bundle}", f"--into={scratch}", f"--target={settings.target}", f"--sha256={sha256}"]
    unpacked = _done(Job("device_agent.update.unpack", arguments, timeout_s=settings.unpack_timeout_s).wait())
    model = ActiveModel(
        name=unpacked.fact("name"), version=unpacked.fact("version"), sha256=sha256, target=unpacked.fact("target")
    )
    others = [name for name in installed_models(state) if name != model.name]
    if others:
        raise UpdateError("This agent serves one model.", code="second_model", expected=others[0], got=model.name)
    arguments = [f"--slot={scratch}", f"--runs={settings.probe_runs}"]
    probed = _done(Job("device_agent.runtime.probe", arguments, timeout_s=settings.probe_timeout_s).wait())
    _put(scratch, state / "models" / model.name, model)
    return model, probed


def _put(scratch: Path, folder: Path, model: ActiveModel) -> None:
    record = read_record(folder / "state.json", model.name)
    if record.state is not State.IDLE and not is_terminal(record.state):
        raise UpdateError(
            "An update of this model is under way.",
            code="busy",
            got=record.state.value,
            next_step="Start the agent once, so that it ends the update.",
        )
    slots = Slots(folder)
    slot = slots.spare()
    slots.clear(slot)
    slots.folder(slot).parent.mkdir(parents=True, exist_ok=True)
    scratch.replace(slots.folder(slot))
    slots.seal(slot, model)
    slots.activate(slot)
    write_record(folder / "state.json", Record(name=model.name, state=State.COMMITTED, percent=100, attempt=1))


def _digest(bundle: Path) -> str:
    hasher = hashlib.sha256()
    try:
        with bundle.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
    except OSError as error:
        raise UpdateError(f"The bundle {bundle} cannot be read.", code="disk", got=str(error)) from error
    return hasher.hexdigest()


def _done(result: JobResult) -> JobResult:
    if not result.passed:
        raise UpdateError(f"The bundle is refused: {result.code}.", code=result.code, got=result.detail)
    return result
