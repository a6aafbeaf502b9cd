"""A process of its own that drives one update with real disk, real children and real workers, and dies on demand.

``python -m tests.faults.update_driver FOLDER URL PHASE STATE``: at PHASE ("entered", "leaving", "switched") of STATE it
kills itself with SIGKILL; with PHASE "never" it goes on to the end. It prints one line: state, code, serving version.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.update.record import Request
from device_agent.update.states import is_terminal
from device_agent.update.updater import Moment, Updater, UpdateSettings
from device_agent.wire.fields import Fields
from device_agent.workers import WorkerCommand, Workers

if TYPE_CHECKING:
    from device_agent.update.record import Record


def main(folder: Path, url: str, phase: str, state: str) -> int:
    """Drive the update in ``folder/request.json`` to its end."""

    def observe(at: str, record: Record) -> None:
        if at == phase and record.state.value == state:
            os.kill(os.getpid(), signal.SIGKILL)

    workers = Workers(WorkerCommand(), on_stats=lambda _model, _stats: None)
    settings = UpdateSettings(repositories=(url,), soak_s=0.05, probe_runs=2, target="generic-x86-64")
    updater = Updater("dense", folder / "models" / "dense", settings=settings, serving=workers, observe=observe)
    updater.recover()
    slot = updater.slots.active()
    if slot:
        workers.serve("dense", updater.slots.folder(slot))
    request = Request.read(Fields(json.loads((folder / "request.json").read_text()), "request"))
    if updater.record.rev < request.rev:
        updater.accept(request)
    while not is_terminal(updater.record.state):
        workers.tick(time.monotonic())
        updater.step(Moment(wall_ms=time.time_ns() // 1_000_000, monotonic_s=time.monotonic()))
        time.sleep(0.005)
    workers.stop()
    active = updater.slots.active_model()
    words = (updater.record.state.value, updater.record.code or "-", active.version if active else "none")
    sys.stdout.write(" ".join(words) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:5]))
