"""The agent's main process: one loop over workers, updates and the fleet.

Rules kept here:
1. The loop never waits for anything but events: downloads, probes and signatures are children, MQTT is a thread.
2. Serving comes first: an installed model serves before the broker is asked, and goes on whatever the fleet does.
3. SIGTERM and SIGINT end the loop in good order: measurements are stored, workers drained, no child is left.
4. No numpy, no runtime, no cryptography in this process.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import ssl
import time
from typing import TYPE_CHECKING

from device_agent.errors import ConfigError, UpdateError
from device_agent.fleet_link import FleetLink, offline_status
from device_agent.listeners import Listeners, open_listeners
from device_agent.memory import Memory, StateLock
from device_agent.telemetry.batch import Batch
from device_agent.telemetry.device import CpuClock, cpu_percent, read_cpu_clock, read_temperature_mc, rss_bytes
from device_agent.telemetry.outbox import Outbox
from device_agent.transport import Address, MqttTransport
from device_agent.update.record import Request
from device_agent.update.slots import installed_models, write_durably
from device_agent.update.states import is_terminal
from device_agent.update.updater import Moment, Updater
from device_agent.wire.canonical import document
from device_agent.wire.messages import Telemetry
from device_agent.workers import WorkerCommand, Workers

if TYPE_CHECKING:
    from types import FrameType

    from device_agent.config import AgentConfig
    from device_agent.transport import Transport
    from device_agent.update.record import Record
    from device_agent.wire.control import Stats
    from device_agent.wire.messages import ActiveModel, Desired, ReportedModel

__all__ = ["Supervisor", "run_agent"]

LOG = logging.getLogger(__name__)

_BUSY_S = 0.05
_IDLE_S = 0.5
_SOAK_STATS_S = 1.0
_ANSWER_S = 0.3
_HUNDRED = 100


def now() -> Moment:
    """Read both clocks."""
    return Moment(wall_ms=time.time_ns() // 1_000_000, monotonic_s=time.monotonic())


class Supervisor:
    """One agent.

    Args:
        config: The settings.
        listeners: The sockets to serve on.
        memory: The durable numbers, this boot counted.
        outbox: What waits for the broker.
        transport: The way to the broker, or None.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        listeners: Listeners,
        memory: Memory,
        outbox: Outbox,
        transport: Transport | None,
    ) -> None:
        self._config = config
        self._memory = memory
        self._outbox = outbox
        self._transport = transport
        self._batch = Batch()
        command = WorkerCommand(
            http=listeners.http.fileno() if listeners.http else None,
            unix=listeners.unix.fileno() if listeners.unix else None,
            source=config.source,
            threads=config.threads,
        )
        self._workers = Workers(command, on_stats=self._measured)
        self._updaters: dict[str, Updater] = {}
        self._link = FleetLink(
            config,
            transport=transport,
            outbox=outbox,
            memory=memory,
            models=self._reported,
            on_desired=self._desired,
        )
        self._stopping = False
        self._batch_start = now()
        self._cpu = self._read_cpu()
        self._asked_s: float | None = None
        self._soak_asked_s = 0.0

    def stop(self) -> None:
        """End the loop at its next turn."""
        self._stopping = True

    def run(self) -> None:
        """Serve and report until :meth:`stop`."""
        for name in installed_models(self._config.state):
            self._recover(name)
        if self._transport:
            self._transport.start()
        try:
            while not self._stopping:
                self._wait()
                self._turn(now())
        finally:
            self._shut_down()

    def _recover(self, name: str) -> None:
        try:
            updater = self._updater(name)
            updater.recover()
            slot = updater.slots.active()
            if slot:
                self._workers.serve(name, updater.slots.folder(slot))
        except UpdateError as error:
            LOG.error("recover_failed model=%s reason=%r", name, str(error))  # noqa: TRY400 - it explains itself

    def _updater(self, name: str) -> Updater:
        if name not in self._updaters:
            self._updaters[name] = Updater(
                name,
                self._config.state / "models" / name,
                settings=self._config.update,
                serving=self._workers,
                observe=self._observed,
            )
        return self._updaters[name]

    def _wait(self) -> None:
        """Wait for a worker, the broker or a signal; while a child works, look at it often."""
        busy = self._link.verifying or any(updater.busy for updater in self._updaters.values())
        with selectors.DefaultSelector() as selector:
            for worker in self._workers.processes():
                selector.register(worker, selectors.EVENT_READ)
            if self._transport:
                selector.register(self._transport, selectors.EVENT_READ)
            selector.select(_BUSY_S if busy else _IDLE_S)

    def _turn(self, moment: Moment) -> None:
        self._workers.tick(moment.monotonic_s)
        for updater in tuple(self._updaters.values()):
            updater.step(moment)
        self._measure(moment)
        self._talk(moment)

    def _talk(self, moment: Moment) -> None:
        """Talk with the fleet; a disk that refuses is written down, and serving goes on."""
        try:
            self._link.tick(moment)
        except UpdateError as error:
            LOG.error("fleet_talk_failed reason=%r", str(error))  # noqa: TRY400 - it explains itself

    def _reported(self) -> tuple[ReportedModel, ...]:
        return tuple(updater.reported() for _, updater in sorted(self._updaters.items()))

    def _desired(self, desired: Desired) -> None:
        for model in desired.models:
            request = Request(rev=desired.rev, model=model, urls=desired.urls, gate=desired.gate, window=desired.window)
            others = [name for name, one in self._updaters.items() if name != model.name and one.slots.active()]
            updater = self._updater(model.name)
            if others:
                updater.refuse(request, code="second_model", detail=f"This agent serves {others[0]} alone.")
            else:
                updater.accept(request)

    def _observed(self, phase: str, record: Record) -> None:
        if phase != "entered":
            return
        LOG.info("update model=%s rev=%d state=%s code=%s", record.name, record.rev, record.state.value, record.code)
        if is_terminal(record.state):
            try:
                kind = f"update_{record.state.value.lower()}"
                self._link.record(now(), kind, model=record.name, code=record.code, detail=record.detail[:500])
            except UpdateError as error:
                LOG.error("event_lost reason=%r", str(error))  # noqa: TRY400 - it explains itself

    def _measured(self, model: ActiveModel, stats: Stats) -> None:
        self._batch.add(model, stats)

    def _measure(self, moment: Moment) -> None:
        """Ask the workers at the end of each interval, and send what they answered a moment later."""
        elapsed = moment.monotonic_s - self._batch_start.monotonic_s
        if self._asked_s is not None and moment.monotonic_s - self._asked_s >= _ANSWER_S:
            self._asked_s = None
            self._emit(moment)
        elif self._asked_s is None and elapsed >= self._config.interval_s:
            self._asked_s = moment.monotonic_s
            self._workers.request_stats()
        elif moment.monotonic_s - self._soak_asked_s >= _SOAK_STATS_S and self._soaking():
            self._soak_asked_s = moment.monotonic_s
            self._workers.request_stats()

    def _soaking(self) -> bool:
        return any(updater.busy for updater in self._updaters.values())

    def _emit(self, moment: Moment) -> None:
        """Turn the batch into messages and put them in the outbox."""
        cpu = self._read_cpu()
        start, percent = self._batch_start, cpu_percent(self._cpu, cpu)
        self._batch_start, self._cpu = moment, cpu
        for models in self._batch.take():
            message = Telemetry(
                device=self._config.device,
                boot=self._memory.boot,
                seq=self._link.next_seq(),
                start_ms=start.wall_ms,
                duration_ms=round((moment.monotonic_s - start.monotonic_s) * 1000),
                rss_bytes=rss_bytes(),
                cpu_percent_x100=round(percent * _HUNDRED),
                temperature_mc=read_temperature_mc(),
                dropped=self._outbox.dropped,
                models=models,
            )
            try:
                self._link.send_telemetry(message)
            except UpdateError as error:
                LOG.error("telemetry_lost reason=%r", str(error))  # noqa: TRY400 - it explains itself

    def _read_cpu(self) -> CpuClock:
        return read_cpu_clock(os.getpid(), wall_ns=time.monotonic_ns())

    def _shut_down(self) -> None:
        for updater in self._updaters.values():
            updater.close()
        self._workers.stop()
        self._emit(now())
        self._talk(now())
        self._link.close()
        LOG.info("stopped boot=%d", self._memory.boot)


