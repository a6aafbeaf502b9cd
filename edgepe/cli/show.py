"""Tables on stdout and progress on stderr, for the commands that compile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from edgepe.stages.built import Built

__all__ = ["Progress", "build_table", "kilobytes", "print_json", "print_table"]

PIPE_WIDTH = 160  # columns where stdout is no terminal


class Progress:
    """Shows the stages of a build on stderr; one line each where stderr is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Note that a stage begins."""
        if not self._console.is_terminal:
            click.echo(f"edgepe: {name}", err=True)
            return
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(name, total=total)

    def advance(self, done: int) -> None:
        """Note how many steps of the stage are done."""
        if self._task is not None:
            self._bars.update(self._task, completed=done)


def build_table(rows: Iterable[Built]) -> None:
    """Print what was built, one line per target."""
    cells = [
        (
            row.target,
            f"{row.format} {row.precision}",
            f"{kilobytes(row.float_bytes)} → {kilobytes(row.bytes)}",
            f"{row.comparison.metric} {row.comparison.float_score:.4f} → {row.comparison.score:.4f}",
            f"{row.comparison.low:+.2f} … {row.comparison.high:+.2f}",
            f"{_micro(row.float_latency_us)} → {_micro(row.latency_us)} µs {row.latency_is}",
            row.why,
        )
        for row in rows
    ]
    print_table(("target", "artifact", "KB float → artifact", "score", "drop, 95 %", "latency", "why"), cells)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout; wide enough for a file where stdout is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    table = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_json(value: object) -> None:
    """Print JSON on stdout."""
    click.echo(json.dumps(value, indent=1))


def kilobytes(count: int) -> str:
    """Return a number of bytes in thousands, with one decimal.

    >>> kilobytes(12345)
    '12.3'
    """
    return f"{count / 1000:.1f}"


def _micro(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"
