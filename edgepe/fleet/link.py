"""One MQTT 5 connection, driven by its owner's own loop, with its own reconnect.

Rules kept here:
1. One thread: nothing arrives, is acknowledged or reconnects except inside :meth:`Link.poll` and the calls beside it.
2. A message is acknowledged by its owner, after its commit, in the order of arrival (brokers may insist on it), and
   only on the connection that brought it: the packet ids of a lost connection mean nothing on the next one.
3. What cannot be sent now is not queued here: :meth:`Link.publish` says so, and its owner keeps what matters.
4. Reconnects are spread by full jitter, 0.2 s growing to 30 s.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from edgepe.fleet.broker import BrokerAddress

__all__ = ["Delivery", "Link"]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
KEEP_ALIVE_S = 30
MOST_UNACKNOWLEDGED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message that waits for its acknowledgement."""

    topic: str
    payload: bytes
    packet: int
    qos: int
    connection: int


class Link:
    """A connection that its owner polls.

    Args:
        address: The broker.
        client_id: The client's name; a persistent session is kept under it.
        subscriptions: Topic filters, subscribed with QoS 1 at every connect.
        session_expiry_s: How long the broker keeps the session; 0 starts clean.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        client_id: str,
        subscriptions: tuple[str, ...] = (),
        session_expiry_s: int = 0,
    ) -> None:
        self._address = address
        self._subscriptions = subscriptions
        self._session_expiry_s = session_expiry_s
        self._arrived: list[Delivery] = []
        self._refused: list[str] = []
        self._connections = 0
        self._connected = False
        self._failures = 0
        self._next_try = 0.0
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, manual_ack=True
        )
        if address.scheme == "mqtts":
            self._client.tls_set()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the present connection."""
        return self._connected

    @property
    def connection(self) -> int:
        """How many connections there have been: a change means that state may have to be sent again."""
        return self._connections

    def poll(self, timeout_s: float, *, most: int = MOST_UNACKNOWLEDGED) -> list[Delivery]:
        """Drive the connection; return what arrived, at most ``most`` messages, after at most ``timeout_s``."""
        if self._client.socket() is None and not self._connect(timeout_s):
            return []
        wait = timeout_s
        while True:
            before = len(self._arrived)
            if self._client.loop(timeout=wait) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lost()
                break
            if len(self._arrived) in (before, most):
                break
            wait = 0.0
        arrived, self._arrived = self._arrived, []
        return arrived

    def acknowledge(self, deliveries: list[Delivery]) -> None:
        """Tell the broker, in order, that these messages are safe; those of an earlier connection come again."""
        for delivery in deliveries:
            if self._connected and delivery.connection == self._connections:
                self._client.ack(delivery.packet, delivery.qos)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        """Send with QoS 1; return False, and keep nothing, if there is no connection."""
        if not self._connected:
            return False
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        return sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Say goodbye and let what is on its way out leave first."""
        self._client.disconnect()
        self._client.loop(timeout=0.0)
        self._connected = False

    def _connect(self, timeout_s: float) -> bool:
        now = time.monotonic()
        if now < self._next_try:
            time.sleep(min(timeout_s, self._next_try - now))
            return False
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
        properties.SessionExpiryInterval = self._session_expiry_s
        properties.ReceiveMaximum = MOST_UNACKNOWLEDGED
        try:
            self._client.connect(
                self._address.host,
                self._address.port,
                keepalive=KEEP_ALIVE_S,
                clean_start=self._session_expiry_s == 0,
                properties=properties,
            )
        except OSError:
            self._lost()
            return False
        return True

    def _lost(self) -> None:
        self._connected = False
        self._failures += 1
        ceiling = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._next_try = time.monotonic() + random.uniform(0, ceiling)  # noqa: S311 - jitter is no secret

    def _on_connect(
        self, client: paho.Client, _user: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            return
        self._connected = True
        self._connections += 1
        self._failures = 0
        if self._subscriptions:
            client.subscribe([(one, SubscribeOptions(qos=1)) for one in self._subscriptions])

    def _on_disconnect(
        self, _client: paho.Client, _user: object, _flags: object, _reason: ReasonCode, _properties: object
    ) -> None:
        self._connected = False

    def _on_message(self, _client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        self._arrived.append(
            Delivery(
                topic=message.topic,
                payload=bytes(message.payload),
                packet=message.mid,
                qos=message.qos,
                connection=self._connections,
            )
        )
