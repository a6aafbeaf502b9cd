"""The story on a terminal: bars for what takes long, one table for the builds, a live one for the fleet.

Rules kept here:
1. Nothing is computed here; what is not a terminal gets each scene's last table once, and no bars.
2. A text of a device or a file is text, never markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edgepe.fleet.tables import devices_table, rollout_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from edgepe import compress
    from edgepe.demo.story import Refusal, Scored
    from edgepe.demo.training import Version
    from edgepe.fleet.shapes import DeviceJson, RolloutJson
    from edgepe.pipeline import Watch

__all__ = ["TerminalShow", "build_table"]

WIDTH = 150  # columns where the output is no terminal


class TerminalShow:
    """Shows the story on a console.

    Args:
        console: Where to.
        building: Makes what follows a build.
    """

    def __init__(self, console: Console, building: Callable[[], AbstractContextManager[Watch]]) -> None:
        if not console.is_terminal:
            console.width = WIDTH
        self._console = console
        self._building = building
        self._live: Live | None = None
        self._last: Group | None = None
        self._states: dict[str, str] = {}

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def chapter(self, title: str) -> None:
        """Print a heading."""
        self._console.print()
        self._console.rule(Text(title, style="bold"), align="left")

    def training(self, epochs: int) -> Callable[[compress.Progress], None]:
        """Return what moves a bar at the end of each epoch."""
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn())
        bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        task = bars.add_task("training", total=epochs)
        bars.start()

        def report(progress: compress.Progress) -> None:
            left = f"{progress.parameters:,} parameters"
            bars.update(task, advance=1, description=f"{progress.stage:<8} loss {progress.loss:.3f}  {left}")
            if bars.finished:
                bars.stop()

        return report

    def trained(self, version: Version) -> None:
        """Print what is left of the network, group by group, and what it scores."""
        record = version.compressed.record
        groups = ", ".join(f"{group.before} → {len(group.kept)}" for group in record.groups)
        before, after = record.before, record.after
        rows = (
            ("channels", groups),
            ("parameters", f"{before.parameters:,} → {after.parameters:,}"),
            ("MACs", f"{before.macs:,} → {after.macs:,}"),
            (
                "validation people",
                f"accuracy {before.accuracy:.3f} → {after.accuracy:.3f}, F1 {before.f1:.3f} → {after.f1:.3f}",
            ),
            ("test people, never seen", f"accuracy {version.dense_score:.3f} → {version.score:.3f}"),
            ("training", f"{after.train_seconds:.0f} s, dense twin included"),
        )
        table = Table.grid(padding=(0, 2))
        for name, value in rows:
            table.add_row(Text(name, style="dim"), Text(value))
        self._console.print(table)

    def building(self) -> AbstractContextManager[Watch]:
        """Return what follows a build."""
        return self._building()

    def built(self, bundles: Sequence[Scored]) -> None:
        """Print the table of the builds."""
        self._console.print(build_table(bundles))

    def page(self, url: str) -> None:
        """Print where the page is."""
        self._console.print(Text.assemble("The fleet's page: ", (url, "bold cyan")))

    def fleet(self, devices: Sequence[DeviceJson], rollout: RolloutJson | None) -> None:
        """Show the fleet live; under it the roll-out, once there is one."""
        tables = [devices_table(devices), *([rollout_table(rollout)] if rollout else [])]
        self._last = Group(*tables)
        if not self._console.is_terminal:
            self._tell_changes(devices)
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=4)
            self._live.start()
        self._live.update(self._last)

    def _tell_changes(self, devices: Sequence[DeviceJson]) -> None:
        """Print a line for each device whose version or state is another than at the last look."""
        for row in devices:
            now = f"version {row['version']} {row['state']}"
            if self._states.get(row["device"], now) != now:
                self._console.print(Text(f"{row['device']}: {now} {row['code']}"))
            self._states[row["device"]] = now

    def settled(self) -> None:
        """Leave the scene's last table standing."""
        if self._live is not None:
            self.close()
        elif self._last is not None:
            self._console.print(self._last)
        self._last = None

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """Print what every agent said to the corrupted bundle."""
        self.settled()
        for each in refusals:
            self._console.print(
                Text.assemble(
                    (each.device, "bold"),
                    f" refused version {each.version}: ",
                    (f"{each.state} {each.code}", "red"),
                    f"; it goes on serving version {each.serving}, {each.inferences:,} inferences since",
                )
            )


def build_table(bundles: Sequence[Scored]) -> Table:
    """Return the table of the builds: one row per target, what it weighs, scores and takes, and why this precision."""
    table = Table(title_justify="left")
    for heading in (
        "target",
        "artifact",
        "bytes",
        "score, validation people",
        "test people",
        "latency",
        "why, scored on",
    ):
        table.add_column(heading, overflow="fold")
    for row in bundles:
        one = row.built
        scores = one.comparison
        table.add_row(
            Text(one.target),
            Text(f"{one.format} {one.precision}"),
            Text(f"{one.float_bytes:,} → {one.bytes:,}"),
            Text(f"{scores.float_score:.3f} → {scores.score:.3f}"),
            Text(f"{row.float_test_score:.3f} → {row.test_score:.3f}"),
            Text("unknown" if one.latency_us is None else f"{one.latency_us:.0f} µs {one.latency_is}"),
            Text(f"{one.why}; {one.scored_on}"),
        )
    return table
