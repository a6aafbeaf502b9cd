"""Try a model on a target, one precision at a time: make the artifact, run it in a child, judge it.

Rules kept here:
1. An artifact is scored on the target's own runtime or its stand-in, named; never where it was made.
2. Latency is measured where the stand-in is the target itself, and predicted from the cost table elsewhere.
3. Each precision is made and run once, however often it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepe.contract import Measured
from edgepe.graph.work import predict_us
from edgepe.metrics import Comparison, Metric, compare
from edgepe.quantize.search import Candidate
from edgepe.stages.candidate import Artifact, make_artifact, permuted
from edgepe.stages.samples import Samples, input_specs
from edgepe.verify.run import RunResult, run_artifact
from edgepe.verify.standin import StandIn, stand_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from device_agent.wire.manifest import TensorSpec
    from edgepe.capture.captured import Captured
    from edgepe.graph.work import OpWork
    from edgepe.quantize.calibrate import Ranges
    from edgepe.scheme import Precision
    from edgepe.signature import Signature
    from edgepe.target import Target

__all__ = ["MEASURED", "PREDICTED", "Ground", "Trial", "Trials"]

MEASURED, PREDICTED = "measured", "predicted"
TIMINGS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all targets of one build share.

    Attributes:
        captured: The float graph.
        work: Its work, node by node.
        signature: What the user declared of inputs and labels.
        calibration: The calibration samples.
        evaluation: The samples that score.
        ranges: Calibrated ranges, or None where no precision needs them.
        float_outputs: The float graph's outputs on the evaluation samples.
        metric: How outputs are scored.
    """

    captured: Captured
    work: tuple[OpWork, ...]
    signature: Signature
    calibration: Samples
    evaluation: Samples
    ranges: Ranges | None
    float_outputs: Mapping[str, NDArray[Any]]
    metric: Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One artifact, run and judged.

    Attributes:
        artifact: The model file and its schemes.
        inputs: Specification of its inputs.
        judge: What ran it.
        run: Outputs, times and memory.
        comparison: Its score beside the float model's.
        latency_us: Latency of one inference, µs; None where unknown.
        latency_is: ``measured`` or ``predicted``.
    """

    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    judge: StandIn
    run: RunResult
    comparison: Comparison
    latency_us: float | None
    latency_is: str

    @property
    def measured(self) -> Measured:
        """What the contract asks about it."""
        return Measured(drop=self.comparison.drop, bytes=len(self.artifact.data), latency_us=self.latency_us)


class Trials:
    """The trials of one target.

    Args:
        ground: What all targets share.
        target: The board.
        folder: A folder of this build alone, for the files that the child opens.
    """

    def __init__(self, ground: Ground, target: Target, folder: Path) -> None:
        self._ground = ground
        self._target = target
        self._folder = folder
        self._done: dict[Precision, Trial] = {}

    def candidate(self, precision: Precision) -> Candidate[Trial]:
        """Return the trial of a precision, as the search wants it.

        Raises:
            UnsupportedOpError: The format cannot hold an operator, or the precision.
            VerifyError: The runtime crashes on the artifact or refuses it.
        """
        trial = self.trial(precision)
        return Candidate(artifact=trial, measured=trial.measured)

    def trial(self, precision: Precision) -> Trial:
        """Make, run and judge the artifact of a precision; see :meth:`candidate`."""
        if precision not in self._done:
            self._done[precision] = self._try(precision)
        return self._done[precision]

    def _try(self, precision: Precision) -> Trial:
        ground, target = self._ground, self._target
        artifact = make_artifact(ground.captured, target, precision, ground.ranges)
        specs = input_specs(artifact.inputs, ground.evaluation.data, ground.signature)
        judge = stand_in(target, precision)
        run = self._run(artifact, Samples.fitting(ground.evaluation.data, specs), judge)
        predicted = predict_us(ground.work, artifact.schemes, target.cost)
        return Trial(
            artifact=artifact,
            inputs=specs,
            judge=judge,
            run=run,
            comparison=compare(
                ground.metric,
                ground.float_outputs,
                permuted(run.outputs, artifact.outputs),
                ground.evaluation.data.labels,
            ),
            latency_us=run.median_us if judge.is_target else predicted,
            latency_is=MEASURED if judge.is_target else PREDICTED,
        )

    def _run(self, artifact: Artifact, samples: Samples, judge: StandIn) -> RunResult:
        path = self._folder / f"{self._target.name}-{artifact.precision}.{self._target.format}"
        path.write_bytes(artifact.data)
        timings = TIMINGS if judge.is_target else 0
        return run_artifact(path, judge.kind, samples.prepared(), settings=dict(judge.settings), timings=timings)
