"""Golden vectors: inputs with the outputs that a faithful device gives; they tell a box that the model is the model.

Rules kept here:
1. ``golden.npz`` holds ``in.<input>`` (raw, before preprocessing) and ``out.<output>``, samples along the first axis;
   it is read without pickle.
2. A sample agrees when each element of each output satisfies ``|got - expected| ≤ atol + rtol · |expected|``.
3. The check passes when the share of agreeing samples reaches ``min_agree`` and every output is finite where the
   expected one is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from device_agent.errors import ModelError
from device_agent.runtime.arrays import read_arrays
from device_agent.runtime.preprocess import prepare_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from device_agent.runtime.base import Array, Runtime
    from device_agent.wire.manifest import Manifest

__all__ = ["GoldenResult", "GoldenVectors", "check_golden", "compare", "read_golden"]

INPUT, OUTPUT = "in.", "out."


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenVectors:
    """Raw inputs and expected outputs by name, samples along the first axis of each."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def count(self) -> int:
        """How many samples there are."""
        return min((len(array) for array in (*self.inputs.values(), *self.outputs.values())), default=0)

    def batch(self, start: int, size: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """Cut ``size`` samples out of the inputs and the outputs."""
        cut = slice(start, start + size)
        return {k: v[cut] for k, v in self.inputs.items()}, {k: v[cut] for k, v in self.outputs.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """What the check found.

    Attributes:
        passed: Whether the model is still the model.
        agree: The share of samples that agree, 0 to 1.
        max_error: The largest absolute difference; infinite where an output is not finite.
        detail: Why it did not pass; empty where it did.
    """

    passed: bool
    agree: float
    max_error: float
    detail: str


def read_golden(path: Path) -> GoldenVectors:
    """Read golden vectors from an ``.npz`` file.

    Raises:
        ModelError: The file is missing or damaged, holds pickles, or has no or uneven samples.
    """
    arrays = read_arrays(path, what="file of golden vectors")
    vectors = GoldenVectors(
        inputs={name[len(INPUT) :]: value for name, value in arrays.items() if name.startswith(INPUT)},
        outputs={name[len(OUTPUT) :]: value for name, value in arrays.items() if name.startswith(OUTPUT)},
    )
    lengths = {name: value.shape[:1] for name, value in arrays.items()}
    whole = vectors.inputs and vectors.outputs and len(set(lengths.values())) == 1
    if not whole or () in lengths.values() or vectors.count == 0:
        raise ModelError(
            f"The golden vectors {path.name} are not whole.",
            expected="in.<input> and out.<output> with the same number of samples",
            got=lengths,
        )
    return vectors


def check_golden(runtime: Runtime, manifest: Manifest, vectors: GoldenVectors) -> GoldenResult:
    """Run the golden vectors and compare by the manifest's tolerances.

    Raises:
        ModelError: The vectors do not fit the model.
    """
    tolerance = manifest.golden
    agreeing, total, max_error = 0, 0, 0.0
    for got, expected in replay(runtime, manifest, vectors):
        for sample in range(len(next(iter(expected.values())))):
            error, within = compare(got, expected, sample, tolerance.atol, tolerance.rtol)
            agreeing, total, max_error = agreeing + within, total + 1, max(max_error, error)
    agree = agreeing / total
    passed = agree >= tolerance.min_agree and math.isfinite(max_error)
    detail = f"{agreeing} of {total} agree, {tolerance.min_agree:.0%} needed; largest error {max_error:g}"
    return GoldenResult(passed=passed, agree=agree, max_error=max_error, detail="" if passed else detail)


def replay(
    runtime: Runtime, manifest: Manifest, vectors: GoldenVectors
) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Yield (got, expected) per run, in the batch that the model takes.

    Raises:
        ModelError: The number of samples is no multiple of the model's batch, or an output is missing.
    """
    batch = max(1, manifest.inputs[0].shape[0]) if manifest.inputs[0].shape else 1
    if vectors.count % batch:
        raise ModelError(
            "The golden vectors do not fill the model's batch.", expected=f"a multiple of {batch}", got=vectors.count
        )
    for start in range(0, vectors.count, batch):
        raw, expected = vectors.batch(start, batch)
        got = runtime.run(prepare_all(raw, manifest.inputs))
        absent = sorted(set(expected) - set(got))
        if absent:
            raise ModelError("The model lacks an output of its golden vectors.", expected=absent, got=sorted(got))
        yield got, expected


def compare(
    got: Mapping[str, Array], expected: Mapping[str, Array], sample: int, atol: float, rtol: float
) -> tuple[float, bool]:
    """Compare one sample of all outputs.

    Args:
        got: Outputs by name, samples along the first axis.
        expected: What they should be, the same way.
        sample: Which sample.
        atol: Absolute tolerance of one element.
        rtol: Relative tolerance of one element.

    Returns:
        The largest absolute difference (infinite where one side is not finite), and whether all are within
        tolerance (rule 2).

    Raises:
        ModelError: An output has another shape.
    """
    worst, within = 0.0, True
    for name, rows in expected.items():
        have, want = got[name][sample].astype(np.float64), rows[sample].astype(np.float64)
        if have.shape != want.shape:
            raise ModelError(f"Output {name!r} has the wrong shape.", expected=list(want.shape), got=list(have.shape))
        with np.errstate(invalid="ignore"):  # infinity minus infinity: equal, or made infinite just below
            error = np.where(have == want, 0.0, np.abs(have - want))
        error[~np.isfinite(error)] = np.inf
        within = within and bool(np.all(error <= atol + rtol * np.abs(want)))
        worst = max(worst, float(error.max(initial=0.0)))
    return worst, within
