"""``edgepe fleet``, ``publish`` and ``rollout`` against a running fleet, as a user calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from edgepe.cli.fleet import fleet as fleet_group
from edgepe.cli.publish import publish
from edgepe.cli.rollout import rollout
from edgepe.errors import FleetError, UsageError
from edgepe.fleet.broker import BrokerAddress
from edgepe.fleet.client import FleetClient
from edgepe.fleet.up import Fleet, FleetSettings, running_fleet
from tests.brokers import until
from tests.fleet_agents import Manner, SimulatedAgent, make_bundle, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with running_fleet(FleetSettings(folder=folder / "fleet", port=0, broker_port=0)) as fleet:
        address = BrokerAddress.parse(fleet.broker_url)
        repository, key = fleet.repository_url, fleet.address.key
        with (
            SimulatedAgent(address, "alpha", repository=repository, key=key) as alpha,
            SimulatedAgent(address, "omega", repository=repository, key=key, manner=Manner.FRAIL),
        ):
            client = FleetClient(fleet.address)
            until(lambda: client.status()["online"] == 2)
            until(lambda: all(row["target"] for row in client.devices()))
            alpha.send(telemetry("alpha", 1, latencies_ns=(1_000_000, 2_000_000), version="0"))
            until(lambda: client.status()["messages"] == 1)
            yield fleet


def call(command: click.Command, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_person_publishes_rolls_out_and_looks(running: Fleet, tmp_path: Path) -> None:
    where = ("--dir", str(running.folder))
    for version in ("1", "2"):
        bundle = make_bundle(tmp_path, name="har", version=version, target="generic-x86-64", weights=version.encode())
        (row,) = json.loads(call(publish, str(bundle), *where, "--json"))["bundles"]
        assert row["path"] == f"targets/har/{version}/generic-x86-64.edge"
        assert row["path"] in call(publish, str(bundle), *where)

    started = json.loads(call(rollout, "start", "har", "1", "--waves", "100%", "--wait", *where, "--json"))
    assert started["rollouts"][0]["state"] == "COMPLETED"
    failed = call(rollout, "start", "har", "2", "--waves", "1,2", "--wait", *where, code=1)
    assert "golden_mismatch" in failed
    listed = json.loads(call(rollout, "status", *where, "--json"))["rollouts"]
    assert [one["state"] for one in listed] == ["FAILED", "COMPLETED"]
    assert "har 2" in call(rollout, "status", *where)

    now = json.loads(call(fleet_group, "status", *where, "--json"))
    assert {"devices", "online", "messages", "lost", "duplicates", "by_state", "by_version"} <= set(now)
    assert (now["devices"], now["online"], now["by_version"]) == (2, 2, {"har 1": 2})
    assert "2 of 2 devices online" in call(fleet_group, "status", *where)
    rows = json.loads(call(fleet_group, "devices", *where, "--json"))["devices"]
    assert [row["device"] for row in rows] == ["alpha", "omega"]
    assert rows[0]["p50_us"] == pytest.approx(1000, rel=0.02)
    assert "alpha" in call(fleet_group, "devices", *where)


def test_a_rollout_of_what_is_not_published_is_refused(running: Fleet) -> None:
    with pytest.raises(FleetError, match="no bundle for its target"):
        call(rollout, "start", "har", "77", "--dir", str(running.folder))
    with pytest.raises(UsageError, match="a wave is not understood"):
        call(rollout, "start", "har", "1", "--waves", "some", "--dir", str(running.folder))


def test_a_folder_without_a_fleet_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="edgepe fleet up --dir"):
        call(fleet_group, "status", "--dir", str(tmp_path))


def test_publish_wants_one_place() -> None:
    call(publish, "x.edge", code=2)
    call(publish, "x.edge", "--dir", "a", "--repository", "b", code=2)
    call(publish, code=2)


@pytest.mark.parametrize(
    "command",
    [publish, *fleet_group.commands.values(), *rollout.commands.values()],
    ids=lambda command: str(command.name),
)
def test_every_command_shows_an_example(command: click.Command) -> None:
    assert "Example:  edgepe" in call(command, "--help")
