"""Try a model in a process of its own before it may serve: load, golden vectors, latency, memory.

::

    python -m device_agent.runtime.probe --slot DIR --runs N [--threads N] [--cpu-seconds N]

Rules kept here:
1. Standard output is one JSON object and nothing else; exit status 0 where the model passed, 1 where not.
2. The model is touched only in a child of this process: a runtime that crashes or never ends is a result, not an
   accident.
3. What the model says is compared with its golden vectors before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.errors import ExplainedError
from device_agent.runtime.failures import failure_code
from device_agent.runtime.limits import end_with_parent, limit_cpu_seconds, no_core_files
from device_agent.telemetry.device import rss_bytes
from device_agent.wire.histogram import LogHistogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from device_agent.runtime.base import Runtime
    from device_agent.runtime.golden import GoldenVectors
    from device_agent.wire.manifest import Manifest

__all__ = ["ProbeResult", "main", "probe"]

WARM_UP_RUNS = 5
DEFAULT_RUNS = 100
DEFAULT_CPU_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What the probe found.

    Attributes:
        passed: Whether the model may serve.
        code: Empty where it passed; else ``golden_failed``, ``crashed``, ``cpu_limit`` or a code of ``failures``.
        detail: A sentence on why it did not pass.
        p50_us: Median time of one run.
        p99_us: 99th percentile of it.
        rss_bytes: Resident memory of the process with the model.
        max_error: Largest absolute difference from the golden vectors; ``None`` where there is none that is finite.
        agree: Share of golden vectors that agree.
        runtime: The runtime that ran it.
        runtime_version: Its version.
    """

    passed: bool
    code: str = ""
    detail: str = ""
    p50_us: int | None = None
    p99_us: int | None = None
    rss_bytes: int | None = None
    max_error: float | None = None
    agree: float | None = None
    runtime: str = ""
    runtime_version: str = ""


def probe(slot: Path, *, runs: int, threads: int) -> ProbeResult:
    """Probe a slot in this process.

    Raises:
        ExplainedError: The slot cannot be loaded or run.
    """
    from device_agent.runtime.golden import check_golden, read_golden  # noqa: PLC0415 - numpy, only in the child
    from device_agent.runtime.slot import open_slot, read_manifest  # noqa: PLC0415 - the same

    manifest = read_manifest(slot)
    vectors = read_golden(slot / manifest.golden.file)
    runtime = open_slot(slot, manifest, threads=threads)
    golden = check_golden(runtime, manifest, vectors)
    times = time_runs(runtime, manifest, vectors, runs) if golden.passed else None
    return ProbeResult(
        passed=golden.passed,
        code="" if golden.passed else "golden_failed",
        detail=golden.detail,
        p50_us=round(times.quantile(0.5) / 1000) if times else None,
        p99_us=round(times.quantile(0.99) / 1000) if times else None,
        rss_bytes=rss_bytes(),
        max_error=golden.max_error if math.isfinite(golden.max_error) else None,
        agree=golden.agree,
        runtime=runtime.name,
        runtime_version=runtime.version,
    )


def time_runs(runtime: Runtime, manifest: Manifest, vectors: GoldenVectors, runs: int) -> LogHistogram:
    """Time the runtime on the first golden vector, after a warm-up, in nanoseconds."""
    from device_agent.runtime.preprocess import prepare_all  # noqa: PLC0415 - numpy, only in the child

    shape = manifest.inputs[0].shape
    raw, _ = vectors.batch(0, max(1, shape[0]) if shape else 1)
    feeds = prepare_all(raw, manifest.inputs)
    for _ in range(WARM_UP_RUNS):
        runtime.run(feeds)
    times = LogHistogram()
    for _ in range(runs):
        start = time.perf_counter_ns()
        runtime.run(feeds)
        times.add(time.perf_counter_ns() - start)
    return times


def explain(slot: Path, *, runs: int, threads: int) -> ProbeResult:
    """Probe, with an explained failure as a result."""
    try:
        return probe(slot, runs=runs, threads=threads)
    except ExplainedError as error:
        return ProbeResult(passed=False, code=failure_code(error), detail=str(error))


def in_child(slot: Path, *, runs: int, threads: int, cpu_seconds: int) -> ProbeResult:
    """Probe in a fork of this process, which has loaded no runtime and has one thread (rule 2)."""
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with_parent(parent)
        os.close(reader)
        os.dup2(2, 1)  # a runtime that talks must not spoil standard output
        limit_cpu_seconds(cpu_seconds)
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            json.dump(asdict(explain(slot, runs=runs, threads=threads)), pipe, allow_nan=False)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return ended(status) if status else ProbeResult(**json.loads(text))


def ended(status: int) -> ProbeResult:
    """Return the result for a child that did not end well, by its wait status."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGXCPU:
        return ProbeResult(passed=False, code="cpu_limit", detail="The model took more CPU time than the probe allows.")
    how = signal.Signals(number).name if number else f"exit status {os.waitstatus_to_exitcode(status)}"
    return ProbeResult(passed=False, code="crashed", detail=f"The runtime ended the process: {how}.")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="device_agent.runtime.probe", description="Try a model before it may serve.")
    parser.add_argument("--slot", type=Path, required=True, help="folder with the bundle's files")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="timed runs")
    parser.add_argument("--threads", type=int, default=1, help="threads inside one run")
    parser.add_argument("--cpu-seconds", type=int, default=DEFAULT_CPU_SECONDS, help="CPU time after which it failed")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the result as JSON; return the exit status."""
    arguments = parse(argv)
    no_core_files()
    result = in_child(arguments.slot, runs=arguments.runs, threads=arguments.threads, cpu_seconds=arguments.cpu_seconds)
    print(json.dumps(asdict(result), allow_nan=False))  # noqa: T201 - the result is what standard output is for
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
