"""A part of the fleet that ends by itself comes back, and the fleet's memory is whole again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from device_agent.wire.topics import Leaf, shared_filter
from edgepe.fleet.broker import BrokerAddress, answers
from edgepe.fleet.client import FleetClient
from edgepe.fleet.link import Link
from edgepe.fleet.up import Fleet, FleetSettings, running_fleet
from tests.brokers import until
from tests.fleet_agents import SITE, SimulatedAgent, make_bundle, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(FleetSettings(folder=tmp_path / "fleet", port=0, broker_port=0)) as running:
        yield running


def children(word: str) -> list[int]:
    """Return the children of this process whose command line holds a word."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_text()
        except OSError:  # it has just ended
            continue
        if parent == os.getpid() and word in command:
            found.append(int(process.name))
    return found


def test_a_dead_broker_is_started_again_and_learns_what_it_forgot(fleet: Fleet, tmp_path: Path) -> None:
    client, address = FleetClient(fleet.address), BrokerAddress.parse(fleet.broker_url)
    with SimulatedAgent(address, "alpha", repository=fleet.repository_url, key=fleet.address.key) as agent:
        until(lambda: [row["target"] for row in client.devices()] == ["generic-x86-64"])
        fleet.repository.publish(make_bundle(tmp_path, name="har", version="1", target="generic-x86-64"))
        started = client.start_rollout("har", "1", waves="100%")
        until(lambda: client.rollout(started["id"])["state"] == "COMPLETED")
        (pid,) = children("iotcore")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not answers(address))
        until(lambda: answers(address))
        until(lambda: "restarted" in {event["kind"] for event in client.events()})
        late = Link(address, client_id="late", subscriptions=(f"ep1/{SITE}/alpha/desired",))
        until(lambda: late.poll(0.1))
        late.close()
        until(agent.connected)
        agent.send(telemetry("alpha", 1))
        until(lambda: client.status()["messages"] == 1)


def test_a_dead_collector_is_started_again_and_nothing_is_lost(fleet: Fleet) -> None:
    client, address = FleetClient(fleet.address), BrokerAddress.parse(fleet.broker_url)
    with SimulatedAgent(address, "alpha") as agent:
        until(lambda: client.status()["online"] == 1)
        (pid,) = children("edgepe.fleet.collector")
        os.kill(pid, signal.SIGKILL)
        for seq in (1, 2, 3):
            agent.send(telemetry("alpha", seq))
        until(lambda: client.status()["messages"] == 3)
        assert client.status()["lost"] == 0


def test_a_broker_whose_router_panicked_is_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgepe.fleet.up.HEALTH_AFTER_LOOKS", 2)
    with running_fleet(FleetSettings(folder=tmp_path / "fleet", port=0, broker_port=0)) as fleet:
        client, address = FleetClient(fleet.address), BrokerAddress.parse(fleet.broker_url)
        shared = (shared_filter("others", Leaf.TELE),)
        with SimulatedAgent(address, "alpha") as agent:
            rude = Link(address, client_id="rude", subscriptions=shared, session_expiry_s=60)
            until(lambda: rude.poll(0.05) == [] and rude.connected)
            for _ in range(5):
                rude.poll(0.05)
            agent.send(telemetry("alpha", 1))
            until(lambda: rude.poll(0.1))
            rude._client._sock_close()  # a member of a shared subscription leaves with a message in flight
            until(lambda: "restarted" in {event["kind"] for event in client.events()})
            until(agent.connected)
            agent.send(telemetry("alpha", 2))
            until(lambda: client.status()["messages"] >= 1)
    assert "group must exists" in capfd.readouterr().err
