"""A running fleet: broker, collectors, controller and web server of one folder, started and stopped as one.

Rules kept here:
1. Order up: lock, ports, broker, collectors, controller, server, ``fleet.json``. Order down: the reverse.
2. Whatever has been started is stopped, even if a later part fails to start: no process, port or temporary file stays.
3. Children end when this process ends, however it ends; a collector or broker that ends by itself is started again.
4. Everything listens on loopback.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from edgepe.errors import FleetError, UsageError
from edgepe.fleet.address import FleetAddress, locked, remove_address, write_address
from edgepe.fleet.api import Api
from edgepe.fleet.app import make_app
from edgepe.fleet.broker import LOOPBACK, BrokerAddress, EmbeddedBroker, ExternalBroker, bind_loopback
from edgepe.fleet.children import Child
from edgepe.fleet.collector import GROUP, collector_command
from edgepe.fleet.controller import Controller
from edgepe.fleet.defaults import BROKER_PORT, PORT
from edgepe.fleet.feed import Feed
from edgepe.fleet.keys import OnlineKey
from edgepe.fleet.link import Link
from edgepe.fleet.repository import Repository
from edgepe.fleet.store import EventRow, SqliteStore
from edgepe.fleet.views import Views

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgepe.fleet.broker import Broker

__all__ = ["Fleet", "FleetSettings", "running_fleet"]

UP_WITHIN_S = 15.0
LOOK_EVERY_S = 0.5
HEALTH_AFTER_LOOKS = 20
ID_CHARS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What a fleet is started with.

    Attributes:
        folder: Holds everything of this fleet.
        port: Of page, API and repository; 0 takes any free one.
        broker_port: Of the embedded broker; 0 takes any free one.
        broker_url: An external broker instead of the embedded one, or empty.
        collectors: How many processes take telemetry in; more than one needs an external broker.
    """

    folder: Path
    port: int = PORT
    broker_port: int = BROKER_PORT
    broker_url: str = ""
    collectors: int = 1

    def __post_init__(self) -> None:
        if self.collectors < 1 or (self.collectors > 1 and not self.broker_url):
            raise UsageError(
                "the embedded broker serves one collector",
                expected="one collector, or an external broker",
                got=f"{self.collectors} collectors",
                next_step="leave --collectors out, or give --broker mqtt://HOST:PORT (mosquitto, for example)",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet that is up.

    Attributes:
        address: What ``fleet.json`` says.
        folder: Holds everything of this fleet.
    """

    address: FleetAddress
    folder: Path

    @property
    def page_url(self) -> str:
        """The page."""
        return self.address.page

    @property
    def broker_url(self) -> str:
        """For ``[mqtt] url`` of ``agent.toml``."""
        return self.address.broker

    @property
    def repository_url(self) -> str:
        """For ``[repository] url`` of ``agent.toml``."""
        return self.address.repository

    @property
    def repository(self) -> Repository:
        """Where bundles are published."""
        return Repository(self.folder / "repository")


@contextmanager
def running_fleet(settings: FleetSettings) -> Iterator[Fleet]:
    """Start a fleet; stop all of it when the block ends.

    Raises:
        PortInUseError: Something else holds a port.
        FleetError: A fleet runs there already, or a part does not start.
    """
    folder = settings.folder.resolve()
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        listener = stack.enter_context(bind_loopback(settings.port, "the fleet's web server", option="--port"))
        broker = _start_broker(settings, folder, stack)
        store = stack.enter_context(_opened(folder))
        key = OnlineKey.open(folder / "keys")
        token = secrets.token_urlsafe(24)
        children = _start_collectors(settings, folder, broker, key, stack)
        controller = _start_controller(folder, broker, key, stack)
        stack.enter_context(_kept_up(broker, children, store))
        stack.enter_context(_served(folder, controller, token, listener))
        page = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
        address = FleetAddress(
            pid=os.getpid(),
            page=page,
            repository=f"{page}repository",
            broker=broker.address.url,
            key=key.public_hex,
            token=token,
            collectors=tuple(child.pid for child in children),
            started_ms=time.time_ns() // 1_000_000,
        )
        stack.callback(remove_address, folder)
        write_address(folder, address)
        yield Fleet(address=address, folder=folder)


def _start_broker(settings: FleetSettings, folder: Path, stack: ExitStack) -> Broker:
    broker: Broker = (
        ExternalBroker(BrokerAddress.parse(settings.broker_url))
        if settings.broker_url
        else EmbeddedBroker(folder, port=settings.broker_port)
    )
    stack.callback(broker.stop)
    broker.start()
    return broker


def _start_collectors(
    settings: FleetSettings, folder: Path, broker: Broker, key: OnlineKey, stack: ExitStack
) -> tuple[Child, ...]:
    shared = GROUP if broker.shared_subscriptions else ""
    children = tuple(
        Child(
            collector_command(
                folder / "fleet.db", broker.address, index=index, shared=shared, fleet=key.keyid[:ID_CHARS]
            )
        )
        for index in range(settings.collectors)
    )
    for child in children:
        stack.callback(child.stop)
        child.start()
    return children


def _start_controller(folder: Path, broker: Broker, key: OnlineKey, stack: ExitStack) -> Controller:
    store = stack.enter_context(_opened(folder))
    link = Link(broker.address, client_id=f"edgepe-{key.keyid[:ID_CHARS]}-controller")
    controller = Controller(store, link, Repository(folder / "repository"), key)
    stack.enter_context(_thread("controller", lambda stop: controller.run(stop.is_set, _complain)))
    return controller


@contextmanager
def _opened(folder: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(folder / "fleet.db")
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _kept_up(broker: Broker, children: tuple[Child, ...], store: SqliteStore) -> Iterator[None]:
    def keep(stop: threading.Event) -> None:
        looks = 0
        while not stop.wait(LOOK_EVERY_S):
            looks += 1
            try:
                revived = [f"collector {index}" for index, child in enumerate(children) if child.revive()]
                if not (broker.is_healthy() if looks % HEALTH_AFTER_LOOKS == 0 else broker.is_running()):
                    broker.stop()
                    broker.start()
                    revived.append("broker")
                for what in revived:
                    store.add_event(_restarted(what))
            except (FleetError, OSError) as error:
                _complain(str(error))

    with _thread("keeper", keep):
        yield


def _restarted(what: str) -> EventRow:
    now_ms = time.time_ns() // 1_000_000
    return EventRow(time_ms=now_ms, device="", kind="restarted", code="", detail=f"the {what} had ended by itself")


@contextmanager
def _served(folder: Path, controller: Controller, token: str, listener: socket.socket) -> Iterator[None]:
    repository = Repository(folder / "repository")
    with _opened(folder) as store:
        server: uvicorn.Server | None = None
        views = Views(store, repository)
        feed = Feed(changes=store.changes, build=views.fleet, stopping=lambda: server is None or server.should_exit)
        app = make_app(Api(views=views, controller=controller, feed=feed, token=token), repository.folder)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3)
        )
        serving = threading.Thread(target=server.run, args=([listener],), name="web", daemon=True)
        serving.start()
        try:
            deadline = time.monotonic() + UP_WITHIN_S
            while not server.started:
                if not serving.is_alive() or time.monotonic() > deadline:
                    raise FleetError("the fleet's web server did not start", next_step="see its words above")
                time.sleep(0.02)
            yield
        finally:
            server.should_exit = True
            serving.join()


@contextmanager
def _thread(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _complain(text: str) -> None:
    sys.stderr.write(f"edgepe fleet: {text}\n")
