"""The fleet as tables in a terminal, for the command line and the demo.

Rules kept here:
1. A table is made of the same JSON that the page gets; nothing is computed here.
2. Colour never speaks alone: a state's name stands in its colour.
3. What a device says of itself is text, never markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from edgepe.fleet.shapes import DeviceJson, RolloutJson, StatusJson

__all__ = ["console", "devices_table", "rollout_table", "status_line"]

NONE = "-"
PIPED_COLUMNS = 200
MIB = 1024 * 1024
THOUSAND_US = 1000
GOOD = frozenset({"COMMITTED", "COMPLETED"})
BAD = frozenset({"REJECTED", "FAILED", "ROLLED_BACK", "TIMED_OUT", "UNCONFIRMED"})
QUIET = frozenset({"IDLE", "WAITING", "REVERTED", "CANCELLED"})


def console(file: IO[str] | None = None) -> Console:
    """Return a console that cuts nothing off where there is no terminal to fit into."""
    made = Console(file=file)
    return made if made.is_terminal else Console(file=file, width=PIPED_COLUMNS)


def devices_table(rows: Iterable[DeviceJson], *, title: str | None = None) -> Table:
    """Return a table of devices: model and version, percentiles, memory, state; fits into 80 columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("device", "model"):
        table.add_column(heading, no_wrap=True)
    for heading in ("p50", "p95", "p99", "memory", "runs"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state")  # the one that may wrap, so that no figure is cut
    for row in rows:
        style = "" if row["online"] else "dim"
        names = (
            Text(name or NONE, style=style) for name in (row["device"], f"{row['model']} {row['version']}".strip())
        )
        latencies = (_latency(row["p50_us"]), _latency(row["p95_us"]), _latency(row["p99_us"]))
        figures = (*latencies, _memory(row["rss_bytes"]), f"{row['inferences']:,}")
        table.add_row(*names, *figures, _device_state(row))
    return table


def rollout_table(rollout: RolloutJson) -> Table:
    """Return a table of a roll-out: one row per device, with the reason of the last decision about it."""
    title = Text(f"{rollout['name']} {rollout['version']}  ").append(_state(rollout["state"]))
    caption = Text(rollout["reason"])
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("wave", "device", "state", "from", "why"):
        table.add_column(heading)
    for row in rollout["devices"]:
        why = ": ".join(part for part in (row["code"], row["reason"]) if part)
        wave = f"{row['wave'] + 1}/{len(rollout['waves'])}"
        table.add_row(wave, Text(row["device"]), _state(row["state"]), Text(row["previous"] or NONE), Text(why))
    for device, reason in rollout["skipped"].items():
        table.add_row(NONE, Text(device), Text("left out", style="dim"), NONE, Text(reason))
    return table


def status_line(status: StatusJson) -> str:
    """Return the whole fleet in one line."""
    return (
        f"{status['online']} of {status['devices']} devices online, {status['messages']:,} telemetry batches, "
        f"{status['lost']:,} lost, {status['duplicates']:,} duplicates removed"
    )


def _latency(value_us: float | None) -> str:
    if value_us is None:
        return NONE
    return f"{value_us:.0f} µs" if value_us < THOUSAND_US else f"{value_us / THOUSAND_US:.2f} ms"


def _memory(value: int | None) -> str:
    return NONE if value is None else f"{value / MIB:.1f} MiB"


def _device_state(row: DeviceJson) -> Text:
    text = _state(row["state"])
    if row["state"] == "DOWNLOADING":
        text.append(f" {row['percent']} %")
    if row["code"]:
        text.append(f" {row['code']}")
    if not row["online"]:
        text.append(" (offline)", style="red")
    return text


def _state(state: str) -> Text:
    style = "green" if state in GOOD else "bold red" if state in BAD else "dim" if state in QUIET else "yellow"
    return Text(state, style=style)
