"""The process that runs one version of one model and serves it.

::

    python -m device_agent.runtime.worker --slot DIR --control FD [--http FD] [--unix FD] [--source JSON] --threads N

Rules kept here:
1. ``Ready`` is said only after the model has run once; a model that cannot says ``Failed`` and the process ends.
2. Listening sockets are the supervisor's: inherited, and served only between ``Serve`` and ``Drain``.
3. ``Drain`` loses no request and no measurement: the last ``Stats`` goes out before ``Drained``, then the process ends.
4. A closed control socket means that the supervisor is gone: the process ends at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.errors import ExplainedError, WireError
from device_agent.runtime.engine import Engine
from device_agent.runtime.failures import failure_code
from device_agent.runtime.limits import no_core_files
from device_agent.runtime.slot import open_slot, read_manifest
from device_agent.serve.open_inference import OpenInference
from device_agent.serve.replay import Replay, ReplaySettings
from device_agent.serve.server import HttpServer
from device_agent.telemetry.device import rss_bytes
from device_agent.telemetry.recorder import Recorder
from device_agent.wire.control import (
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from device_agent.wire.control import ControlMessage

__all__ = ["Control", "Worker", "main"]

LOG = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
DRAIN_GRACE_S = 2.0
DRAIN_TIMEOUT_S = 10.0


class Control:
    """The worker's end of the control socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._channel.setblocking(True)

    def send(self, message: ControlMessage) -> None:
        """Send one message; a supervisor that is gone is noticed by the reader."""
        try:
            self._channel.sendall(encode_frame(message))
        except (BrokenPipeError, ConnectionResetError):
            LOG.warning("the supervisor is gone")

    def messages(self) -> Iterator[ControlMessage]:
        """Yield messages until the supervisor closes its end."""
        reader = FrameReader()
        while data := self._receive():
            yield from reader.feed(data)

    def _receive(self) -> bytes:
        try:
            return self._channel.recv(READ_BYTES)
        except ConnectionResetError:
            return b""


class Worker:
    """One loaded model with its ways in: HTTP listeners and a replay source.

    Args:
        slot: Folder with the bundle's files.
        threads: Threads inside one run.
        listeners: Listening sockets to serve.
        source: The recording to play, if any.

    Raises:
        ExplainedError: The model, its manifest or its source is not usable.
    """

    def __init__(
        self, slot: Path, *, threads: int, listeners: Sequence[socket.socket] = (), source: ReplaySettings | None = None
    ) -> None:
        start = time.perf_counter_ns()
        manifest = read_manifest(slot)
        runtime = open_slot(slot, manifest, threads=threads)
        load_ns = time.perf_counter_ns() - start
        self._recorder = Recorder()
        self._engine = Engine(manifest, runtime, self._recorder)
        first_run_ns = self._engine.warm_up()
        self._replay = Replay(source, self._engine) if source else None
        self._server = HttpServer(listeners, OpenInference(self._engine))
        self.ready = Ready(
            pid=os.getpid(),
            runtime=runtime.name,
            runtime_version=runtime.version,
            load_us=load_ns // 1000,
            first_run_us=first_run_ns // 1000,
            rss_bytes=rss_bytes(),
        )

    def serve(self) -> None:
        """Take connections and play the source from now on."""
        self._server.start()
        if self._replay:
            self._replay.start()

    def drain(self) -> None:
        """Finish what is under way and take nothing new."""
        if self._replay:
            self._replay.stop()
        cut_off = self._server.drain(grace_s=DRAIN_GRACE_S, timeout_s=DRAIN_TIMEOUT_S)
        if cut_off:
            LOG.warning("drain: %d connections did not end in %.0f s", cut_off, DRAIN_TIMEOUT_S)

    def stats(self) -> Stats:
        """Return what happened since the last call."""
        recording = self._recorder.take()
        return Stats(
            inferences=recording.inferences,
            errors=recording.errors,
            latency=recording.latency,
            rss_bytes=rss_bytes(),
            output_counts=tuple((self._label(winner), count) for winner, count in recording.output_counts),
        )

    def _label(self, winner: int) -> str:
        labels = self._engine.manifest.labels
        return labels[winner] if winner < len(labels) else str(winner)


def obey(worker: Worker, control: Control) -> int:
    """Do what the supervisor says until it says the end; return the exit status."""
    for message in control.messages():
        if isinstance(message, Serve):
            worker.serve()
        elif isinstance(message, StatsRequest):
            control.send(worker.stats())
        elif isinstance(message, Drain):
            worker.drain()
            control.send(worker.stats())
            control.send(Drained())
            return 0
        elif isinstance(message, Stop):
            return 0
        else:
            LOG.warning("ignored a %s from the supervisor", type(message).__name__)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="device_agent.runtime.worker", description="Run and serve one model.")
    parser.add_argument("--slot", type=Path, required=True, help="folder with the bundle's files")
    parser.add_argument("--control", type=int, required=True, help="file descriptor of the control socket")
    parser.add_argument("--http", type=int, help="file descriptor of a listening TCP socket")
    parser.add_argument("--unix", type=int, help="file descriptor of a listening Unix socket")
    parser.add_argument("--source", help='recording to play: {"file": "x.npz", "rate_hz": 20, "loop": true}')
    parser.add_argument("--threads", type=int, default=1, help="threads inside one run")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until the supervisor ends it; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="worker %(process)d %(levelname)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides what it means
    no_core_files()
    arguments = parse(argv)
    control = Control(socket.socket(fileno=arguments.control))
    try:
        worker = Worker(
            arguments.slot,
            threads=arguments.threads,
            listeners=[socket.socket(fileno=fd) for fd in (arguments.http, arguments.unix) if fd is not None],
            source=ReplaySettings.from_json(arguments.source) if arguments.source else None,
        )
    except ExplainedError as error:
        control.send(Failed(code=failure_code(error), detail=str(error)))
        return 1
    control.send(worker.ready)
    try:
        return obey(worker, control)
    except WireError as error:
        LOG.error("the supervisor cannot be understood: %s", error)  # noqa: TRY400 - it explains itself
        return 1


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: tearing the interpreter down under a runtime's threads that are still in a run can crash.
    os._exit(status)
