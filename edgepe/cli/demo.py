"""``edgepe demo``: the whole story on this machine."""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from edgepe.demo.story import Outcome

__all__ = ["demo", "ended_by_sigterm"]


@click.command(epilog="Example:  edgepe demo --keep")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write here, and leave it there."
)
@click.option("--keep", is_flag=True, help="Leave the fleet running until Ctrl-C.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the training.")
@click.option(
    "--watch", "watch_s", type=float, default=8.0, show_default=True, help="Seconds of each look at the fleet."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the page; by default any free one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the story goes to stderr.")
def demo(*, folder: Path | None, keep: bool, seed: int, watch_s: float, port: int, as_json: bool) -> None:
    """Train a variational model, build it for three kinds of device, run, watch and update a fleet of them.

    Everything runs on this machine and on real recordings; nothing is left behind unless you ask for it.
    """
    with needs_extra("demo", wanted_by="edgepe demo"):
        from rich.console import Console  # noqa: PLC0415 - an extra

        from edgepe.cli.show import Progress  # noqa: PLC0415 - an extra
        from edgepe.demo.show import TerminalShow  # noqa: PLC0415 - an extra
        from edgepe.demo.story import Settings, tell  # noqa: PLC0415 - an extra
    show = TerminalShow(Console(stderr=as_json), building=Progress)

    def stay(outcome: Outcome) -> None:
        if as_json:
            click.echo(json.dumps(outcome.to_json(), indent=1))
        if keep:
            click.echo(f"\nThe fleet goes on: {outcome.page} (Ctrl-C stops it)", err=True)
            _until_interrupted()

    with ended_by_sigterm(), _workplace(folder) as place, contextlib.closing(show):
        tell(Settings(folder=place, seed=seed, watch_s=watch_s, port=port), show, stay=stay)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that whatever it started is stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    """Give the folder that was asked for, or a temporary one that goes at the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="edgepe-demo-") as name:
        yield Path(name)


def _until_interrupted() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
