from __future__ import annotations

import pytest

from device_agent.wire.messages import Desired, Status, Telemetry, encode
from edgepe.fleet.arrivals import Arrival, Poison, read_arrival
from tests.fleet_agents import telemetry

TELE = encode(telemetry("a", 1))
DESIRED = encode(Desired(rev=1, device="a", expires_ms=1, models=()))


def test_a_message_is_decoded_by_its_topic() -> None:
    arrival = read_arrival("ep1/lab/a/tele", TELE, now_ms=5)
    assert isinstance(arrival, Arrival)
    assert isinstance(arrival.message, Telemetry)
    assert (arrival.site, arrival.device, arrival.time_ms) == ("lab", "a", 5)
    status = encode(Status(online=True, boot=1, session="s"))
    assert isinstance(read_arrival("ep1/lab/a/status", status, now_ms=5), Arrival)


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        pytest.param("ep1/lab/b/tele", TELE, "another device", id="a device that lies about its name"),
        pytest.param("ep1/lab/a/tele", b"\xff\x00", "no JSON", id="garbage"),
        pytest.param("ep1/lab/a/tele", b"[" * 100_000, "", id="deep JSON"),
        pytest.param("ep1/lab/a/tele", b" " * 10_000_000, "too long", id="ten megabytes"),
        pytest.param("ep1/lab/a/tele", TELE.replace(b'"v":1', b'"v":99'), "", id="a newer version"),
        pytest.param("ep1/lab/a/birth", TELE, "", id="another kind of message"),
        pytest.param("ep1/lab/a/cmd/x", b"{}", "do not publish", id="a topic of the host"),
        pytest.param("ep1/lab/a/desired", DESIRED, "", id="desired"),
        pytest.param("ep9/\x1b[31m/a/tele", TELE, "", id="a strange topic"),
    ],
)
def test_what_breaks_its_format_is_poison_with_a_reason(topic: str, payload: bytes, reason: str) -> None:
    poison = read_arrival(topic, payload, now_ms=5)
    assert isinstance(poison, Poison)
    assert reason in poison.reason
    assert poison.topic.isprintable()
    assert "\n" not in poison.reason
