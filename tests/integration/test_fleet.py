from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from device_agent.wire.histogram import LogHistogram
from edgepe.errors import FleetError, PortInUseError, UsageError
from edgepe.fleet.address import read_address
from edgepe.fleet.broker import BrokerAddress
from edgepe.fleet.client import FleetClient
from edgepe.fleet.up import Fleet, FleetSettings, running_fleet
from tests.brokers import BROKERS, mosquitto, until
from tests.fleet_agents import Manner, SimulatedAgent, make_bundle, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGETS = ("raspberry-pi-5", "jetson-orin", "android-arm64")


@pytest.fixture(params=BROKERS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        external = request.param == "mosquitto"
        url = stack.enter_context(mosquitto(tmp_path)).url if external else ""
        settings = FleetSettings(
            folder=tmp_path / "fleet", port=0, broker_port=0, broker_url=url, collectors=2 if external else 1
        )
        yield stack.enter_context(running_fleet(settings))


@contextmanager
def agents(fleet: Fleet, **manners: Manner) -> Iterator[dict[str, SimulatedAgent]]:
    with ExitStack() as stack:
        address = BrokerAddress.parse(fleet.broker_url)
        client = FleetClient(fleet.address)
        made = {}
        for target, (device, manner) in zip(TARGETS, manners.items(), strict=True):
            agent = SimulatedAgent(
                address,
                device,
                target=target,
                repository=fleet.repository_url,
                key=fleet.address.key,
                manner=manner,
            )
            made[device] = stack.enter_context(agent)
        until(lambda: client.status()["online"] == len(made))
        until(lambda: all(row["target"] for row in client.devices()))
        yield made


def publish(fleet: Fleet, folder: Path, version: str) -> None:
    for target in TARGETS:
        fleet.repository.publish(
            make_bundle(folder, name="har", version=version, target=target, weights=version.encode())
        )


def roll_out(client: FleetClient, version: str, *, waves: str = "1,100%", deadline_s: int = 60) -> dict[str, object]:
    started = client.start_rollout("har", version, waves=waves, deadline_s=deadline_s)
    until(lambda: client.rollout(started["id"])["state"] in ("COMPLETED", "FAILED"))
    return dict(client.rollout(started["id"]))


def test_a_version_reaches_three_devices_and_a_failing_one_turns_the_next_back(fleet: Fleet, tmp_path: Path) -> None:
    client = FleetClient(fleet.address)
    manners = {"alpha": Manner.OBEDIENT, "beta": Manner.FRAIL, "gamma": Manner.OBEDIENT}
    with agents(fleet, **manners) as made:
        publish(fleet, tmp_path, "1")
        first = roll_out(client, "1")
        assert first["state"] == "COMPLETED", first
        assert [row["state"] for row in first["devices"]] == ["COMMITTED"] * 3  # type: ignore[attr-defined] # rows
        assert client.status()["by_version"] == {"har 1": 3}

        publish(fleet, tmp_path, "2")
        second = roll_out(client, "2", waves="1,2,3")
        assert second["state"] == "FAILED"
        assert "beta" in str(second["reason"])
        standings = {row["device"]: row["state"] for row in second["devices"]}  # type: ignore[attr-defined] # rows
        assert standings == {"alpha": "REVERTED", "beta": "REVERTED", "gamma": "WAITING"}
        versions = {name: agent.active.version if agent.active else "" for name, agent in made.items()}
        assert versions == {"alpha": "1", "beta": "1", "gamma": "1"}
        assert made["gamma"].revisions == [1], "a device of a later wave was asked after the failure"
        kinds = {event["kind"] for event in client.events()}
        assert {"rollout_started", "rollout", "rollout_ended"} <= kinds


def test_silence_past_the_deadline_is_a_failure(fleet: Fleet, tmp_path: Path) -> None:
    client = FleetClient(fleet.address)
    manners = {"alpha": Manner.OBEDIENT, "beta": Manner.SILENT, "gamma": Manner.OBEDIENT}
    with agents(fleet, **manners):
        publish(fleet, tmp_path, "1")
        ended = roll_out(client, "1", waves="2,3", deadline_s=1)
        assert ended["state"] == "FAILED"
        rows = {row["device"]: row for row in ended["devices"]}  # type: ignore[attr-defined] # rows
        assert rows["beta"]["code"] == "timed_out"
        assert rows["gamma"]["state"] == "WAITING"


def test_an_altered_bundle_is_refused_by_every_device(fleet: Fleet, tmp_path: Path) -> None:
    client = FleetClient(fleet.address)
    manners = dict.fromkeys(("alpha", "beta", "gamma"), Manner.OBEDIENT)
    with agents(fleet, **manners) as made:
        publish(fleet, tmp_path, "1")
        roll_out(client, "1")
        publish(fleet, tmp_path, "2")
        for bundle in fleet.repository.bundles():
            if bundle.version == "2":
                (fleet.repository.folder / bundle.path).write_bytes(b"\0" * bundle.length)
        ended = roll_out(client, "2", waves="100%")
        assert ended["state"] == "FAILED"
        rows = ended["devices"]
        assert [row["state"] for row in rows] == ["REVERTED"] * 3  # type: ignore[attr-defined] # rows
        assert "digest_mismatch" in [row["code"] for row in rows]  # type: ignore[attr-defined] # rows
        assert all(agent.active is not None and agent.active.version == "1" for agent in made.values())


def test_telemetry_is_merged_and_counted_exactly(fleet: Fleet) -> None:
    client = FleetClient(fleet.address)
    manners = dict.fromkeys(("alpha", "beta", "gamma"), Manner.OBEDIENT)
    everything = LogHistogram()
    with agents(fleet, **manners) as made:
        for offset, agent in enumerate(made.values()):
            latencies = range(1_000_000 * (offset + 1), 1_000_000 * (offset + 1) + 1000)
            everything.add_many(latencies)
            agent.send(telemetry(agent.device, 1, latencies_ns=latencies))
            agent.send(telemetry(agent.device, 1, latencies_ns=latencies))
            agent.send(telemetry(agent.device, 4, latencies_ns=()))
            agent.send_raw("tele", b"\xff no json")
        until(lambda: client.status()["messages"] + client.status()["duplicates"] == 9)
        until(lambda: client.status()["poison"] == 3)
        status = client.status()
        assert (status["messages"], status["duplicates"], status["lost"]) == (6, 3, 6)
        assert status["p99_us"] == round(everything.quantile(0.99) / 1000, 1)
        rows = client.devices()
        assert [row["inferences"] for row in rows] == [1000] * 3
        assert all(row["p50_us"] is not None for row in rows), "an empty window hid the last figures"
        assert client.device("alpha")["windows"][-1]["inferences"] == 0


def test_a_lost_connection_shows_as_offline_and_the_stream_tells(fleet: Fleet) -> None:
    client = FleetClient(fleet.address)
    manners = dict.fromkeys(("alpha", "beta", "gamma"), Manner.OBEDIENT)
    with agents(fleet, **manners) as made:
        updates = client.stream()
        assert next(updates)["status"]["online"] == 3
        made["beta"].drop()
        assert any(update["status"]["online"] == 2 for update in updates)
        assert [row["device"] for row in client.devices() if not row["online"]] == ["beta"]


@pytest.fixture
def quiet_fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(FleetSettings(folder=tmp_path / "fleet", port=0, broker_port=0)) as running:
        yield running


def test_bundles_are_served_in_ranges(quiet_fleet: Fleet, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, name="har", version="1", target="jetson-orin", weights=bytes(range(256)) * 300)
    published = quiet_fleet.repository.publish(bundle)
    url, content = f"{quiet_fleet.repository_url}/{published.path}", bundle.read_bytes()
    with httpx.Client(trust_env=False) as web:
        whole = web.get(url)
        assert whole.content == content

        def part(condition: str) -> tuple[int, bytes]:
            answer = web.get(url, headers={"Range": "bytes=100-199", "If-Range": condition})
            return answer.status_code, answer.content

        assert part(whole.headers["ETag"]) == (206, content[100:200])
        assert part('"another"') == (200, content), "a changed file must come whole"


def test_only_the_holder_of_the_token_changes_anything(quiet_fleet: Fleet) -> None:
    body = json.dumps({"name": "har", "version": "1"})

    def post(**headers: str) -> int:
        link = HTTPConnection(urlsplit(quiet_fleet.page_url).netloc, timeout=10)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        link.request("POST", "/api/rollouts", body, names)
        answer = link.getresponse()
        answer.read()
        link.close()
        return answer.status

    token = quiet_fleet.address.token
    assert post(Content_Type="application/json") == 403
    assert post(Content_Type="application/json", X_Edgepe_Token=token[::-1]) == 403
    assert post(Content_Type="text/plain", X_Edgepe_Token=token) == 400
    assert post(Content_Type="application/json", X_Edgepe_Token=token, Host="evil.example") == 400
    assert post(Content_Type="application/json", X_Edgepe_Token=token) == 409


def test_refusals_explain_themselves(quiet_fleet: Fleet) -> None:
    client = FleetClient(quiet_fleet.address)
    with pytest.raises(FleetError, match="no such device"):
        client.device("nobody")
    with pytest.raises(UsageError, match="minutes is out of bounds"):
        client.latency(minutes=0)
    with pytest.raises(FleetError, match="no device can take har 9"):
        client.start_rollout("har", "9")


def test_a_second_fleet_in_the_folder_and_a_taken_port_are_refused(quiet_fleet: Fleet, tmp_path: Path) -> None:
    again = FleetSettings(folder=quiet_fleet.folder, port=0, broker_port=0)
    with pytest.raises(FleetError, match=r"runs in .* already"), running_fleet(again):
        pass
    taken = urlsplit(quiet_fleet.page_url).port or 0
    with (
        pytest.raises(PortInUseError, match=str(taken)),
        running_fleet(FleetSettings(folder=tmp_path / "b", port=taken, broker_port=0)),
    ):
        pass
    taken = urlsplit(quiet_fleet.broker_url).port or 0
    with (
        pytest.raises(PortInUseError, match=f"broker cannot listen on port {taken}"),
        running_fleet(FleetSettings(folder=tmp_path / "c", port=0, broker_port=taken)),
    ):
        pass
    assert read_address(quiet_fleet.folder) == quiet_fleet.address


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[str], FleetClient]]:
    command = (sys.executable, "-m", "edgepe", "fleet", "up", "--port", "0", "--broker-port", "0", "--dir", str(folder))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until((folder / "fleet.json").exists)
            yield process, FleetClient.of(folder)
        finally:
            process.kill()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat", encoding="utf8") as file:  # noqa: PTH123 - a short-lived pseudo file
        return file.read().rpartition(")")[2].split()[0] == "Z"


def refuses(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_even_with_a_page_open(tmp_path: Path, how: signal.Signals) -> None:
    with started(tmp_path / "fleet") as (process, client):
        stream = client.stream()
        next(stream)
        process.send_signal(how)
        _out, complaints = process.communicate(timeout=30)
        assert process.returncode == 0
        assert complaints.strip() == "Ctrl-C stops everything."
        assert all(is_gone(pid) for pid in client.address.collectors)
        assert refuses(client.address.broker)
        assert refuses(client.address.page)
        stream.close()  # type: ignore[attr-defined] # it is a generator
    left = sorted(path.name for path in (tmp_path / "fleet").iterdir())
    assert left == ["fleet.db", "keys"], "a temporary file is left"


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    with started(tmp_path / "fleet") as (process, client):
        process.kill()
        process.communicate(timeout=30)
        until(lambda: all(is_gone(pid) for pid in client.address.collectors))
        until(lambda: refuses(client.address.broker))
    with running_fleet(FleetSettings(folder=tmp_path / "fleet", port=0, broker_port=0)) as again:
        assert FleetClient(again.address).status()["devices"] == 0