def run_agent(config: AgentConfig) -> None:
    """Run one agent until SIGTERM or SIGINT.

    Raises:
        AgentError: The state folder or an address to serve on cannot be had.
    """
    lock = StateLock(config.state)
    listeners = open_listeners(config.http, config.unix)
    facts = config.state / "run.json"
    try:
        memory = Memory(config.state / "agent.json")
        memory.count_boot()
        outbox = Outbox(config.state / "outbox.db", cap_bytes=config.outbox_bytes)
        supervisor = Supervisor(
            config, listeners=listeners, memory=memory, outbox=outbox, transport=_transport(config, memory.boot)
        )
        _stop_on_signals(supervisor)
        write_durably(facts, document({"pid": os.getpid(), "http": listeners.address, "boot": memory.boot}))
        LOG.info("started device=%s boot=%d http=%s", config.device, memory.boot, listeners.address)
        supervisor.run()
        outbox.close()
    finally:
        facts.unlink(missing_ok=True)
        listeners.close()
        lock.release()


def _stop_on_signals(supervisor: Supervisor) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        supervisor.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _transport(config: AgentConfig, boot: int) -> Transport | None:
    if config.broker is None:
        return None
    password = ""
    if config.password_file:
        try:
            password = config.password_file.read_text("utf-8").strip()
        except OSError as error:
            raise ConfigError("The broker's password cannot be read.", got=str(error)) from error
    address = Address(
        host=config.broker[0],
        port=config.broker[1],
        client_id=config.device,
        username=config.username,
        password=password,
        tls=ssl.create_default_context() if config.scheme == "mqtts" else None,
        keepalive_s=config.keepalive_s,
        max_backoff_s=config.max_backoff_s,
    )
    topics = config.topics
    return MqttTransport(
        address,
        subscriptions=(topics.desired,),
        will=lambda session: (topics.status, offline_status(boot, session)),
    )
