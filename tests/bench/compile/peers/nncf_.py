"""NNCF: asymmetric activations (its preset for more than ReLU), fast bias correction, its own overflow fix."""

from __future__ import annotations

import nncf  # type: ignore[import-not-found] # lives in the peer's own environment
import onnx
from nncf.quantization.advanced_parameters import (  # type: ignore[import-not-found] # lives in the peer's environment
    AdvancedQuantizationParameters,
    OverflowFix,
)

from tests.bench.compile.peers.child import Job, batches, run


def work(job: Job) -> None:
    """Quantize."""
    model = onnx.load(job.model)
    samples = list(batches(job))
    fix = OverflowFix.ENABLE if job.weight_bits == 7 else OverflowFix.DISABLE
    made = nncf.quantize(
        model,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER if has_attention(model) else None,
        subset_size=len(samples),
        fast_bias_correction=True,
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=fix),
    )
    onnx.save(made, job.artifact)


def has_attention(model: onnx.ModelProto) -> bool:
    """Tell whether NNCF's documentation would call the net a transformer."""
    return any(node.op_type == "Softmax" for node in model.graph.node[:-1])


if __name__ == "__main__":
    run(work, version=nncf.__version__)
