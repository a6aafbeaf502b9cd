"""What an agent's state folder says, read without disturbing the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from device_agent.memory import read_memory
from device_agent.update.record import read_record
from device_agent.update.slots import Slots, installed_models
from device_agent.wire.canonical import parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.limits import MAX_PRESENCE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.config import AgentConfig

__all__ = ["read_status"]


def read_status(config: AgentConfig) -> dict[str, object]:
    """Return device, boot, revision, the running process and the update state of each model, as JSON values.

    Raises:
        UpdateError: A file of the state cannot be read.
    """
    memory = read_memory(config.state / "agent.json")
    models: dict[str, object] = {}
    for name in installed_models(config.state):
        folder = config.state / "models" / name
        slots = Slots(folder)
        record = read_record(folder / "state.json", name)
        models[name] = record.reported(active=slots.active_model(), previous=slots.other_model()).to_json()
    return {
        "device": config.device,
        "site": config.site,
        "target": config.target,
        "boot": memory.boot,
        "rev": memory.rev,
        "running": _running(config.state / "run.json"),
        "models": models,
    }


def _running(path: Path) -> object:
    """Return what the running agent wrote down about itself, or None."""
    try:
        return parse_document(path.read_bytes(), limit=MAX_PRESENCE_BYTES, what="run.json")
    except (OSError, WireError):
        return None
