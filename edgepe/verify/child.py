"""The process that opens an artifact: ``python -m edgepe.verify.child FOLDER``.

Rules kept here:
1. A runtime may abort or segfault on a fresh artifact; that ends this process and nothing else.
2. Outputs come from runs of ``batch`` samples where the artifact leaves its batch open, else of its own batch; timed
   runs take one sample, as a device is asked.
3. Peak memory is the kernel's ``VmHWM``: ``ru_maxrss`` would still hold the parent's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from device_agent.runtime.base import open_runtime
from device_agent.runtime.limits import no_core_files
from edgepe.errors import DataError
from edgepe.verify.exchange import Failure, Job, Result, read_arrays, read_job, write_arrays, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from device_agent.runtime.base import Runtime

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["main"]


def main(folder: Path) -> int:
    """Do the job in a folder and return the exit code."""
    no_core_files()
    try:
        write_json(folder, run_job(read_job(folder), folder))
    except Exception as error:  # noqa: BLE001 - a process edge: the parent explains whatever it was
        write_json(folder, Failure(error=str(error) or type(error).__name__))
        return 1
    return 0


def run_job(job: Job, folder: Path) -> Result:
    """Open the artifact, run and time it, and leave its outputs in the folder."""
    inputs = read_arrays(folder / "inputs.npz", job.names)
    idle_bytes = status_bytes("VmRSS")
    began = time.perf_counter_ns()
    runtime = open_runtime(Path(job.model), kind=job.kind, threads=job.threads, settings=dict(job.settings))
    load_ns = time.perf_counter_ns() - began
    fixed = fixed_batch(runtime)
    one = pick(inputs, 0, fixed or 1)
    cold_ns = timed(runtime, one)
    times = tuple(timed(runtime, one) for _ in range(job.timings))
    names = write_arrays(folder / "outputs.npz", run_all(runtime, inputs, fixed or job.batch))
    return Result(
        runtime=runtime.name,
        version=runtime.version,
        load_ns=load_ns,
        cold_ns=cold_ns,
        times_ns=times,
        rss_bytes=status_bytes("VmHWM"),
        idle_bytes=idle_bytes,
        names=names,
    )


def fixed_batch(runtime: Runtime) -> int:
    """Return the batch that the artifact fixes, or 0 where it leaves it open."""
    sizes = {info.shape[0] for info in runtime.inputs if info.shape}
    return max(sizes | {0})


def timed(runtime: Runtime, feeds: Arrays) -> int:
    """Run once and return the nanoseconds it took."""
    began = time.perf_counter_ns()
    runtime.run(feeds)
    return time.perf_counter_ns() - began


def run_all(runtime: Runtime, inputs: Arrays, batch: int) -> dict[str, NDArray[Any]]:
    """Run every sample and return the outputs, samples first.

    Raises:
        DataError: An output has no batch axis, so that samples cannot be told apart.
    """
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, batch):
        outputs = runtime.run(pick(inputs, start, batch))
        wrong = [name for name, array in outputs.items() if array.ndim == 0 or len(array) < min(batch, count - start)]
        if wrong:
            raise DataError(f"Output {wrong[0]!r} has no batch axis.", expected="one row per sample, axis 0")
        parts.append(outputs)
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def pick(inputs: Arrays, start: int, batch: int) -> dict[str, NDArray[Any]]:
    """Return ``batch`` samples; past the end the last one is repeated, and its outputs are cut off later."""
    count = len(next(iter(inputs.values())))
    rows = np.minimum(np.arange(start, start + batch), count - 1)
    return {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}


def status_bytes(key: str) -> int:
    """Return a figure of ``/proc/self/status`` in bytes; 0 where the kernel gives none."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
