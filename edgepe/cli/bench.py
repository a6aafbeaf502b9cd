"""``edgepe bench``: time a bundle on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgepe.extras import needs_extra

__all__ = ["bench"]


@click.command(epilog="Example:  edgepe bench dist/model-1-generic-x86-64.edge --against model.onnx")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help=".onnx, .tflite or .edge with the same inputs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(bundle: Path, against: Path | None, *, as_json: bool) -> None:
    """Time BUNDLE on this machine: one inference, one thread, in a child process.

    The times are this machine's, not the target's.
    """
    with needs_extra("compile", wanted_by="edgepe bench"):
        from edgepe.cli.show import kilobytes, print_json, print_table  # noqa: PLC0415 - rich, only where it is used
        from edgepe.stages.check import bench as run_bench  # noqa: PLC0415 - numpy and a runtime
    rows = run_bench(bundle, against)
    if as_json:
        print_json({"models": [asdict(row) for row in rows]})
        return
    print_table(
        ("file", "runtime", "KB", "p50 µs", "p99 µs", "cold µs", "load µs", "peak MB"),
        [
            (
                row.file,
                row.runtime,
                kilobytes(row.bytes),
                *(f"{value:.0f}" for value in (row.median_us, row.p99_us, row.cold_us, row.load_us)),
                f"{row.rss_bytes / 1e6:.0f}",
            )
            for row in rows
        ],
    )
