"""edgepe: capture the file, calibrate, choose, apply: what ``edgepe build --precision int8`` does before verifying."""

from __future__ import annotations

from pathlib import Path

import edgepe
from edgepe.capture import capture
from edgepe.quantize.calibrate import collect_ranges
from edgepe.scheme import Precision
from edgepe.stages.candidate import make_artifact
from edgepe.target import load_target
from tests.bench.compile.peers.child import Job, batches, run


def work(job: Job) -> None:
    """Quantize."""
    captured = capture(job.model)
    ranges = collect_ranges(captured.model, batches(job))
    made = make_artifact(captured, load_target(job.target), Precision.INT8, ranges)
    Path(job.artifact).write_bytes(made.data)


if __name__ == "__main__":
    run(work, version=getattr(edgepe, "__version__", "checkout"))
