"""MQTT with its own reconnect, behind a small Protocol.

Rules kept here:
1. One thread of ours connects, waits and connects again: full jitter up to a cap, which starts small again only after a
   connection has held for a minute. So a broker that kicks each client is not stormed.
2. Each connection has a client of its own and a session of its own; the library's queue dies with it. What must
   survive waits in the outbox.
3. Every callback only puts an event in a queue and wakes the supervisor: nothing in it can fail.
4. Clean Start, Session Expiry 0, MQTT 5; the will is the retained ``status`` of this session.
5. What is too long is not taken in: the broker is told so, and the callback looks again.
"""

from __future__ import annotations

import logging
import queue
import random
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from device_agent.wire.limits import MAX_FRAME_BYTES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = [
    "Acknowledged",
    "Address",
    "Backoff",
    "Connected",
    "Disconnected",
    "Incoming",
    "MqttTransport",
    "Ticket",
    "Transport",
    "TransportEvent",
]

LOG = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 1.0
_STABLE_S = 60.0
_CONNACK_S = 15.0
_MAX_EVENTS = 1024
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A broker and how to reach it; ``tls`` is None for a plain connection."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    keepalive_s: int = 30
    max_backoff_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Names one publication of one session."""

    session: str
    mid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A session began."""

    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """There is no session, for this reason; what was not acknowledged may be lost."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message arrived."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The broker has taken over one publication (PUBACK)."""

    ticket: Ticket


TransportEvent = Connected | Disconnected | Incoming | Acknowledged


class Transport(Protocol):
    """A way to the fleet, as the supervisor sees it."""

    def start(self) -> None:
        """Begin to connect; returns at once."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are events."""
        ...

    def events(self) -> list[TransportEvent]:
        """Take the events that have come, in order."""
        ...

    def publish(self, topic: str, payload: bytes, *, retain: bool, expiry_s: int | None = None) -> Ticket | None:
        """Send with QoS 1; None where there is no session."""
        ...

    def kick(self) -> None:
        """Give this session up and connect again."""
        ...

    def close(self) -> None:
        """Send what is on its way, end the session in good order, and stop."""
        ...


class Backoff:
    """How long to wait before the next try: full jitter over a doubling cap.

    Args:
        first_s: The cap of the first wait, seconds.
        longest_s: The cap of every wait.
        rng: The source of jitter.
    """

    def __init__(self, *, first_s: float, longest_s: float, rng: random.Random) -> None:
        self._first_s = min(first_s, longest_s)
        self._longest_s = longest_s
        self._rng = rng
        self._cap_s = self._first_s

    def next_s(self) -> float:
        """Return the next wait."""
        wait = self._rng.uniform(0, self._cap_s)
        self._cap_s = min(2 * self._cap_s, self._longest_s)
        return wait

    def reset(self) -> None:
        """Start small again."""
        self._cap_s = self._first_s


class MqttTransport:
    """MQTT 5 by paho.

    Args:
        address: The broker.
        subscriptions: Filters, subscribed with QoS 1 at each connect.
        will: Gives (topic, payload) of the will for a session.
        rng: The source of jitter.
    """

    def __init__(
        self,
        address: Address,
        *,
        subscriptions: tuple[str, ...],
        will: Callable[[str], tuple[str, bytes]],
        rng: random.Random | None = None,
    ) -> None:
        self._address = address
        self._subscriptions = subscriptions
        self._will = will
        self._backoff = Backoff(
            first_s=_FIRST_BACKOFF_S, longest_s=address.max_backoff_s, rng=rng or random.SystemRandom()
        )
        self._events: queue.SimpleQueue[TransportEvent] = queue.SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._session = ""
        self._up = threading.Event()
        self._over = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are events."""
        return self._wake_read.fileno()

    def events(self) -> list[TransportEvent]:
        """Take the events that have come, in order."""
        try:
            while self._wake_read.recv(4096):
                pass
        except BlockingIOError:
            pass
        found: list[TransportEvent] = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def publish(self, topic: str, payload: bytes, *, retain: bool, expiry_s: int | None = None) -> Ticket | None:
        """Send with QoS 1; None where there is no session."""
        properties = _properties(PacketTypes.PUBLISH)
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        with self._lock:
            if self._client is None or not self._up.is_set():
                return None
            info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
            return Ticket(session=self._session, mid=info.mid) if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def kick(self) -> None:
        """Give this session up and connect again."""
        self._over.set()

    def close(self) -> None:
        """End the session in good order, and stop."""
        self._stopping.set()
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        self._wake_read.close()
        self._wake_write.close()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            begun = time.monotonic()
            reason = self._hold_one_connection()
            self._post(Disconnected(reason=reason))
            if time.monotonic() - begun > _STABLE_S:
                self._backoff.reset()
            wait_s = self._backoff.next_s()

    def _hold_one_connection(self) -> str:
        session = uuid.uuid4().hex[:16]
        reasons: list[str] = []
        client = self._make_client(session, reasons)
        self._over.clear()
        self._up.clear()
        if self._stopping.is_set():
            return "stopped"
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0
        properties.MaximumPacketSize = MAX_FRAME_BYTES
        address = self._address
        try:
            client.connect(address.host, address.port, address.keepalive_s, clean_start=True, properties=properties)
        except (OSError, ValueError) as error:
            return f"{address.host}:{address.port}: {error}"
        with self._lock:
            self._client, self._session = client, session
        client.loop_start()
        self._wait_for_end()
        with self._lock:
            self._client = None
        client.disconnect()
        client.loop_stop()
        return reasons[0] if reasons else "closed by us"

    def _wait_for_end(self) -> None:
        deadline = time.monotonic() + _CONNACK_S
        while not self._over.wait(0.1 if not self._up.is_set() else None):
            if not self._up.is_set() and time.monotonic() > deadline:
                return

    def _make_client(self, session: str, reasons: list[str]) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._address.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        topic, payload = self._will(session)
        client.will_set(topic, payload, qos=1, retain=True)
        if self._address.username:
            client.username_pw_set(self._address.username, self._address.password)
        if self._address.tls:
            client.tls_set_context(self._address.tls)
        self._listen(client, session, reasons)
        return client

    def _listen(self, client: Client, session: str, reasons: list[str]) -> None:
        """Give a client its callbacks; each only hands an event on."""

        def on_connect(
            client: Client, _user: object, _flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
        ) -> None:
            if code.is_failure:
                reasons.append(f"refused: {code}")
                self._over.set()
                return
            for one in self._subscriptions:
                client.subscribe(one, qos=1)
            self._up.set()
            self._post(Connected(session=session))

        def on_disconnect(
            _client: Client, _user: object, _flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
        ) -> None:
            reasons.append(str(code))
            self._over.set()

        def on_message(_client: Client, _user: object, message: MQTTMessage) -> None:
            if len(message.payload) <= MAX_FRAME_BYTES and self._events.qsize() < _MAX_EVENTS:
                self._post(Incoming(topic=message.topic, payload=bytes(message.payload), retained=message.retain))

        def on_publish(
            _client: Client, _user: object, mid: int, _code: ReasonCode, _properties: Properties | None
        ) -> None:
            self._post(Acknowledged(ticket=Ticket(session=session, mid=mid)))

        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        client.on_message, client.on_publish = on_message, on_publish

    def _post(self, event: TransportEvent) -> None:
        self._events.put(event)
        try:
            self._wake_write.send(b"\0")
        except OSError:  # full: the supervisor is awake already; closed: nobody listens any more
            LOG.debug("event_unheard kind=%s", type(event).__name__)


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this constructor without types
