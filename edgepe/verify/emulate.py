"""Run an artifact on emulated Arm, and tell how far the stand-in is from it.

Rules kept here:
1. The processor is one that has the target's instructions and no newer ones: onnxruntime and XNNPACK choose their
   kernels by them.
2. The emulated child is the code that runs on this host and on the device; only runtime and machine are Arm's.
3. Emulation tells what comes out, never how long it takes: no time of it is reported.
4. A sample agrees by the rule of the golden vectors, under the bundle's own tolerances.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import device_agent
import edgepe
from device_agent.runtime.golden import compare
from edgepe.errors import UsageError, VerifyError
from edgepe.verify.run import Child, RunResult, run_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from device_agent.wire.manifest import Golden
    from edgepe.target import Target
    from edgepe.verify.emulator.folder import Emulator

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["MOST_SAMPLES", "Agreement", "compare_outputs", "emulated_cpu", "run_emulated"]

MOST_SAMPLES = 200
TIMEOUT_S = 1800.0
MACHINE = "aarch64"
PROCESSORS = (("i8mm", "cortex-a710"), ("asimddp", "cortex-a76"))
"""Instruction → a processor of qemu's that has it; the first that the target has decides."""

PLAIN = "cortex-a72"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far outputs are from what they were expected to be.

    Attributes:
        samples: How many samples were compared.
        agree: Share of them within the tolerances, 0-1.
        max_error: Largest difference of an element; infinite where one side is not finite.
        mean_error: Mean difference of all elements.
        exact: Share of samples whose every bit is the same.
        needed: Share that has to agree.
    """

    samples: int
    agree: float
    max_error: float
    mean_error: float
    exact: float
    needed: float

    @property
    def held(self) -> bool:
        """Whether enough samples agree."""
        return self.agree >= self.needed


def emulated_cpu(target: Target) -> str:
    """Return the processor to emulate for a target, as qemu names it (rule 1).

    Raises:
        UsageError: The target is no 64-bit Arm machine.
    """
    if target.machine != MACHINE:
        raise UsageError(
            f"{target.name} cannot be emulated",
            expected=f"a target on {MACHINE}",
            got=target.machine,
            next_step="leave out --emulate",
        )
    return next((cpu for instruction, cpu in PROCESSORS if instruction in target.isa), PLAIN)


def run_emulated(
    emulator: Emulator, path: Path, kind: str, inputs: Arrays, *, cpu: str, timeout_s: float = TIMEOUT_S
) -> RunResult:
    """Run an artifact over samples on emulated Arm, as the target would: the runtime with no switch set.

    Args:
        emulator: The emulated machine.
        path: The model file.
        kind: ``onnxruntime`` or ``litert``.
        inputs: One preprocessed array per input, samples first, at most ``MOST_SAMPLES``.
        cpu: The processor, from :func:`emulated_cpu`.
        timeout_s: Seconds after which it is killed.

    Raises:
        UsageError: There are too many samples.
        DataError: There are no samples, or the inputs differ in their number.
        VerifyError: The runtime crashed, hung, or refused the artifact.
    """
    count = len(next(iter(inputs.values()), ()))
    if count > MOST_SAMPLES:
        raise UsageError("emulation is slow", expected=f"at most {MOST_SAMPLES} samples", got=count)
    with tempfile.TemporaryDirectory(prefix="edgepe-code-") as name:
        code = Path(name)
        # Our two packages and nothing beside them: the host's own numpy is of another machine.
        for package in (edgepe, device_agent):
            (code / package.__name__).symlink_to(Path(package.__path__[0]).resolve())
        child = Child(command=emulator.command(cpu), environment=emulator.environment(code))
        return run_artifact(path, kind, inputs, timeout_s=timeout_s, child=child)


def compare_outputs(expected: Arrays, got: Arrays, terms: Golden) -> Agreement:
    """Compare outputs sample by sample.

    Args:
        expected: Outputs by name, samples first.
        got: The same of another machine.
        terms: Tolerances, and the share that has to agree.

    Raises:
        VerifyError: An output is missing, or there are fewer samples.
    """
    counts = {name: len(array) for name, array in expected.items()}
    if {name: len(got.get(name, ())) for name in expected} != counts:
        raise VerifyError(
            "the emulated machine gave other outputs",
            expected=counts,
            got={name: len(array) for name, array in got.items()},
        )
    rows = range(next(iter(counts.values())))
    results = [compare(got, expected, row, terms.atol, terms.rtol) for row in rows]
    exact = [all(np.array_equal(got[name][row], array[row]) for name, array in expected.items()) for row in rows]
    with np.errstate(invalid="ignore"):  # infinity minus infinity is no number, and is said by max_error
        apart = np.concatenate([np.abs(got[name] - array).ravel() for name, array in expected.items()])
    return Agreement(
        samples=len(results),
        agree=sum(within for _, within in results) / len(results),
        max_error=max(error for error, _ in results),
        mean_error=float(apart.mean()),
        exact=sum(exact) / len(results),
        needed=terms.min_agree,
    )
