"""The error of each layer of an artifact that ships, as evidence.

Rules kept here:
1. The artifact is compared with the float artifact of the same target and format, on samples of the evaluation data.
2. An artifact that holds its contract ships also where its layers cannot be compared; the evidence says why they could
   not.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepe.errors import VerifyError
from edgepe.stages.samples import Samples
from edgepe.verify.parity import DIVERGENT_DB, FAITHFUL_DB, Parity, compare_layers, sample_count, steps

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.stages.trial import Ground, Trial

__all__ = ["layer_evidence"]


def layer_evidence(ground: Ground, trial: Trial, twin: Trial) -> dict[str, object]:
    """Compare an artifact with its float twin layer by layer and return what came of it, as JSON values.

    Args:
        ground: What all targets share.
        trial: The artifact that ships.
        twin: The float artifact of the same target.
    """
    kind = "float ONNX graph" if trial.judge.kind == "onnxruntime" else "float TFLite graph"
    known = {
        "threshold_db": DIVERGENT_DB,
        "faithful_db": FAITHFUL_DB,
        "reference": f"the {kind} of the same target, both on {trial.run.runtime} {trial.run.version}",
    }
    try:
        return known | _found(_compare(ground, trial, twin))
    except VerifyError as error:
        return known | {"rows": [], "skipped": [], "samples": 0, "first_divergent": "", "error": str(error)}


def _compare(ground: Ground, trial: Trial, twin: Trial) -> Parity:
    graph = steps(ground.captured.model)
    inputs = _inputs(ground, trial, sample_count(len(ground.evaluation.data), graph))
    with tempfile.TemporaryDirectory(prefix="edgepe-layers-") as name:
        reference, artifact = Path(name) / "float", Path(name) / "artifact"
        reference.write_bytes(twin.artifact.data)
        artifact.write_bytes(trial.artifact.data)
        return compare_layers(reference, artifact, trial.judge, inputs, graph)


def _inputs(ground: Ground, trial: Trial, count: int) -> dict[str, NDArray[Any]]:
    """Return prepared samples, evenly spaced over the evaluation data."""
    prepared = Samples.fitting(ground.evaluation.data, trial.inputs).prepared()
    rows = np.linspace(0, len(ground.evaluation.data) - 1, count).round().astype(np.int64)
    return {name: array[rows] for name, array in prepared.items()}


def _found(parity: Parity) -> dict[str, object]:
    first = parity.first_divergent
    return {
        "rows": [
            {
                "node": layer.node,
                "op": layer.op,
                "fused": list(layer.fused),
                "sqnr_db": round(layer.sqnr_db, 2),
                "max_error": layer.max_error if math.isfinite(layer.max_error) else None,
                "peak": layer.peak,
            }
            for layer in parity.layers
        ],
        "skipped": [{"node": node, "reason": reason} for node, reason in parity.skipped],
        "samples": parity.samples,
        "first_divergent": first.node if first else "",
        "disturbance_db": round(parity.disturbance_db, 2),
        "error": "",
    }
