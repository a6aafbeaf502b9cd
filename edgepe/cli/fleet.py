"""``edgepe fleet``: run a fleet and look at it."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.extras import needs_extra
from edgepe.fleet.defaults import BROKER_PORT, FOLDER, PORT

if TYPE_CHECKING:
    from edgepe.fleet.client import FleetClient

__all__ = ["dir_option", "fleet", "fleet_client", "json_option"]

PORTS = click.IntRange(0, 65535)

dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    show_default=True,
    help="The folder that holds everything of this fleet.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def fleet_client(folder: Path) -> FleetClient:
    """Return a client of the fleet that runs in a folder.

    Raises:
        FleetError: None runs there.
        MissingExtraError: The extra ``fleet`` is not installed.
    """
    with needs_extra("fleet", wanted_by="this command"):
        from edgepe.fleet.client import FleetClient  # noqa: PLC0415 - an extra
    return FleetClient.of(folder)


@click.group(epilog="Example:  edgepe fleet up --dir edgepe-fleet")
def fleet() -> None:
    """Run and watch a fleet: broker, repository, collector and page."""


@fleet.command(epilog="Example:  edgepe fleet up --dir edgepe-fleet --broker mqtt://127.0.0.1:1883 --collectors 2")
@dir_option
@click.option("--port", type=PORTS, default=PORT, show_default=True, help="Of page, API, bundles.")
@click.option("--broker-port", type=PORTS, default=BROKER_PORT, show_default=True, help="Embedded broker's.")
@click.option("--broker", "broker_url", default="", metavar="URL", help="An external MQTT 5 broker instead.")
@click.option("--collectors", type=click.IntRange(1), default=1, show_default=True, help="Above 1 needs --broker.")
def up(folder: Path, port: int, broker_port: int, broker_url: str, collectors: int) -> None:
    """Start a fleet on this machine and keep it up until Ctrl-C; a port of 0 takes any free one."""
    with needs_extra("fleet", wanted_by="edgepe fleet up"):
        from edgepe.fleet.up import FleetSettings, running_fleet  # noqa: PLC0415 - an extra
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = FleetSettings(
        folder=folder, port=port, broker_port=broker_port, broker_url=broker_url, collectors=collectors
    )
    with running_fleet(settings) as running:
        rows = (("page", running.page_url), ("broker", running.broker_url), ("repository", running.repository_url))
        for name, value in (*rows, ("public key", running.address.key)):
            click.echo(f"{name:<12}{value}")
        click.echo("Ctrl-C stops everything.", err=True)
        stop.wait()


@fleet.command(epilog="Example:  edgepe fleet status --json")
@dir_option
@json_option
def status(folder: Path, *, as_json: bool) -> None:
    """Say how the fleet is: devices online, batches lost, states, versions."""
    now = fleet_client(folder).status()
    if as_json:
        click.echo(json.dumps(now))
        return
    from edgepe.fleet.tables import status_line  # noqa: PLC0415 - heavy

    click.echo(status_line(now))
    for name, count in (*now["by_version"].items(), *now["by_state"].items()):
        click.echo(f"  {count:>6}  {name}")


@fleet.command(epilog="Example:  edgepe fleet devices --dir edgepe-fleet")
@dir_option
@json_option
def devices(folder: Path, *, as_json: bool) -> None:
    """List the devices: model, version, latency, memory, state."""
    rows = fleet_client(folder).devices()
    if as_json:
        click.echo(json.dumps({"devices": rows}))
        return
    from edgepe.fleet.tables import console, devices_table  # noqa: PLC0415 - heavy

    console().print(devices_table(rows))


@fleet.command(epilog="Example:  edgepe fleet watch")
@dir_option
@json_option
def watch(folder: Path, *, as_json: bool) -> None:
    """Show the devices live until Ctrl-C; with --json, one line per change."""
    updates = fleet_client(folder).stream()
    if as_json:
        for update in updates:
            click.echo(json.dumps(update))
        return
    from rich.console import Group  # noqa: PLC0415 - heavy
    from rich.live import Live  # noqa: PLC0415 - heavy

    from edgepe.fleet.tables import console, devices_table, status_line  # noqa: PLC0415 - heavy

    with Live(console=console(), auto_refresh=False) as live:
        for update in updates:
            live.update(Group(devices_table(update["devices"]), status_line(update["status"])), refresh=True)
