"""What every tool's child process shares: the job it reads, the clock around its work, the result it writes.

Rules kept here:
1. A child runs in the tool's own environment: standard library and numpy only.
2. The clock runs from the first line of work to the written artifact; importing the tool is told apart.
3. Peak memory is the kernel's ``VmHWM`` of the whole process, libraries included: that is what a user needs.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["Done", "Job", "Reader", "batches", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One quantization.

    Attributes:
        model: The float ONNX file.
        calibration: ``.npz`` with one array per input, or ``x`` for the only one.
        artifact: Where the int8 ONNX file goes.
        target: Profile name of the board.
        weight_bits: 7 where the board's kernels saturate (``reduce_range``), else 8.
        activation: ``int8`` or ``uint8``: what the tool's documentation advises for the board.
        mode: ``static``, or ``dynamic`` for nets whose operators only dynamic quantization reaches.
        batch: Samples in one calibration run.
        started: Clock (``time.time``) when the parent started the child.
    """

    model: str
    calibration: str
    artifact: str
    target: str
    weight_bits: int
    activation: str
    mode: str
    batch: int
    started: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a child measured of itself.

    Attributes:
        import_s: From the start of the process to the first line of work.
        work_s: Read, calibrate, choose, apply, write.
        cpu_s: Processor time of the same, all threads and processes.
        all_cpu_s: The same from the start of Python on, imports included.
        rss_bytes: Rule 3.
        version: The tool's version.
    """

    import_s: float
    work_s: float
    cpu_s: float
    all_cpu_s: float
    rss_bytes: int
    version: str


def batches(job: Job) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Yield the calibration samples, a batch at a time."""
    with np.load(job.calibration, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    count = len(next(iter(arrays.values())))
    for start in range(0, count, job.batch):
        yield {name: array[start : start + job.batch] for name, array in arrays.items()}


class Reader:
    """The calibration samples as onnxruntime's tools want them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.rewind()

    def rewind(self) -> None:
        """Begin again."""
        self._rest = batches(self._job)

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """Return the next batch."""
        return next(self._rest, None)


def run(work: Callable[[Job], None], *, version: str) -> None:
    """Do the job named on the command line and write what it took beside it."""
    path = Path(sys.argv[1])
    job = Job(**json.loads(path.read_text()))
    import_s, began, cpu = time.time() - job.started, time.perf_counter(), processor_s()
    work(job)
    done = Done(
        import_s=import_s,
        work_s=time.perf_counter() - began,
        cpu_s=processor_s() - cpu,
        all_cpu_s=processor_s(),
        rss_bytes=peak_bytes(),
        version=version,
    )
    path.with_name("done.json").write_text(json.dumps(asdict(done)))


def processor_s() -> float:
    """Return the processor time of this process and of the children that it has waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Return the largest resident memory that this process ever had; 0 where the kernel does not tell."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
