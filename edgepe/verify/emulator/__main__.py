"""``python -m edgepe.verify.emulator``: make the emulated Arm machine, without root, in a few minutes."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from device_agent.wire.errors import ExplainedError
from edgepe.verify.emulator.folder import default_folder
from edgepe.verify.emulator.making import make_emulator
from edgepe.verify.emulator.sources import Mirror


@click.command(epilog="Example:  python -m edgepe.verify.emulator --folder ~/emulator")
@click.option("--folder", type=click.Path(path_type=Path), help="Where it shall lie; the cache by default.")
@click.option("--mirror", metavar="URI", help="A mirror of Debian; the system's own by default.")
def main(folder: Path | None, mirror: str | None) -> None:
    """Make the emulated Arm machine that ``edgepe verify --emulate`` runs artifacts on."""
    tell = functools.partial(click.echo, err=True)
    try:
        emulator = make_emulator(
            (folder or default_folder()).absolute(), mirror=Mirror(uri=mirror) if mirror else None, tell=tell
        )
    except ExplainedError as error:
        click.echo(f"edgepe: {error}", err=True)
        sys.exit(error.exit_code)
    runtimes = ", ".join(f"{package.name} {package.version}" for package in emulator.content.pypi)
    click.echo(f"{emulator.folder}: qemu {emulator.qemu_version}; {runtimes}")


if __name__ == "__main__":
    main()
