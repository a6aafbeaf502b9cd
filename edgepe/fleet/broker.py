"""The MQTT broker: an embedded one as a child process, or somebody else's by its address.

Rules kept here:
1. The embedded broker listens on loopback only; its configuration is a file beside the fleet's data, gone after a stop.
2. A broker is up when it answers an MQTT 5 CONNECT, not when its port is open.
3. A port that something else holds is :class:`~edgepe.errors.PortInUseError`: what, which port, what to do.
4. The embedded broker (rumqttd) ends itself when a member of a shared subscription goes away with messages in flight
   (measured with iotcore 0.4.0), so it is never asked for one: :attr:`Broker.shared_subscriptions` is false.
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from edgepe.errors import FleetError, PortInUseError, UsageError
from edgepe.extras import needs_extra
from edgepe.fleet.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from iotcore import Broker as Rumqttd

__all__ = ["LOOPBACK", "Broker", "BrokerAddress", "EmbeddedBroker", "ExternalBroker", "bind_loopback", "free_port"]

LOOPBACK = "127.0.0.1"
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
UP_WITHIN_S = 10.0
ANSWER_WITHIN_S = 5.0

# Protocol name, version 5, clean start, keep alive 10 s, no properties, client id "edgepe-up".
_CONNECT = b"\x10\x16\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x09edgepe-up"
_CONNACK, _DISCONNECT = 0x20, b"\xe0\x00"

# One segment is read as a whole; ten of them bound what a topic filter may hold while a subscriber is away.
# On subscribing, retained messages beyond max_inflight_count are cut off, so it exceeds the devices of a bench top.
_CONFIGURATION = """\
id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 16777216
max_segment_count = 10

[v5.1]
name = "edgepe"
listen = "{listen}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 10000
dynamic_filters = true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where a broker is, and whether it is spoken to through TLS."""

    host: str
    port: int
    scheme: str = "mqtt"

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Read ``mqtt://host[:port]`` or ``mqtts://host[:port]``.

        Raises:
            UsageError: The text is no such address.
        """
        parts = urlsplit(url)
        with suppress(ValueError):  # .port raises on a port that is no number or out of range
            if parts.scheme in DEFAULT_PORTS and parts.hostname and not parts.username:
                return cls(host=parts.hostname, port=parts.port or DEFAULT_PORTS[parts.scheme], scheme=parts.scheme)
        raise UsageError(
            "the broker's address is not understood",
            expected="mqtt://HOST[:PORT] or mqtts://HOST[:PORT]",
            got=url,
            next_step="for example --broker mqtt://127.0.0.1:1883",
        )

    @property
    def url(self) -> str:
        """The address as a URL, as ``agent.toml`` takes it."""
        return f"{self.scheme}://{self.host}:{self.port}"


class Broker(Protocol):
    """What the fleet needs of a broker."""

    @property
    def address(self) -> BrokerAddress:
        """Where clients connect."""

    @property
    def shared_subscriptions(self) -> bool:
        """Whether ``$share`` may be used, so that several collectors divide the work."""

    def start(self) -> None:
        """Return when the broker answers; raise if it does not."""

    def is_running(self) -> bool:
        """Whether the broker's process lives, as far as this side can know."""

    def is_healthy(self) -> bool:
        """Whether it still accepts clients; asks it, so not to be called at every turn."""

    def stop(self) -> None:
        """Release whatever :meth:`start` took."""


class ExternalBroker:
    """A broker that somebody else runs: mosquitto, or any MQTT 5 cluster."""

    shared_subscriptions = True

    def __init__(self, address: BrokerAddress) -> None:
        self.address = address

    def start(self) -> None:
        """Check that something listens there.

        Raises:
            FleetError: Nothing answers.
        """
        if self.address.scheme == "mqtt" and not answers(self.address):
            raise FleetError(
                "the broker does not answer",
                expected=f"an MQTT 5 broker at {self.address.url}",
                got="no CONNACK that accepts",
                next_step="start it, mend the address, or leave --broker out for the embedded one",
            )

    def is_running(self) -> bool:
        """Return True: its owner looks after it, and every connection here reconnects by itself."""
        return True

    def is_healthy(self) -> bool:
        """Return True, as above."""
        return True

    def stop(self) -> None:
        """Leave it as it is."""


