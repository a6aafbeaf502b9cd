"""Try a model on a target, one precision at a time: make the artifact, run it in a child, judge it.

Rules kept here:
1. An artifact is scored on the target's own runtime or its stand-in, named; never where it was made.
2. Latency is measured where the stand-in is the target itself, and predicted from the cost table elsewhere.
3. Each recipe is made and run once, however often it is asked for.
4. Whether an artifact is slower than its float twin is decided by the cost table, so that the same inputs give the same
   bytes; by a race on this machine only where latency is bounded and this machine is the target's kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgepe.contract import Measured
from edgepe.graph.work import predict_us
from edgepe.metrics import Comparison, Metric, compare
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import DEFAULT, method_named
from edgepe.quantize.calibration import calibrate
from edgepe.quantize.dynamic import suits_dynamic
from edgepe.quantize.facts import read_facts
from edgepe.quantize.recipe import Activations, Recipe, Remedy
from edgepe.quantize.remedies import channel_means, correct_biases, equalize
from edgepe.quantize.search import Candidate, Found
from edgepe.scheme import Precision
from edgepe.stages.candidate import Artifact, make_artifact, permuted
from edgepe.stages.samples import BATCH, Samples, input_specs
from edgepe.stages.sensitivity import Sensitivity, noise
from edgepe.stages.speed import Race, race
from edgepe.verify.run import RunResult, run_artifact
from edgepe.verify.standin import StandIn, stand_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from device_agent.wire.manifest import TensorSpec
    from edgepe.capture.captured import Captured
    from edgepe.contract import Contract
    from edgepe.graph.work import OpWork
    from edgepe.quantize.calibrate import Ranges
    from edgepe.quantize.mixed import Group
    from edgepe.signature import Signature
    from edgepe.stages.watch import Watch
    from edgepe.target import Target

    Material = tuple[Captured, Ranges | None]

__all__ = ["MEASURED", "PREDICTED", "Ground", "Trial", "Trials"]

REMEDIES = ((Remedy.EQUALIZE,), (Remedy.BIAS,), (Remedy.EQUALIZE, Remedy.BIAS))
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
        method: Name of the way that calibration takes ranges.
    """

    captured: Captured
    work: tuple[OpWork, ...]
    signature: Signature
    calibration: Samples
    evaluation: Samples
    ranges: Ranges | None
    float_outputs: Mapping[str, NDArray[Any]]
    metric: Metric
    method: str = DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One artifact, run and judged.

    Attributes:
        recipe: How it was made.
        artifact: The model file and its schemes.
        inputs: Specification of its inputs.
        judge: What ran it.
        run: Outputs, times and memory.
        comparison: Its score beside the float model's.
        latency_us: Latency of one inference, µs; None where unknown.
        latency_is: ``measured`` or ``predicted``.
        predicted_us: Latency by the target's cost table, µs; None where it has none.
        slowdown: Latency as a multiple of the float twin's, by the figures that may decide (rule 4).
        race: Its times beside the float twin's, where they were measured.
    """

    recipe: Recipe
    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    judge: StandIn
    run: RunResult
    comparison: Comparison
    latency_us: float | None
    latency_is: str
    predicted_us: float | None = None
    slowdown: float | None = None
    race: Race | None = None

    @property
    def measured(self) -> Measured:
        """What the contract asks about it."""
        return Measured(
            drop=self.comparison.drop,
            bytes=len(self.artifact.data),
            latency_us=self.latency_us,
            slowdown=self.slowdown,
        )


class Trials:
    """The trials of one target; what the search builds with.

    Args:
        ground: What all targets share.
        target: The board.
        folder: A folder of this build alone, for the files that the child opens.
        contract: What was promised; whether its latency is bounded decides what times may decide (rule 4).
        watch: Told how sensitivity is measured.
    """

    def __init__(self, ground: Ground, target: Target, folder: Path, *, contract: Contract, watch: Watch) -> None:
        self._ground = ground
        self._target = target
        self._folder = folder
        self._contract = contract
        self._watch = watch
        self._done: dict[Recipe, Trial] = {}
        self._materials: dict[tuple[Remedy, ...], Material] = {(): (ground.captured, ground.ranges)}

    def candidate(self, recipe: Recipe) -> Candidate[Trial]:
        """Return the trial of a recipe, as the search wants it.

        Raises:
            UnsupportedOpError: The format cannot hold an operator, or the precision.
            VerifyError: The runtime crashes on the artifact or refuses it.
        """
        trial = self.trial(recipe)
        return Candidate(artifact=trial, measured=trial.measured)

    def twin(self) -> Trial:
        """Return the trial of the float artifact."""
        return self.trial(Recipe(precision=Precision.FP32))

    def trial(self, recipe: Recipe) -> Trial:
        """Make, run and judge the artifact of a recipe; see :meth:`candidate`."""
        if recipe not in self._done:
            self._done[recipe] = self._compared(self._try(recipe))
        return self._done[recipe]

    def activations(self) -> tuple[Activations, ...]:
        """Return the kinds of int8 activations to try, best first."""
        dynamic = suits_dynamic(read_facts(self._ground.captured.model), self._target.rules)
        return (Activations.DYNAMIC, Activations.STATIC) if dynamic else (Activations.STATIC,)

    def remedies(self, recipe: Recipe) -> tuple[tuple[tuple[Remedy, ...], float], ...]:
        """Return remedies for a recipe, best first, each with its error as a multiple of the plain recipe's."""
        bench = self._bench(recipe)
        wanted = bench.outputs(self.twin().artifact)
        self._watch.stage("measuring remedies for int8", len(REMEDIES))
        plain = noise(wanted, bench.outputs(self._artifact(recipe)))
        found = []
        for done, remedies in enumerate(REMEDIES):
            made = noise(wanted, bench.outputs(self._artifact(replace(recipe, remedies=remedies))))
            found.append((remedies, made / plain if plain else 1.0))
            self._watch.advance(done + 1)
        return tuple(sorted(found, key=lambda row: row[1]))

    def groups(self, recipe: Recipe) -> tuple[Group, ...]:
        """Return the groups of int8 operators of a recipe, with what each costs."""
        return self._bench(recipe).groups(self._ground.captured.model, recipe, self._watch)

    def _bench(self, recipe: Recipe) -> Sensitivity:
        return Sensitivity(
            twin=self.twin().artifact,
            make=self._artifact,
            samples=self._ground.calibration,
            signature=self._ground.signature,
            judge=stand_in(self._target, recipe.precision),
            folder=self._folder,
        )

    def raced(self, found: Found[Trial]) -> Found[Trial]:
        """Return what was found, its artifact timed beside its float twin where times here are the target's."""
        return replace(found, artifact=replace(found.artifact, race=self._race(found.artifact)))

    def _race(self, trial: Trial) -> Race | None:
        if trial.race is not None:
            return trial.race
        twin = self.twin()
        if not trial.judge.is_target or trial.recipe == twin.recipe:
            return None
        rivals = [(self._path(each.recipe, each.artifact), each.judge) for each in (trial, twin)]
        return race(*rivals, inputs=Samples.fitting(self._ground.evaluation.data, trial.inputs).prepared())

    def _compared(self, trial: Trial) -> Trial:
        """Return a trial with its speed beside its float twin's (rule 4)."""
        if trial.recipe.precision is Precision.FP32:
            return trial
        if self._contract.max_latency_us is not None and trial.judge.is_target:
            raced = self._race(trial)
            return trial if raced is None else replace(trial, slowdown=raced.ratio, race=raced)
        twin = self.twin().predicted_us
        return replace(trial, slowdown=trial.predicted_us / twin) if trial.predicted_us and twin else trial

    def _artifact(self, recipe: Recipe) -> Artifact:
        captured, ranges = self._material(recipe.remedies)
        return make_artifact(captured, self._target, recipe, ranges)

    def _material(self, remedies: tuple[Remedy, ...]) -> Material:
        """Return the float graph with remedies applied, and its ranges."""
        if remedies not in self._materials:
            self._materials[remedies] = self._remedied(*self._material(remedies[:-1]), remedies[-1])
        return self._materials[remedies]

    def _remedied(self, captured: Captured, ranges: Ranges | None, remedy: Remedy) -> Material:
        samples, target, model = self._ground.calibration, self._target, captured.model
        if remedy is Remedy.EQUALIZE:
            level = equalize(model)
            return replace(captured, model=level), calibrate(level, samples, method=method_named(self._ground.method))
        schemes = assign(model, target, ranges=ranges)
        batch = captured.inputs[0].shape[0] if captured.inputs[0].shape else 1
        means = channel_means(model, samples.batches(BATCH if batch < 1 else batch))
        return replace(captured, model=correct_biases(model, schemes, target.rules, means)), ranges

    def _try(self, recipe: Recipe) -> Trial:
        ground, target = self._ground, self._target
        artifact = self._artifact(recipe)
        specs = input_specs(artifact.inputs, ground.evaluation.data, ground.signature)
        judge = stand_in(target, recipe.precision)
        run = self._run(recipe, artifact, Samples.fitting(ground.evaluation.data, specs), judge)
        predicted = predict_us((*ground.work, *artifact.conversions), artifact.schemes, target.cost)
        return Trial(
            recipe=recipe,
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
            predicted_us=predicted,
        )

    def _run(self, recipe: Recipe, artifact: Artifact, samples: Samples, judge: StandIn) -> RunResult:
        timings = TIMINGS if judge.is_target else 0
        return run_artifact(
            self._path(recipe, artifact), judge.kind, samples.prepared(), settings=dict(judge.settings), timings=timings
        )

    def _path(self, recipe: Recipe, artifact: Artifact) -> Path:
        path = self._folder / f"{self._target.name}-{recipe.precision}.{self._target.format}"
        path.write_bytes(artifact.data)
        return path
