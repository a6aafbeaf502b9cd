"""What the agent as a whole remembers: ``agent.json`` and the lock of its state folder.

Rules kept here:
1. One state folder, one agent: a second one is refused while the first lives; a kill frees the lock.
2. The boot counter is durable before the first message of that boot; the revision before it is reported.
3. Every audit entry carries the digest of the one before, across boots.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from device_agent.errors import AgentError, UpdateError
from device_agent.update.slots import write_durably
from device_agent.wire.canonical import canonical, digest, parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.fields import Fields
from device_agent.wire.limits import MAX_PRESENCE_BYTES
from device_agent.wire.messages import Event, encode

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Memory", "StateLock", "read_memory"]


class StateLock:
    """Holds the state folder for this process.

    Raises:
        AgentError: Another agent holds it, or the folder cannot be written.
    """

    def __init__(self, state: Path) -> None:
        try:
            state.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AgentError("The state folder cannot be written.", code="disk", got=str(error)) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise AgentError(
                f"Another agent runs on {state}.",
                code="locked",
                next_step="End it first, or give this agent a state folder of its own.",
            ) from error

    def release(self) -> None:
        """Let the next agent in."""
        os.close(self._handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    boot: int = 0
    rev: int = 0
    events: int = 0
    last_event: str = ""


class Memory:
    """The durable numbers of one device.

    Args:
        path: ``agent.json``.

    Raises:
        UpdateError: The file is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values = read_memory(path)

    @property
    def boot(self) -> int:
        """Return the number of this start."""
        return self._values.boot

    @property
    def rev(self) -> int:
        """Return the newest revision that was acted on."""
        return self._values.rev

    def count_boot(self) -> None:
        """Begin the next boot, durably."""
        self._save(replace(self._values, boot=self._values.boot + 1))

    def keep_rev(self, rev: int) -> None:
        """Remember a newer revision, durably."""
        self._save(replace(self._values, rev=max(rev, self._values.rev)))

    def event(
        self, device: str, *, time_ms: int, kind: str, model: str = "", code: str = "", detail: str = ""
    ) -> Event:
        """Make the next audit entry and remember its digest, durably."""
        event = Event(
            device=device,
            boot=self.boot,
            number=self._values.events + 1,
            time_ms=time_ms,
            kind=kind,
            model=model,
            code=code,
            detail=detail,
            previous=self._values.last_event,
        )
        self._save(replace(self._values, events=event.number, last_event=digest(encode(event))))
        return event

    def _save(self, values: _Values) -> None:
        write_durably(
            self._path,
            canonical(
                {
                    "v": 1,
                    "boot": values.boot,
                    "rev": values.rev,
                    "events": values.events,
                    "last_event": values.last_event,
                }
            ),
        )
        self._values = values


def read_memory(path: Path) -> _Values:
    """Read ``agent.json``; an absent one is that of a new device.

    Raises:
        UpdateError: It is there and cannot be read.
    """
    try:
        fields = Fields(parse_document(path.read_bytes(), limit=MAX_PRESENCE_BYTES, what="agent.json"), "agent.json")
        return _Values(
            boot=fields.integer("boot"),
            rev=fields.integer("rev"),
            events=fields.integer("events", default=0),
            last_event=fields.text("last_event", default=""),
        )
    except FileNotFoundError:
        return _Values()
    except (OSError, WireError) as error:
        raise UpdateError(f"{path} cannot be read.", code="disk", got=str(error)) from error
