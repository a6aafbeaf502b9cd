"""Make every tool's artifact of a net in a child process, score them all the same way, and build ours in full.

Rules kept here:
1. Children of different tools take turns, so that other work on the machine hits all alike; times are medians.
2. An artifact is scored by edgepe's verify child on the target's stand-in, the float twin on plain onnxruntime.
3. Float twin and artifact are timed in turns, and only where host and target agree.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from device_agent.runtime.base import open_runtime
from edgepe.bundle.pack import read_bundle
from edgepe.errors import EdgepeError
from edgepe.metrics import Comparison, compare
from edgepe.pipeline import Request, build
from edgepe.scheme import Precision
from edgepe.verify.run import run_artifact
from edgepe.verify.standin import StandIn, stand_in
from edgepe.wording import first_line
from tests.bench.compile.data import NO_CLASS
from tests.bench.compile.environments import interpreter
from tests.bench.compile.peers.child import Done, Job
from tests.bench.compile.result import Build, Row
from tests.bench.compile.table import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from device_agent.runtime.base import Runtime
    from edgepe.target import Target
    from tests.bench.compile.training import Net

    Outputs = Mapping[str, NDArray[Any]]

__all__ = ["DYNAMIC", "measure", "ship"]

TIMEOUT_S = 600
ROUNDS, TIMINGS = 15, 10
LONGEST = 160  # of an error in the table
DYNAMIC = frozenset({"gru", "attention"})
BATCH = 32
MAX_DROP = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a tool's children left: the artifact and the medians of their figures, or why there is none."""

    artifact: Path
    done: Done | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A net on its test part: samples, classes, and what the float net says."""

    net: Net
    target: Target
    x: NDArray[Any]
    y: NDArray[Any]
    twin: Outputs

    @property
    def labelled(self) -> bool:
        """Whether there are classes to score by."""
        return bool((self.y != NO_CLASS).all())


def measure(net: Net, target: Target, tools: tuple[str, ...], *, repeats: int, folder: Path) -> list[Row]:
    """Return one row per tool."""
    made = make_all(net, target, tools, repeats=repeats, folder=folder / net.stem / target.name)
    with np.load(net.part("test")) as archive:
        x, y = archive["x"], archive["y"]
    judge = stand_in(target, Precision.INT8)
    twin = net.judged(run_artifact(net.model, "onnxruntime", {"x": x}).outputs)
    truth = Truth(net=net, target=target, x=x, y=y, twin=twin)
    runs = {tool: answers(made[tool], judge, truth) for tool in tools}
    rows = [row_of(tool, made[tool], runs[tool], truth) for tool in tools]
    rows = timed(rows, net, made, judge, x)
    return [beside_best(row, net, rows, runs, y) for row in rows]


def answers(made: Made, judge: StandIn, truth: Truth) -> Outputs | str:
    """Run an artifact on the test part; return its outputs, or why there are none."""
    if made.error:
        return made.error
    try:
        run = run_artifact(made.artifact, judge.kind, {"x": truth.x}, settings=dict(judge.settings))
    except EdgepeError as problem:
        return f"its artifact does not run: {problem.got or first_line(problem)}"[:LONGEST]
    return renamed(run.outputs, truth.twin)


def row_of(tool: str, made: Made, outputs: Outputs | str, truth: Truth) -> Row:
    """Return the row of one tool, not timed yet."""
    row = Row(
        net=truth.net.name,
        seed=truth.net.seed,
        target=truth.target.name,
        tool=tool,
        samples=len(truth.y) if truth.labelled else 0,
        float_bytes=truth.net.model.stat().st_size,
        float_score=float(truth.net.metric.score(truth.twin, truth.y)) if truth.labelled else 0.0,
    )
    if isinstance(outputs, str):
        return replace(row, error=outputs)
    row = counted(row, made)
    return scored(row, compare(truth.net.metric, truth.twin, outputs, truth.y)) if truth.labelled else row


def make_all(net: Net, target: Target, tools: tuple[str, ...], *, repeats: int, folder: Path) -> dict[str, Made]:
    """Let every tool quantize the net, in turns (rule 1)."""
    done: dict[str, list[Done | str]] = {tool: [] for tool in tools}
    for _ in range(repeats):
        for tool in tools:
            if not any(isinstance(each, str) for each in done[tool]):
                done[tool].append(quantize(tool, net, target, folder / tool))
    return {tool: gathered(folder / tool / "model.onnx", done[tool]) for tool in tools}


def gathered(artifact: Path, runs: list[Done | str]) -> Made:
    """Return the medians of what the children measured, or the first error."""
    error = next((run for run in runs if isinstance(run, str)), "")
    good = [run for run in runs if isinstance(run, Done)]
    if error or not good:
        return Made(artifact=artifact, done=None, error=error or "not run")
    middle = Done(
        import_s=median(run.import_s for run in good),
        work_s=median(run.work_s for run in good),
        cpu_s=median(run.cpu_s for run in good),
        all_cpu_s=median(run.all_cpu_s for run in good),
        rss_bytes=int(median(run.rss_bytes for run in good)),
        version=good[0].version,
    )
    return Made(artifact=artifact, done=middle, error="")


def quantize(tool: str, net: Net, target: Target, folder: Path) -> Done | str:
    """Quantize once in a child; return its figures, or why it failed."""
    python = interpreter(tool)
    if python is None:
        return "not installed (make peers)"
    folder.mkdir(parents=True, exist_ok=True)
    for old in ("model.onnx", "done.json"):
        (folder / old).unlink(missing_ok=True)
    job = Job(
        model=str(net.model),
        calibration=str(net.part("calibration")),
        artifact=str(folder / "model.onnx"),
        target=target.name,
        weight_bits=target.rules.weight_bits,
        activation="int8" if target.machine == "aarch64" else "uint8",
        mode="dynamic" if net.name in DYNAMIC else "static",
        batch=BATCH,
        started=time.time(),
    )
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    command = [str(python), "-m", f"tests.bench.compile.peers.{tool}_", str(folder / "job.json")]
    with (folder / "log").open("wb") as log:
        try:
            ended = subprocess.run(
                command,
                stdout=log,
                stderr=log,
                timeout=TIMEOUT_S,
                check=False,
                env={**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"},
            )
        except subprocess.TimeoutExpired:
            return f"no end after {TIMEOUT_S} s"
    if ended.returncode or not (folder / "done.json").exists():
        return last_line(folder / "log") or f"exit code {ended.returncode}"
    return Done(**json.loads((folder / "done.json").read_text()))


def last_line(log: Path) -> str:
    """Return the last line that says something, shortened."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:LONGEST] if lines else ""


