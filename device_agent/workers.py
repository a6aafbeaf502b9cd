"""The worker processes of the supervisor: one per model version that serves.

Rules kept here:
1. A worker inherits the listening sockets and one end of a control socket, and nothing else.
2. A new worker serves before the old one drains, so no connection finds nobody.
3. A worker that dies is started again, after a wait that doubles up to half a minute.
4. Nothing here blocks: a worker that does not take its orders is killed.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device_agent.errors import UpdateError
from device_agent.update.slots import Slots
from device_agent.update.updater import Health
from device_agent.wire.control import (
    ControlMessage,
    Drain,
    Drained,
    Failed,
    FrameReader,
    Ready,
    Serve,
    Stats,
    StatsRequest,
    Stop,
    encode_frame,
)
from device_agent.wire.errors import WireError
from device_agent.wire.histogram import LogHistogram

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from device_agent.wire.messages import ActiveModel

__all__ = ["WorkerCommand", "WorkerProcess", "Workers"]

LOG = logging.getLogger(__name__)

_RECEIVE = 65_536
_FIRST_RESTART_S = 0.2
_LONGEST_RESTART_S = 30.0
_STABLE_S = 60.0
_STOP_S = 3.0
_DRAIN_S = 15.0
_KILO = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommand:
    """How a worker is started; ``program`` comes before ``--slot``."""

    program: tuple[str, ...] = (sys.executable, "-m", "device_agent.runtime.worker")
    http: int | None = None
    unix: int | None = None
    source: str = ""
    threads: int = 1

    def line(self, folder: Path, control: int) -> list[str]:
        """Return the command line for one slot."""
        listeners = {"--http": self.http, "--unix": self.unix}
        return [
            *self.program,
            f"--slot={folder}",
            f"--control={control}",
            *(f"{option}={fd}" for option, fd in listeners.items() if fd is not None),
            *([f"--source={self.source}"] if self.source else []),
            f"--threads={self.threads}",
        ]

    def inherited(self, control: int) -> tuple[int, ...]:
        """Return the descriptors that the worker keeps."""
        return tuple(fd for fd in (control, self.http, self.unix) if fd is not None)


class WorkerProcess:
    """One worker and our end of its control socket."""

    def __init__(self, folder: Path, command: WorkerCommand) -> None:
        self.folder = folder
        self.model: ActiveModel | None = Slots(folder.parent.parent).identity(folder.name)
        self.ready: Ready | None = None
        self.failure: Failed | None = None
        self.started_s = time.monotonic()
        self.leaving_s: float | None = None
        self.gone = False
        self._reader = FrameReader()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module, no shell
                command.line(folder, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                pass_fds=command.inherited(theirs.fileno()),
            )
        self._socket.setblocking(False)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether the process runs and its socket is open."""
        return not self.gone and self._process.poll() is None

    def fileno(self) -> int:
        """Return our end of the control socket."""
        return self._socket.fileno()

    def send(self, message: ControlMessage) -> None:
        """Give an order; a worker that cannot take it is gone."""
        try:
            self._socket.sendall(encode_frame(message))
        except OSError:
            self.gone = True

    def receive(self) -> list[ControlMessage]:
        """Take what the worker said; a closed or garbled socket means that it is gone."""
        found: list[ControlMessage] = []
        try:
            while data := self._socket.recv(_RECEIVE):
                found += self._reader.feed(data)
            self.gone = True
        except BlockingIOError:
            pass
        except (OSError, WireError) as error:
            LOG.warning("worker_garbled pid=%d reason=%r", self.pid, str(error))
            self.gone = True
        return found

    def end(self, *, patience_s: float) -> None:
        """Wait so long for the process to end, then kill it; reap it and close the socket."""
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.gone = True
        self._socket.close()


@dataclass(slots=True, kw_only=True)
class _Served:
    """The workers of one model."""

    folder: Path | None = None
    active: WorkerProcess | None = None
    candidate: WorkerProcess | None = None
    takes_over: WorkerProcess | None = None
    leaving: list[WorkerProcess] = field(default_factory=list)
    crashes: int = 0
    restart_s: float = _FIRST_RESTART_S
    restart_at: float | None = None
    inferences: int = 0
    errors: int = 0
    rss_bytes: int = 0
    latency: LogHistogram = field(default_factory=LogHistogram)

    def forget(self) -> None:
        """Begin to count anew: another model serves."""
        self.crashes = self.inferences = self.errors = self.rss_bytes = 0
        self.latency = LogHistogram()


