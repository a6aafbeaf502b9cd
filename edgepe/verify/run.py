"""Run an artifact in a child process and bring back outputs, times and memory.

Rules kept here:
1. What judges an artifact on the host is the code that runs it on the device: ``device_agent.runtime``.
2. A child that crashes, hangs or refuses the artifact is a VerifyError that says which of the three; the parent lives.
3. Percentiles are of the very times measured, not of summaries.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepe.errors import DataError, VerifyError
from edgepe.verify.exchange import Failure, Job, Result, read_arrays, read_result, write_arrays, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Child", "RunResult", "run_artifact"]

BATCH = 32
TIMEOUT_S = 600.0
MODULE = "edgepe.verify.child"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """How a child process is started.

    Attributes:
        command: The interpreter, its arguments included.
        environment: Its whole environment; this process's where None.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What an artifact did.

    Attributes:
        outputs: Output name → ``[samples, …]``.
        times_ns: Time of each timed warm run of one sample, in order; empty where none was asked for.
        load_ns: Time to open the artifact.
        cold_ns: Time of the first run.
        rss_bytes: Peak resident memory of the process.
        model_bytes: What opening and running added to the process's memory.
        runtime: Runtime kind.
        version: Runtime version.
    """

    outputs: Arrays
    times_ns: tuple[int, ...]
    load_ns: int
    cold_ns: int
    rss_bytes: int
    model_bytes: int
    runtime: str
    version: str

    @property
    def median_us(self) -> float | None:
        """Median of the timed runs, µs; None where none was timed."""
        return self.quantile_us(0.5)

    @property
    def p99_us(self) -> float | None:
        """99th percentile of the timed runs, µs; None where none was timed."""
        return self.quantile_us(0.99)

    def quantile_us(self, q: float) -> float | None:
        """Return a quantile of the timed runs, µs; None where none was timed."""
        return float(np.quantile(self.times_ns, q)) / 1000.0 if self.times_ns else None


def run_artifact(
    path: Path,
    kind: str,
    inputs: Arrays,
    *,
    settings: Mapping[str, str] | None = None,
    threads: int = 1,
    timings: int = 0,
    batch: int = BATCH,
    timeout_s: float = TIMEOUT_S,
    child: Child | None = None,
) -> RunResult:
    """Run an artifact over samples in a child process.

    Args:
        path: The model file.
        kind: ``onnxruntime``, ``litert`` or ``tflite-runtime``.
        inputs: One preprocessed array per input, samples first.
        settings: The runtime's own switches.
        threads: Threads inside one run.
        timings: Runs to time, on one sample each.
        batch: Samples in one run where the artifact leaves its batch open.
        timeout_s: Seconds after which the child is killed.
        child: What runs it, for example an emulated machine; this very interpreter where absent.

    Raises:
        DataError: There are no samples, or the inputs differ in their number.
        VerifyError: The runtime crashed, hung, or refused the artifact or its inputs.
    """
    check_counts(inputs)
    with tempfile.TemporaryDirectory(prefix="edgepe-verify-") as name:
        folder = Path(name)
        names = write_arrays(folder / "inputs.npz", inputs)
        job = Job(
            model=str(path.absolute()),
            kind=kind,
            settings=tuple(sorted((settings or {}).items())),
            threads=threads,
            batch=batch,
            timings=timings,
            names=names,
        )
        write_json(folder, job)
        result = await_child(child or Child(command=(sys.executable,)), folder, path, timeout_s=timeout_s)
        outputs = read_arrays(folder / "outputs.npz", result.names)
    return RunResult(
        outputs=outputs,
        times_ns=result.times_ns,
        load_ns=result.load_ns,
        cold_ns=result.cold_ns,
        rss_bytes=result.rss_bytes,
        model_bytes=max(0, result.rss_bytes - result.idle_bytes),
        runtime=result.runtime,
        version=result.version,
    )


def check_counts(inputs: Arrays) -> None:
    """Refuse inputs without samples, or of different numbers of samples.

    Raises:
        DataError: With the counts.
    """
    counts = {name: len(array) if array.ndim else 0 for name, array in inputs.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise DataError("The samples to run do not fit together.", expected="the same number, at least 1", got=counts)


def await_child(child: Child, folder: Path, path: Path, *, timeout_s: float) -> Result:
    """Start the child, wait for it, and return its result.

    Raises:
        VerifyError: Rule 2.
    """
    command = [*child.command, "-m", MODULE, str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, env=child.environment, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VerifyError(
            f"The runtime did not finish {path.name}.", expected=f"at most {timeout_s:g} s", got="killed"
        ) from error
    result = read_result(folder)
    if isinstance(result, Result) and done.returncode == 0:
        return result
    if isinstance(result, Failure):
        raise VerifyError(f"The runtime cannot run {path.name}.", got=result.error)
    raise VerifyError(
        f"The runtime crashed on {path.name}.",
        expected="exit code 0",
        got=f"{ending(done.returncode)}; {tail(done.stderr)}",
        next_step="this artifact must not ship; try another precision, and report the model",
    )


def ending(code: int) -> str:
    """Describe how a process ended."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def tail(stderr: bytes) -> str:
    """Return the last line that a process wrote to its error stream."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
