"""ModelOpt (ONNX): int8 for TensorRT by its defaults (entropy calibration), the rest left in float32, on the CPU."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found] # the peer's own environment

from tests.bench.compile.peers.child import Job, batches, run


def work(job: Job) -> None:
    """Quantize."""
    parts = list(batches(job))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    quantize(
        job.model,
        quantize_mode="int8",
        calibration_data=whole,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        dq_only=True,  # int8 weights in the file; its default keeps them float behind a Quantize
        output_path=job.artifact,
    )


if __name__ == "__main__":
    run(work, version=version("nvidia-modelopt"))
