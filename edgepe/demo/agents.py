"""The three boxes of the demo: real agents, each its own process with its own folder, replaying recordings.

Rules kept here:
1. An agent is started the way a user starts it: ``edgepe-agent install`` and ``edgepe-agent run`` with an agent.toml.
2. What is started is stopped: SIGTERM first, SIGKILL after a grace period, on every way out.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepe.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Box", "install", "running_agents"]

GRACE_S = 10.0
INSTALL_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One device of the demo.

    Attributes:
        device: Its id.
        target: The target profile it stands for.
        folder: Where its configuration, state and log are.
    """

    device: str
    target: str
    folder: Path

    @property
    def config(self) -> Path:
        """The box's agent.toml."""
        return self.folder / "agent.toml"

    @property
    def log(self) -> Path:
        """What its agent wrote to stderr."""
        return self.folder / "agent.log"

    def write_config(
        self, *, broker: str, repository: str, keys: Sequence[str], recording: Path, rate_hz: float
    ) -> None:
        """Write agent.toml: where the fleet is, whom to trust, and which recording to replay."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tables: dict[str, dict[str, object]] = {
            "": {"device": self.device, "site": "demo", "target": self.target, "state": str(self.folder / "state")},
            "mqtt": {"url": broker},
            "repository": {"url": repository},
            "trust": {"keys": list(keys)},
            "telemetry": {"interval_s": 1},
            "update": {"soak_s": 3},
            "source": {"file": str(recording), "rate_hz": rate_hz, "loop": True},
        }
        self.config.write_text("\n".join(_toml(name, table) for name, table in tables.items()), encoding="utf8")


def _toml(name: str, table: dict[str, object]) -> str:
    """Write one table; JSON's strings, numbers, booleans and arrays are TOML's too."""
    header = [f"[{name}]"] if name else []
    return "\n".join([*header, *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""])


def _agent(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "device_agent", *map(str, arguments)]


def install(box: Box, bundle: Path) -> None:
    """Put a first bundle on a box, as a local operator does.

    Raises:
        FleetError: The agent refuses the bundle; the message carries what it said.
    """
    command = _agent("install", bundle, "--config", box.config)
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S)  # noqa: S603 - our own program
    if result.returncode:
        raise FleetError(
            f"{box.device} refuses {bundle.name}",
            expected="an installed bundle",
            got=result.stderr.strip()[-2000:],
            next_step=f"edgepe inspect {bundle}",
        )


@contextlib.contextmanager
def running_agents(boxes: Sequence[Box]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run the agents of some boxes; stop them all on the way out."""
    with contextlib.ExitStack() as stack:
        yield {box.device: stack.enter_context(_running(box)) for box in boxes}


@contextlib.contextmanager
def _running(box: Box) -> Iterator[subprocess.Popen[bytes]]:
    command = _agent("run", "--config", box.config)
    with box.log.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - our own program
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End an agent and whatever it started: it leads a session of its own."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
