"""Score an artifact against its float twin.

Rules kept here:
1. Both are judged on the same samples, so the interval is of paired differences (:mod:`edgepe.metrics`).
2. Outputs are matched by name; an artifact with other names than its twin is an error, never matched by position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepe.errors import VerifyError
from edgepe.metrics import Comparison, Metric, compare
from edgepe.verify.run import RunResult, run_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgepe.verify.standin import StandIn

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Scored", "score_artifact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An artifact, run and compared.

    Attributes:
        comparison: Score, drop and the drop's paired interval.
        run: Outputs, times and memory.
        scored_on: The label of the stand-in.
    """

    comparison: Comparison
    run: RunResult
    scored_on: str


def score_artifact(
    path: Path,
    judge: StandIn,
    inputs: Arrays,
    *,
    float_outputs: Arrays,
    labels: NDArray[Any] | None,
    chosen: Metric,
    threads: int = 1,
    timings: int = 0,
) -> Scored:
    """Run an artifact on a stand-in and compare it with its float twin's outputs on the same samples.

    Args:
        path: The model file.
        judge: What runs it, from :func:`edgepe.verify.standin.stand_in`.
        inputs: Preprocessed inputs of the artifact, samples first.
        float_outputs: The float model's outputs on the same samples, by the same names.
        labels: Labels, or None where agreement with the float model is the metric.
        chosen: The metric.
        threads: Threads inside one run.
        timings: Runs to time.

    Raises:
        VerifyError: The artifact cannot be run, or its outputs have other names.
        DataError: Samples or labels do not fit.
    """
    run = run_artifact(path, judge.kind, inputs, settings=dict(judge.settings), threads=threads, timings=timings)
    if set(run.outputs) != set(float_outputs):
        raise VerifyError(
            f"The outputs of {path.name} do not have the float model's names.",
            expected=sorted(float_outputs),
            got=sorted(run.outputs),
        )
    outputs = {name: run.outputs[name] for name in float_outputs}
    return Scored(comparison=compare(chosen, float_outputs, outputs, labels), run=run, scored_on=judge.label)