def renamed(outputs: Outputs, twin: Outputs) -> Outputs:
    """Return outputs by the float net's names; with one output each, a tool may have renamed it."""
    if len(outputs) == len(twin) == 1:
        return dict(zip(twin, outputs.values(), strict=True))
    return {name: outputs[name] for name in twin}


def counted(row: Row, made: Made) -> Row:
    """Return a row with size, time and memory."""
    if made.done is None:
        return row
    return replace(
        row,
        version=made.done.version,
        bytes=made.artifact.stat().st_size,
        work_s=made.done.work_s,
        cpu_s=made.done.cpu_s,
        all_cpu_s=made.done.all_cpu_s,
        import_s=made.done.import_s,
        rss_bytes=made.done.rss_bytes,
    )


def scored(row: Row, found: Comparison) -> Row:
    """Return a row with its score."""
    return replace(row, score=found.score, drop=found.drop, low=found.low, high=found.high)


def timed(rows: list[Row], net: Net, made: Mapping[str, Made], judge: StandIn, x: NDArray[Any]) -> list[Row]:
    """Return the rows with their speed against the float twin (rule 3): the median over rounds of the ratio.

    All run in this process: each has run in a child before.
    """
    good = [row for row in rows if not row.error]
    if not judge.is_target or not good:
        return rows
    paths = [net.model, *(made[row.tool].artifact for row in good)]
    runtimes = [open_runtime(path, kind=judge.kind, threads=1) for path in paths]
    one = {"x": np.ascontiguousarray(x[:1])}
    rounds = np.array([[best_of(runtime, one) for runtime in runtimes] for _ in range(ROUNDS)])
    speeds = np.median(rounds[:, :1] / rounds[:, 1:], axis=0)
    by_tool = {row.tool: float(speed) for row, speed in zip(good, speeds, strict=True)}
    return [replace(row, speed=by_tool.get(row.tool)) for row in rows]


def best_of(runtime: Runtime, one: Outputs) -> int:
    """Return the shortest of some runs, ns: what other work on the machine disturbed least."""
    times = []
    for _ in range(TIMINGS):
        began = time.perf_counter_ns()
        runtime.run(one)
        times.append(time.perf_counter_ns() - began)
    return min(times)


def beside_best(row: Row, net: Net, rows: list[Row], runs: dict[str, Outputs | str], labels: NDArray[Any]) -> Row:
    """Return our row with its paired loss against the best peer."""
    peers = [peer for peer in rows if peer.tool != OURS and not peer.error]
    if row.tool != OURS or row.error or not row.samples or not peers:
        return row
    best = max(peers, key=lambda peer: peer.score)
    theirs, mine = runs[best.tool], runs[OURS]
    if isinstance(theirs, str) or isinstance(mine, str):
        return row
    loss = compare(net.metric, theirs, mine, labels)
    return replace(row, behind_best=loss.drop, behind_low=loss.low, behind_high=loss.high)


def ship(net: Net, target: Target, folder: Path) -> Build:
    """Build a bundle as a user would, and hold its claim against data that the build never saw."""
    began = time.perf_counter()
    empty = Build(net=net.name, seed=net.seed, target=target.name)
    request = Request(
        source=str(net.model),
        targets=(target,),
        calibration=net.part("calibration"),
        evaluation=net.part("evaluation"),
        out=folder / net.stem,
        metric=net.metric.name,
        max_drop=MAX_DROP,
        name=net.name,
    )
    try:
        (built,) = build(request)
    except EdgepeError as problem:
        return replace(empty, error=first_line(problem))
    seconds = time.perf_counter() - began
    slow, fast = built.float_latency_us, built.latency_us
    return replace(
        empty,
        precision=str(built.precision),
        bytes=built.bytes,
        drop=built.comparison.drop,
        low=built.comparison.low,
        high=built.comparison.high,
        test_drop=unseen_drop(net, target, built.path, built.precision),
        speed=slow / fast if slow and fast else None,
        speed_is=built.latency_is,
        seconds=seconds,
    )


def unseen_drop(net: Net, target: Target, bundle: Path, precision: Precision) -> float:
    """Return the drop of a bundle on the test part."""
    read_bundle(bundle).extract(bundle.with_suffix(""))
    judge = stand_in(target, precision)
    with np.load(net.part("test")) as archive:
        x, y = archive["x"], archive["y"]
    model = bundle.with_suffix("") / read_bundle(bundle).manifest.model
    twin = net.judged(run_artifact(net.model, "onnxruntime", {"x": x}).outputs)
    made = run_artifact(model, judge.kind, {"x": x}, settings=dict(judge.settings)).outputs
    return compare(net.metric, twin, renamed(made, twin), y).drop
