"""edgepe: capture the file, calibrate, choose, apply: what ``edgepe build --precision int8`` does before verifying."""

from __future__ import annotations

from pathlib import Path

import edgepe
from edgepe.capture import capture
from edgepe.data import check_informative, load_dataset
from edgepe.quantize.calibrate import DEFAULT, method_named
from edgepe.quantize.calibration import calibrate
from edgepe.scheme import Precision
from edgepe.signature import Signature
from edgepe.stages.candidate import graph_edges, make_artifact
from edgepe.stages.samples import Samples, input_specs
from edgepe.target import load_target
from tests.bench.compile.peers.child import Job, run


def work(job: Job) -> None:
    """Quantize by the defaults of a build."""
    data = load_dataset(job.calibration)
    check_informative(data)
    captured = capture(job.model)
    samples = Samples.fitting(data, input_specs(graph_edges(captured), data, Signature()))
    ranges = calibrate(captured.model, samples, method=method_named(DEFAULT))
    made = make_artifact(captured, load_target(job.target), Precision.INT8, ranges)
    Path(job.artifact).write_bytes(made.data)


if __name__ == "__main__":
    run(work, version=getattr(edgepe, "__version__", "checkout"))
