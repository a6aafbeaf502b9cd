"""Our int8 artifacts beside the rivals': ``python -m tests.bench.compile [--nets …] [--tools …] [--seeds …]``.

Trains what is not kept, lets every tool quantize it, scores all alike, writes ``.cache/bench/compile.json`` after each
net (a run that is cut goes on where it was, unless ``--afresh``), and puts the table into ``tests/bench/README.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

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
    """Measure, write the result and the table."""
    asked = arguments()
    result = read_result(OUT) if OUT.exists() else described(asked.repeats, rows=(), builds=())
    for seed in () if asked.table else asked.seeds:
        for name in asked.nets:
            for target in asked.targets:
                if asked.afresh or not has(result, name, seed, target):
                    result = extended(result, name, seed, target, asked)
                    write_result(OUT, result)
    text = README.read_text(encoding="utf8") if README.exists() else "# Benchmarks\n"
    README.write_text(with_section(text, markdown(result)), encoding="utf8")
    sys.stdout.write(markdown(result) + "\n")


def has(result: Result, name: str, seed: int, target: str) -> bool:
    """Tell whether a case was measured."""
    return any((row.net, row.seed, row.target) == (name, seed, target) for row in result.rows)


def extended(result: Result, name: str, seed: int, target: str, asked: argparse.Namespace) -> Result:
    """Return the result with one case measured, or measured again."""
    sys.stderr.write(f"{name}-{seed} for {target}\n")
    net, profile = kept(name, seed), load_target(target)
    tools = tuple(tool for tool in asked.tools if target == TARGETS[0] or tool != BOARDLESS)
    rows = measure(net, profile, tools, repeats=asked.repeats, folder=WORK)
    shipped = (ship(net, profile, WORK),) if any(row.samples for row in rows) else ()

    def other(row: Row | Build) -> bool:
        return (row.net, row.seed, row.target) != (name, seed, target)

    return described(
        asked.repeats,
        rows=(*filter(other, result.rows), *rows),
        builds=(*filter(other, result.builds), *shipped),
    )


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
