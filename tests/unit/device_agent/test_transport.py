"""How the transport waits between two tries."""

from __future__ import annotations

import random
import socket

from device_agent.transport import Address, Backoff, Disconnected, MqttTransport
from tests.agent_kit import wait_for


def test_the_wait_is_jittered_below_a_cap_that_doubles() -> None:
    backoff = Backoff(first_s=1, longest_s=120, rng=random.Random(1))  # noqa: S311 - jitter is no secret
    caps = [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]
    waits = [backoff.next_s() for _ in caps]
    assert all(0 <= wait <= cap for wait, cap in zip(waits, caps, strict=True))
    assert len(set(waits)) == len(waits)
    backoff.reset()
    assert backoff.next_s() <= 1


def test_a_broker_that_is_not_there_is_an_event_and_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = Address(host="127.0.0.1", port=port, client_id="x", max_backoff_s=0.01)
    transport = MqttTransport(address, subscriptions=(), will=lambda _session: ("ep1/a/b/status", b"{}"))
    transport.start()
    found: list[object] = []

    def tried_again() -> bool:
        found.extend(transport.events())
        return len(found) > 2

    wait_for(tried_again, "several tries")
    assert all(isinstance(event, Disconnected) for event in found)
    assert transport.publish("t", b"x", retain=False) is None
    transport.close()
