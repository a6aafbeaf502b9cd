"""onnxruntime.quantization: its own preprocessing, then static QDQ per channel, as its documentation advises."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tests.bench.compile.peers.child import Job, Reader, run


def work(job: Job) -> None:
    """Preprocess and quantize."""
    prepared = str(Path(job.artifact).with_suffix(".prepared.onnx"))
    try:
        quant_pre_process(job.model, prepared)
    except TypeError:  # its symbolic shape inference stumbles on some graphs; its documentation says to skip it then
        quant_pre_process(job.model, prepared, skip_symbolic_shape=True)
    reduce_range = job.weight_bits == 7
    if job.mode == "dynamic":
        quantize_dynamic(
            prepared, job.artifact, per_channel=True, reduce_range=reduce_range, weight_type=QuantType.QInt8
        )
        return
    quantize_static(
        prepared,
        job.artifact,
        Reader(job),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QInt8 if job.activation == "int8" else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


if __name__ == "__main__":
    run(work, version=onnxruntime.__version__)
