"""Run a bundle on emulated Arm, and judge its claim and its stand-in by what comes out.

Rules kept here:
1. The golden vectors, which the stand-in made when the bundle was built, have to agree under the bundle's terms.
2. Where there is data, the stand-in runs the same samples today; outputs have to agree by the same terms, and the
   score on Arm may not be worse than the stand-in's beyond what the paired interval leaves open.
3. Samples are spaced evenly over the data.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from device_agent.runtime.golden import read_golden
from edgepe.bundle.pack import read_bundle
from edgepe.data import Dataset, dataset, load_dataset
from edgepe.metrics import AGREEMENT, Comparison, compare, metric
from edgepe.scheme import Precision
from edgepe.stages.board import target_of
from edgepe.stages.samples import Samples
from edgepe.verify.emulate import MOST_SAMPLES, Agreement, compare_outputs, emulated_cpu, run_emulated
from edgepe.verify.emulator.folder import find_emulator
from edgepe.verify.run import RunResult, run_artifact
from edgepe.verify.standin import StandIn, stand_in

if TYPE_CHECKING:
    from device_agent.wire.manifest import Manifest
    from edgepe.verify.emulator.folder import Emulator

__all__ = ["Emulation", "emulate_bundle"]

NEGLIGIBLE = 0.01  # points, or percent of an error: float sums in another order differ by less, and always one way


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulation:
    """What a bundle came to on emulated Arm.

    Attributes:
        ran_on: Runtime, machine, processor and emulator.
        stand_in: Label of the stand-in that it is compared with.
        golden: The golden vectors against what the bundle expects.
        outputs: The data against the stand-in's outputs today; None without data.
        score: By the bundle's own metric, the stand-in's score (as ``float_score``), Arm's, and the paired interval of
            the loss; None without labels.
    """

    ran_on: str
    stand_in: str
    golden: Agreement
    outputs: Agreement | None
    score: Comparison | None

    @property
    def held(self) -> bool:
        """Whether the bundle's claim holds on emulated Arm."""
        apart = self.score is not None and self.score.low > NEGLIGIBLE
        return self.golden.held and (self.outputs is None or self.outputs.held) and not apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What runs the artifact, twice."""

    model: Path
    judge: StandIn
    emulator: Emulator
    cpu: str

    def arm(self, samples: Samples) -> RunResult:
        return run_emulated(self.emulator, self.model, self.judge.kind, samples.prepared(), cpu=self.cpu)

    def host(self, samples: Samples) -> RunResult:
        return run_artifact(self.model, self.judge.kind, samples.prepared(), settings=dict(self.judge.settings))


def emulate_bundle(path: Path, data: Path | None = None, *, samples: int = MOST_SAMPLES) -> Emulation:
    """Run a bundle's golden vectors on emulated Arm, and data beside its stand-in where there is some.

    Args:
        path: The ``.edge`` file.
        data: Raw samples, as for ``edgepe build --evaluation``; with labels they are scored.
        samples: How many of them to run, at most ``MOST_SAMPLES``.

    Raises:
        BundleError: A file of the bundle is damaged.
        UsageError: The target is no 64-bit Arm machine, or there are too many samples.
        VerifyError: The emulated machine was not made, or its runtime crashed or refuses the artifact.
        DataError: The data does not fit.
    """
    bundle = read_bundle(path)
    manifest = bundle.manifest
    target = target_of(manifest)
    cpu, emulator = emulated_cpu(target), find_emulator()
    with tempfile.TemporaryDirectory(prefix="edgepe-emulate-") as name:
        folder = Path(name)
        bundle.extract(folder)
        judge = stand_in(target, Precision(manifest.precision))
        machines = Machines(model=folder / manifest.model, judge=judge, emulator=emulator, cpu=cpu)
        version, golden = _replay(machines, manifest, folder)
        outputs, score = _beside(machines, manifest, spread(load_dataset(data), samples)) if data else (None, None)
    return Emulation(
        ran_on=f"{judge.kind} {version} on emulated {target.machine} ({cpu}, qemu {emulator.qemu_version})",
        stand_in=judge.label,
        golden=golden,
        outputs=outputs,
        score=score,
    )


def spread(data: Dataset, most: int) -> Dataset:
    """Return at most so many samples, evenly spaced over the set."""
    rows = np.linspace(0, len(data) - 1, min(most, len(data))).round().astype(np.int64)
    labels = None if data.labels is None else data.labels[rows]
    return dataset({name: array[rows] for name, array in data.inputs.items()}, labels)


def _replay(machines: Machines, manifest: Manifest, folder: Path) -> tuple[str, Agreement]:
    """Return the runtime's version on Arm, and how the golden vectors come out there."""
    vectors = read_golden(folder / manifest.golden.file)
    run = machines.arm(Samples.fitting(dataset(vectors.inputs), manifest.inputs))
    return run.version, compare_outputs(vectors.outputs, run.outputs, manifest.golden)


def _beside(machines: Machines, manifest: Manifest, data: Dataset) -> tuple[Agreement, Comparison | None]:
    samples = Samples.fitting(data, manifest.inputs)
    host, arm = machines.host(samples).outputs, machines.arm(samples).outputs
    name = manifest.metric.name if manifest.metric else AGREEMENT
    scored = data.labels is not None or name == AGREEMENT
    score = compare(metric(name), host, arm, data.labels) if scored else None
    return compare_outputs(host, arm, manifest.golden), score
