"""``edgepe rollout``: bring a version to the fleet."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from edgepe.cli.fleet import dir_option, fleet_client, json_option
from edgepe.fleet.defaults import DEADLINE_S, WAVES

if TYPE_CHECKING:
    from pathlib import Path

    from edgepe.fleet.shapes import RolloutJson

__all__ = ["rollout"]

LOOK_EVERY_S = 0.5


@click.group(epilog="Example:  edgepe rollout start har 2")
def rollout() -> None:
    """Bring a version to the fleet, wave by wave; a failure stops it and reverts what was updated."""


@rollout.command(epilog="Example:  edgepe rollout start har 2 --waves 1,25%,100% --wait")
@click.argument("name")
@click.argument("version")
@click.option("--waves", default=WAVES, show_default=True, help="Devices asked, in all, after each wave.")
@click.option(
    "--deadline", type=click.IntRange(1), default=DEADLINE_S, show_default=True, help="Seconds a device may take."
)
@click.option("--group", default="", metavar="KEY=NAME", help="Only device=NAME, site=NAME or target=NAME.")
@click.option("--wait", is_flag=True, help="Show it until it ends; exit 1 if it was reverted.")
@dir_option
@json_option
def start(
    *, name: str, version: str, waves: str, deadline: int, group: str, folder: Path, wait: bool, as_json: bool
) -> None:
    """Start rolling VERSION of the model NAME out to every online device with a bundle for its target."""
    client = fleet_client(folder)
    started = client.start_rollout(name, version, waves=waves, deadline_s=deadline, group=group)
    while wait and started["state"] in ("RUNNING", "REVERTING"):
        time.sleep(LOOK_EVERY_S)
        started = client.rollout(started["id"])
        committed, all_of_them = started["committed"], len(started["devices"])
        click.echo(f"{started['state']}: {committed} of {all_of_them} committed", err=True)
    _show([started], as_json=as_json)
    sys.exit(1 if started["state"] == "FAILED" else 0)


@rollout.command(epilog="Example:  edgepe rollout status --json")
@dir_option
@json_option
def status(folder: Path, *, as_json: bool) -> None:
    """Show the newest roll-outs: every device, its state and the reason of the last decision."""
    _show(fleet_client(folder).rollouts(), as_json=as_json)


def _show(rollouts: list[RolloutJson], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"rollouts": rollouts}))
        return
    from edgepe.fleet.tables import console, rollout_table  # noqa: PLC0415 - heavy

    screen = console()
    for one in rollouts:
        screen.print(rollout_table(one))
    if not rollouts:
        click.echo("Nothing has been rolled out yet.", err=True)
