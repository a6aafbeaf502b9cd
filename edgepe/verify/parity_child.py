"""The process that opens two probed models and compares them: ``python -m edgepe.verify.parity_child FOLDER``.

Rules kept here:
1. A runtime that aborts ends this process and nothing else; :func:`measure` says so in the parent.
2. Sums are kept in float64, sample by sample; no activation outlives its sample.
3. Integers of a quantized tensor are compared as the real values that they stand for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from device_agent.runtime.base import open_runtime
from device_agent.runtime.limits import no_core_files
from device_agent.runtime.tflite_ import import_interpreter
from edgepe.errors import VerifyError
from edgepe.verify.child import fixed_batch, pick
from edgepe.verify.exchange import read_arrays
from edgepe.verify.run import TIMEOUT_S, ending, tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Energy", "Measured", "ParityJob", "main", "measure"]

JOB, RESULT = "parity.json", "found.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityJob:
    """What the child shall compare.

    Attributes:
        reference: Path of the float model, probed.
        artifact: Path of the artifact, probed.
        plain: Path of the artifact that ships.
        kind: Runtime kind, as ``device_agent.runtime.open_runtime`` takes it.
        settings: The runtime's own switches, as pairs.
        pairs: Value of the reference, value of the artifact.
        names: Names of the arrays in ``inputs.npz``, by position.
    """

    reference: str
    artifact: str
    plain: str
    kind: str
    settings: tuple[tuple[str, str], ...]
    pairs: tuple[tuple[str, str], ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Sums over all samples and elements of one pair.

    Attributes:
        signal: ``Σ reference²``.
        noise: ``Σ (reference - artifact)²``; infinite where the artifact is not finite and the reference is.
        max_error: Largest absolute difference.
        peak: Largest absolute value of the reference.
    """

    signal: float = 0.0
    noise: float = 0.0
    max_error: float = 0.0
    peak: float = 0.0

    def add(self, reference: NDArray[Any], artifact: NDArray[Any]) -> Energy:
        """Return the sums with one more sample in them; what is not finite in the reference is left out."""
        real, made = reference.ravel().astype(np.float64), artifact.ravel().astype(np.float64)
        if not np.isfinite(real.sum()):
            kept = np.isfinite(real)
            real, made = real[kept], made[kept]
        error = made - real
        if not np.isfinite(error.sum()):
            error[~np.isfinite(error)] = np.inf
        return Energy(
            signal=self.signal + float(real @ real),
            noise=self.noise + float(error @ error),
            max_error=max(self.max_error, largest(error)),
            peak=max(self.peak, largest(real)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the child found.

    Attributes:
        layers: One entry a pair; None where a model has no such value, or in another shape.
        disturbance: The outputs of the artifact that ships beside those of its probed copy.
        samples: Samples run.
    """

    layers: tuple[Energy | None, ...]
    disturbance: Energy
    samples: int


class Model(Protocol):
    """A model that gives out more than its outputs."""

    def run(self, feeds: Arrays) -> Arrays:
        """Return the values of one run by name, as real numbers."""


class TensorModel:
    """A TFLite model whose inner tensors can be read after a run: LiteRT then plans no shared memory.

    Its default delegate computes inner tensors where nobody sees them, so it is left out.
    """

    def __init__(self, path: str, kind: str, wanted: set[str]) -> None:
        module = import_interpreter(kind)
        self._interpreter = module.Interpreter(
            model_path=path,
            num_threads=1,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        runner = self._interpreter.get_signature_runner()
        self._inputs = {name: row["index"] for name, row in runner.get_input_details().items()}
        self._tensors = {row["name"]: row for row in self._interpreter.get_tensor_details() if row["name"] in wanted}
        self._tensors |= dict(runner.get_output_details())

    def run(self, feeds: Arrays) -> Arrays:
        """Run once and return what was wanted."""
        for name, array in feeds.items():
            self._interpreter.set_tensor(self._inputs[name], array)
        self._interpreter.invoke()
        return {
            name: real_values(self._interpreter.get_tensor(row["index"]), row) for name, row in self._tensors.items()
        }


def largest(values: NDArray[np.float64]) -> float:
    """Return the largest absolute value; 0 of nothing."""
    return max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))


def real_values(array: NDArray[Any], row: Mapping[str, Any]) -> NDArray[Any]:
    """Return the real values of a tensor, by its per-tensor scale where it has one."""
    scale, zero = row["quantization"]
    return array if not scale else (array.astype(np.float64) - zero) * scale


def main(folder: Path) -> int:
    """Do the job in a folder and return the exit code."""
    no_core_files()
    try:
        found: dict[str, object] = {"found": asdict(compare(read_job(folder), folder))}
    except Exception as error:  # noqa: BLE001 - a process edge: the parent explains whatever it was
        found = {"error": str(error) or type(error).__name__}
    (folder / RESULT).write_text(json.dumps(found), encoding="utf8")
    return 0


def compare(job: ParityJob, folder: Path) -> Measured:
    """Run the three models over all samples and sum up what differs."""
    inputs = read_arrays(folder / "inputs.npz", job.names)
    plain = open_runtime(Path(job.plain), kind=job.kind, settings=dict(job.settings))
    reference, artifact = (
        open_probed(path, job, {pair[side] for pair in job.pairs})
        for side, path in enumerate((job.reference, job.artifact))
    )
    count, batch = len(next(iter(inputs.values()))), fixed_batch(plain) or 1
    layers: list[Energy | None] = [Energy() for _ in job.pairs]
    disturbance = Energy()
    for start in range(0, count, batch):
        feeds = pick(inputs, start, batch)
        left, right = reference.run(feeds), artifact.run(feeds)
        layers = [_added(energy, left.get(a), right.get(b)) for energy, (a, b) in zip(layers, job.pairs, strict=True)]
        for name, array in plain.run(feeds).items():
            disturbance = disturbance.add(array, right[name])
    return Measured(layers=tuple(layers), disturbance=disturbance, samples=count)


def open_probed(path: str, job: ParityJob, wanted: set[str]) -> Model:
    """Open a probed model."""
    if job.kind == "onnxruntime":
        return open_runtime(Path(path), kind=job.kind, settings=dict(job.settings))
    return TensorModel(path, job.kind, wanted)


def measure(job: ParityJob, folder: Path, *, timeout_s: float = TIMEOUT_S) -> Measured:
    """Do a job in a child process.

    Args:
        job: The job; its ``inputs.npz`` lies in the folder.
        folder: A folder of this job alone.
        timeout_s: Seconds after which the child is killed.

    Raises:
        VerifyError: The child crashed, hung, or a runtime refused a model.
    """
    (folder / JOB).write_text(json.dumps(asdict(job)), encoding="utf8")
    command = [sys.executable, "-m", "edgepe.verify.parity_child", str(folder)]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # sums are bound by memory: threads would wait for each other
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, timeout=timeout_s, check=False, env=alone
        )
    except subprocess.TimeoutExpired as error:
        raise VerifyError("Comparing layers did not end.", expected=f"at most {timeout_s:g} s", got="killed") from error
    try:
        raw = json.loads((folder / RESULT).read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        got = f"{ending(done.returncode)}; {tail(done.stderr)}"
        raise VerifyError("Comparing layers crashed.", expected="exit code 0", got=got) from error
    if "error" in raw:
        raise VerifyError("The layers cannot be compared.", got=raw["error"])
    found = raw["found"]
    return Measured(
        layers=tuple(row and Energy(**row) for row in found["layers"]),
        disturbance=Energy(**found["disturbance"]),
        samples=found["samples"],
    )


def read_job(folder: Path) -> ParityJob:
    """Read the job."""
    raw = json.loads((folder / JOB).read_text(encoding="utf8"))
    pairs = {key: tuple((str(a), str(b)) for a, b in raw[key]) for key in ("settings", "pairs")}
    return ParityJob(**raw | pairs | {"names": tuple(raw["names"])})


def _added(energy: Energy | None, left: NDArray[Any] | None, right: NDArray[Any] | None) -> Energy | None:
    if energy is None or left is None or right is None or left.shape != right.shape:
        return None
    return energy.add(left, right)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
