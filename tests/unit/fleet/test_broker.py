from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from edgepe.errors import FleetError, PortInUseError, UsageError
from edgepe.fleet.broker import (
    LOOPBACK,
    BrokerAddress,
    EmbeddedBroker,
    ExternalBroker,
    answers,
    bind_loopback,
    free_port,
)
from edgepe.fleet.up import FleetSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "again"),
    [
        pytest.param("mqtt://broker", "mqtt://broker:1883", id="default port"),
        pytest.param("mqtts://broker", "mqtts://broker:8883", id="default port with TLS"),
        pytest.param("mqtt://10.0.0.1:2000", "mqtt://10.0.0.1:2000", id="own port"),
    ],
)
def test_an_address_is_read(url: str, again: str) -> None:
    assert BrokerAddress.parse(url).url == again


@pytest.mark.parametrize(
    "url", ["", "broker:1883", "http://broker", "mqtt://", "mqtt://b:99999", "mqtt://me:pw@broker"]
)
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match=r"next: for example --broker mqtt://"):
        BrokerAddress.parse(url)


def test_the_embedded_broker_listens_on_loopback_alone_and_leaves_nothing(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    port = broker.address.port
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123 - a pseudo file
        listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert [one for one in listening if one.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    assert broker.is_running()
    broker.stop()
    broker.stop()
    assert not broker.is_running()
    assert not answers(broker.address)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_somebody_holds_is_named(tmp_path: Path) -> None:
    with closing(socket.create_server((LOOPBACK, 0))) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"(?s)port {port}.*--broker-port") as caught:
            EmbeddedBroker(tmp_path, port=port).start()
        assert caught.value.exit_code == 1
        with pytest.raises(PortInUseError, match=f"(?s)the page cannot listen on port {port}.*--port"):
            bind_loopback(port, "the page", option="--port")
        assert not answers(BrokerAddress(host=LOOPBACK, port=port), timeout_s=0.1), "a silent port is no broker"


def test_an_external_broker_that_is_away_is_told() -> None:
    address = BrokerAddress(host=LOOPBACK, port=free_port())
    with pytest.raises(FleetError, match="the broker does not answer"):
        ExternalBroker(address).start()


def test_the_embedded_broker_is_asked_for_one_collector_only(tmp_path: Path) -> None:
    assert not EmbeddedBroker(tmp_path).shared_subscriptions
    with pytest.raises(UsageError, match="the embedded broker serves one collector"):
        FleetSettings(folder=tmp_path, collectors=2)
    assert FleetSettings(folder=tmp_path, collectors=2, broker_url="mqtt://broker").collectors == 2