class EmbeddedBroker:
    """rumqttd inside the wheel of iotcore, as a child process on loopback that ends when this process ends.

    Args:
        folder: Where its configuration file lies while it runs.
        port: The port to listen on; 0 lets the system choose one.
    """

    shared_subscriptions = False

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.address = BrokerAddress(host=LOOPBACK, port=port or free_port())
        self._file = folder / "broker.toml"
        self._process: Rumqttd | None = None

    def start(self) -> None:
        """Start the child and wait until it answers.

        Raises:
            PortInUseError: Something else listens on the port.
            FleetError: It did not come up.
            MissingExtraError: iotcore is not installed.
        """
        with needs_extra("fleet", wanted_by="the embedded broker"):
            from iotcore import Broker as Rumqttd  # noqa: PLC0415 - only who starts a broker needs the extra
        check_free(self.address.port, "the MQTT broker", option="--broker-port")
        write_atomically(self._file, _CONFIGURATION.format(listen=f"{LOOPBACK}:{self.address.port}").encode())
        process = Rumqttd(config_path=str(self._file))
        try:
            process.start(timeout=UP_WITHIN_S)
        except (OSError, RuntimeError) as error:
            self._file.unlink(missing_ok=True)
            raise FleetError(
                "the embedded broker did not start", got=error, next_step="see its words above, or use --broker"
            ) from error
        self._process = process
        if not answers_within(self.address, UP_WITHIN_S):
            self.stop()
            raise FleetError("the embedded broker came up but accepts no client", expected="a CONNACK", got="none")

    def is_running(self) -> bool:
        """Return whether the child lives."""
        return self._process is not None and bool(self._process.is_running)

    def is_healthy(self) -> bool:
        """Return whether it accepts a client: its process outlives a panic of its router."""
        return self.is_running() and answers(self.address, timeout_s=ANSWER_WITHIN_S)

    def stop(self) -> None:
        """End the child, free its port and remove its configuration. May be called twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._file.unlink(missing_ok=True)


def answers(address: BrokerAddress, *, timeout_s: float = 1.0) -> bool:
    """Return whether an MQTT 5 broker there accepts a client."""
    try:
        with closing(socket.create_connection((address.host, address.port), timeout=timeout_s)) as link:
            link.sendall(_CONNECT)
            head = link.recv(4)
            link.sendall(_DISCONNECT)
    except OSError:
        return False
    return len(head) == 4 and head[0] == _CONNACK and head[3] == 0  # noqa: PLR2004 - a CONNACK's fixed part


def answers_within(address: BrokerAddress, seconds: float) -> bool:
    """Ask again until the broker answers or the time is over."""
    deadline = time.monotonic() + seconds
    while not answers(address):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    """Return a port of loopback that the system says is free."""
    with closing(socket.create_server((LOOPBACK, 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def check_free(port: int, who: str, *, option: str) -> None:
    """Raise :class:`PortInUseError` if something else listens on a port of loopback."""
    bind_loopback(port, who, option=option).close()


def bind_loopback(port: int, who: str, *, option: str) -> socket.socket:
    """Return a socket that listens on a port of loopback; 0 lets the system choose.

    Raises:
        PortInUseError: Something else holds the port.
    """
    try:
        return socket.create_server((LOOPBACK, port), backlog=128)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise PortInUseError(
            f"{who} cannot listen on port {port}",
            expected=f"a free port of {LOOPBACK}",
            got=error.strerror,
            next_step=f"stop what listens there, or choose another with {option} (0 takes any free one)",
        ) from error