class Workers:
    """Every worker of an agent; what an update needs of them is :class:`~device_agent.update.updater.Serving`.

    Args:
        command: How a worker is started.
        on_stats: Called with (model, measurements).
    """

    def __init__(self, command: WorkerCommand, *, on_stats: Callable[[ActiveModel, Stats], None]) -> None:
        self._command = command
        self._on_stats = on_stats
        self._models: dict[str, _Served] = {}

    def processes(self) -> list[WorkerProcess]:
        """Return every worker that is not reaped yet."""
        found = []
        for served in self._models.values():
            found += [one for one in (served.active, served.candidate, served.takes_over) if one]
            found += served.leaving
        return [one for one in found if not one.gone]

    def prepare(self, name: str, folder: Path) -> None:
        """Start a worker on a slot beside the one that serves."""
        served = self._of(name)
        self._drop(served.candidate)
        served.candidate = self._start(folder)

    def ready(self, name: str) -> bool:
        """Tell whether the prepared worker can serve.

        Raises:
            UpdateError: It never will.
        """
        candidate = self._of(name).candidate
        if candidate is None or candidate.failure or not candidate.alive:
            failure = candidate.failure if candidate else None
            raise UpdateError(
                failure.detail if failure else "The new worker ended before it was ready.",
                code=failure.code if failure else "worker_died",
            )
        return candidate.ready is not None

    def promote(self, name: str) -> None:
        """Let the prepared worker serve, then drain the other."""
        served = self._of(name)
        if served.candidate is not None:
            self._hand_over(served, served.candidate)
            served.candidate = None
            served.forget()

    def serve(self, name: str, folder: Path | None) -> None:
        """Serve exactly this slot from now on, or nothing; a prepared worker is given up."""
        served = self._of(name)
        for unwanted in (served.candidate, served.takes_over):
            self._drop(unwanted)
        served.candidate = served.takes_over = None
        served.folder, served.restart_at = folder, None
        served.restart_s = _FIRST_RESTART_S
        if folder is None:
            self._retire(served)
        elif not (served.active and served.active.alive and served.active.folder == folder and served.active.model):
            served.forget()
            served.takes_over = self._start(folder)

    def health(self, name: str) -> Health:
        """Return how the worker does since its model began to serve."""
        served = self._of(name)
        p99 = round(served.latency.quantile(0.99) / _KILO) if served.latency.count else None
        return Health(
            inferences=served.inferences,
            errors=served.errors,
            crashes=served.crashes,
            rss_bytes=served.rss_bytes,
            p99_us=p99,
        )

    def request_stats(self) -> None:
        """Ask every serving worker for its measurements."""
        for served in self._models.values():
            if served.active and served.active.alive:
                served.active.send(StatsRequest())

    def tick(self, now_s: float) -> None:
        """Take what the workers said, and look after those that came and went."""
        for served in self._models.values():
            for worker in (served.active, served.candidate, served.takes_over, *served.leaving):
                if worker and not worker.gone:
                    for message in worker.receive():
                        self._hear(served, worker, message)
            self._look_after(served, now_s)

    def stop(self) -> None:
        """Drain every worker, take its last measurements, and leave no process."""
        for served in self._models.values():
            served.folder = None
            for unwanted in (served.candidate, served.takes_over):
                self._drop(unwanted)
            served.candidate = served.takes_over = None
            self._retire(served)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline and any(served.leaving for served in self._models.values()):
            self.tick(time.monotonic())
            time.sleep(0.01)
        for served in self._models.values():
            for worker in served.leaving:
                worker.end(patience_s=0)
            served.leaving.clear()

    def _of(self, name: str) -> _Served:
        return self._models.setdefault(name, _Served())

    def _start(self, folder: Path) -> WorkerProcess:
        worker = WorkerProcess(folder, self._command)
        LOG.info("worker_started pid=%d slot=%s", worker.pid, folder.name)
        return worker

    def _drop(self, worker: WorkerProcess | None) -> None:
        """End a worker that has never served."""
        if worker:
            worker.send(Stop())
            worker.end(patience_s=0)

    def _retire(self, served: _Served) -> None:
        if served.active:
            served.active.leaving_s = time.monotonic()
            served.active.send(Drain())
            served.leaving.append(served.active)
            served.active = None

    def _hand_over(self, served: _Served, worker: WorkerProcess) -> None:
        worker.send(Serve())
        self._retire(served)
        served.active, served.folder = worker, worker.folder
        LOG.info("worker_serves pid=%d slot=%s", worker.pid, worker.folder.name)

    def _hear(self, served: _Served, worker: WorkerProcess, message: ControlMessage) -> None:
        if isinstance(message, Ready):
            worker.ready = message
        elif isinstance(message, Failed):
            worker.failure = message
            LOG.error("worker_failed pid=%d code=%s detail=%r", worker.pid, message.code, message.detail)
        elif isinstance(message, Stats):
            if worker is served.active:
                served.inferences += message.inferences
                served.errors += message.errors
                served.rss_bytes = message.rss_bytes
                served.latency.merge(message.latency)
            if worker.model:
                self._on_stats(worker.model, message)
        elif isinstance(message, Drained):
            worker.send(Stop())

    def _look_after(self, served: _Served, now_s: float) -> None:
        if served.takes_over and served.takes_over.ready and served.takes_over.alive:
            self._hand_over(served, served.takes_over)
            served.takes_over = None
        for worker in [one for one in served.leaving if not one.alive or now_s - (one.leaving_s or 0) > _DRAIN_S]:
            worker.end(patience_s=0)
            served.leaving.remove(worker)
        for serving in (served.active, served.takes_over):
            if serving and not serving.alive:
                self._bury(served, serving, now_s)
        if served.restart_at is not None and now_s >= served.restart_at and served.folder:
            served.restart_at = None
            served.takes_over = self._start(served.folder)

    def _bury(self, served: _Served, worker: WorkerProcess, now_s: float) -> None:
        """Count a crash and set the time of the next start."""
        worker.end(patience_s=0)
        LOG.error("worker_died pid=%d slot=%s", worker.pid, worker.folder.name)
        served.crashes += 1
        served.active = None if worker is served.active else served.active
        served.takes_over = None if worker is served.takes_over else served.takes_over
        if now_s - worker.started_s > _STABLE_S:
            served.restart_s = _FIRST_RESTART_S
        served.restart_at = now_s + served.restart_s
        served.restart_s = min(2 * served.restart_s, _LONGEST_RESTART_S)
