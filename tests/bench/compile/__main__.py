"""Our int8 artifacts beside the rivals': ``python -m tests.bench.compile [--nets …] [--tools …] [--seeds …]``.

Trains what is not kept, lets every tool quantize it, scores all alike, writes ``.cache/bench/compile.json`` after each
net (a run that is cut goes on where it was, unless ``--afresh``), and puts the table into ``tests/bench/README.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from dataclasses import replace
from importlib.metadata import version
from itertools import filterfalse, product
from pathlib import Path
from typing import NamedTuple

from edgepe.target import load_target
from edgepe.verify.standin import read_host
from tests.bench.compile.measure import measure, ship
from tests.bench.compile.result import Build, Result, Row, read_result, write_result
from tests.bench.compile.table import OURS, markdown, with_section
from tests.bench.compile.training import NETS, kept

OUT = Path(".cache/bench/compile.json")
WORK = Path(".cache/bench/compile")
README = Path(__file__).resolve().parents[1] / "README.md"
TARGETS = ("generic-x86-64", "raspberry-pi-5")
TOOLS = (OURS, "onnxruntime", "nncf", "olive", "modelopt")
BOARDLESS = "modelopt"  # writes for TensorRT, the same file whatever the board: run for the first target alone


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench-compile", description=__doc__)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=TOOLS)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--afresh", action="store_true", help="measure again what is in the result already")
    parser.add_argument("--table", action="store_true", help="only write the table of the result that is there")
    return parser.parse_args()


def main() -> None:
    """Measure all artifacts, then build what ships, then write the table."""
    asked = arguments()
    result = read_result(OUT) if OUT.exists() else described(asked.repeats, rows=(), builds=())
    cases = [Case(*case) for case in product(asked.nets, asked.seeds, asked.targets)]
    for step in () if asked.table else (with_rows, with_build):
        for case in cases:
            result = step(result, case, asked)
            write_result(OUT, result)
    text = README.read_text(encoding="utf8") if README.exists() else "# Benchmarks\n"
    README.write_text(with_section(text, markdown(result)), encoding="utf8")
    sys.stdout.write(markdown(result) + "\n")


class Case(NamedTuple):
    """One net, trained with one seed, for one board."""

    net: str
    seed: int
    target: str

    def has(self, row: Row | Build) -> bool:
        """Tell whether a row is of this case."""
        return (row.net, row.seed, row.target) == self


def with_rows(result: Result, case: Case, asked: argparse.Namespace) -> Result:
    """Return the result with every tool's artifact of a case, measured where it was not yet."""
    if any(map(case.has, result.rows)) and not asked.afresh:
        return result
    sys.stderr.write(f"{case.net}-{case.seed} for {case.target}\n")
    tools = tuple(tool for tool in asked.tools if case.target == TARGETS[0] or tool != BOARDLESS)
    net = kept(case.net, case.seed)
    rows = measure(net, load_target(case.target), tools, repeats=asked.repeats, folder=WORK)
    return described(asked.repeats, rows=(*filterfalse(case.has, result.rows), *rows), builds=result.builds)


def with_build(result: Result, case: Case, asked: argparse.Namespace) -> Result:
    """Return the result with what ships in a case that can be scored, built where it was not yet."""
    unscored = not any(row.samples for row in filter(case.has, result.rows))
    if unscored or (any(map(case.has, result.builds)) and not asked.afresh):
        return result
    sys.stderr.write(f"building {case.net}-{case.seed} for {case.target}\n")
    build = ship(kept(case.net, case.seed), load_target(case.target), WORK)
    return replace(result, builds=(*filterfalse(case.has, result.builds), build))


def described(repeats: int, *, rows: tuple[Row, ...], builds: tuple[Build, ...]) -> Result:
    """Return a result with this machine described."""
    host = read_host()
    names = ("numpy", "onnx", "onnxruntime", "torch")
    return Result(
        host=f"{host.title}, {os.cpu_count()} cores, Python {platform.python_version()}",
        software=", ".join(f"{name} {version(name)}" for name in names),
        repeats=repeats,
        load=os.getloadavg()[2],
        rows=rows,
        builds=builds,
    )


if __name__ == "__main__":
    main()
