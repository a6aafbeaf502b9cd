"""How much of the score each group of operators costs in int8, measured.

Rules kept here:
1. A group is int8 alone, everything else float; its noise is the energy of the outputs' error, as a share of
   the energy with which samples differ.
2. It is measured on calibration samples, on the runtime that judges the artifact, never on those that score.
3. At most ``MOST_GROUPS`` artifacts are made: neighbours in the graph are measured together where there are more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgepe.quantize.mixed import Group
from edgepe.scheme import Precision, Reason
from edgepe.stages.samples import Samples, input_specs
from edgepe.verify.run import run_artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.quantize.recipe import Recipe
    from edgepe.signature import Signature
    from edgepe.stages.candidate import Artifact
    from edgepe.stages.watch import Watch
    from edgepe.verify.standin import StandIn

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Sensitivity", "noise"]

MOST_GROUPS = 24
MOST_SAMPLES = 64
SAVED = 3  # bytes that int8 saves of each float32 weight
WEIGHTS = dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), (1,)) | dict.fromkeys(
    ("GRU", "LSTM", "RNN"), (1, 2)
)
"""Operator → input positions of its weights."""
UNUSABLE = 1e6  # noise of a group that is not finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What it takes to measure.

    Attributes:
        twin: The float artifact of the same target.
        make: Makes an artifact by a recipe.
        samples: The calibration samples.
        signature: What the user declared of the inputs.
        judge: What runs int8 artifacts of the target.
        folder: Where artifacts are written for the child to open.
    """

    twin: Artifact
    make: Callable[[Recipe], Artifact]
    samples: Samples
    signature: Signature
    judge: StandIn
    folder: Path

    def groups(self, model: ir.Model, recipe: Recipe, watch: Watch) -> tuple[Group, ...]:
        """Return the groups of int8 operators with weights of a recipe, in graph order, each with its noise.

        Args:
            model: The float graph.
            recipe: An int8 recipe.
            watch: Told how many groups are done.

        Raises:
            VerifyError: The runtime refuses an artifact.
        """
        weights = _weights(model)
        rows = self.make(recipe).schemes
        int8 = {row.node for row in rows if row.precision is Precision.INT8 or row.reason is Reason.WEIGHT_ONLY}
        names = [node for node in weights if node in int8]
        size = max(1, ceil(len(names) / MOST_GROUPS))
        parts = [tuple(names[start : start + size]) for start in range(0, len(names), size)]
        watch.stage("measuring which operators are sensitive", len(parts))
        wanted = self.outputs(self.twin)
        found = []
        for index, part in enumerate(parts):
            others = tuple(name for name in names if name not in part)
            made = self.outputs(self.make(replace(recipe, precision=Precision.MIXED, float_nodes=others)))
            size_bytes = SAVED * sum(weights[node] for node in part)
            found.append(Group(nodes=part, noise=noise(wanted, made), bytes=size_bytes))
            watch.advance(index + 1)
        return tuple(found)

    def outputs(self, artifact: Artifact) -> Arrays:
        """Run an artifact on evenly spaced calibration samples and return its outputs."""
        data = self.samples.data
        prepared = Samples.fitting(data, input_specs(artifact.inputs, data, self.signature)).prepared()
        rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), MOST_SAMPLES)).round().astype(np.int64))
        path = self.folder / f"part.{self.judge.kind}"
        path.write_bytes(artifact.data)
        inputs = {name: array[rows] for name, array in prepared.items()}
        return run_artifact(path, self.judge.kind, inputs, settings=dict(self.judge.settings)).outputs


def noise(wanted: Arrays, made: Arrays) -> float:
    """Return ``Σ (float - int8)² / Σ (float - mean over samples)²``, the mean over the float outputs.

    What all samples share says nothing about any of them, so it is no signal.

    >>> noise({"y": np.array([[2.0], [0.0]])}, {"y": np.array([[2.0], [1.0]])})
    0.5
    """
    shares = []
    for name, array in wanted.items():
        if array.dtype.kind == "f":
            exact = array.astype(np.float64)
            error = float(np.square(exact - made[name].astype(np.float64)).sum())
            signal = float(np.square(exact - exact.mean(axis=0)).sum())
            shares.append(error / signal if signal else error)
    mean = float(np.mean(shares)) if shares else 0.0
    return min(mean, UNUSABLE) if np.isfinite(mean) else UNUSABLE


def _weights(model: ir.Model) -> dict[str, int]:
    """Return node name → elements of its constant weights, for the nodes that multiply by some."""
    return {
        str(node.name): sum(_elements(node, index) for index in WEIGHTS[node.op_type])
        for node in model.graph
        if node.op_type in WEIGHTS
    }


def _elements(node: ir.Node, index: int) -> int:
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return 0 if tensor is None else prod(tensor.shape.numpy())
