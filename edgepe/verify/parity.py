"""Where an artifact leaves its float twin: the error of each operator's output, in the order of the graph.

Rules kept here:
1. Both models run end to end on the same samples, so the error of a layer holds that of all before it.
2. The artifact is probed where its operators end: behind the Quantize/Dequantize pair, so that a runtime still fuses
   what it would fuse. What probing changed all the same is told (``disturbance_db``).
3. A layer that has no counterpart in the artifact is skipped by name and reason, never guessed.
4. It runs in a child process, sample by sample, and keeps sums only: its memory is that of one sample.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepe.verify.exchange import write_arrays
from edgepe.verify.parity_child import Energy, ParityJob, measure
from edgepe.verify.probes import Probe, onnx_probes, tensor_probes
from edgepe.verify.run import check_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgepe.verify.standin import StandIn

    Arrays = Mapping[str, NDArray[Any]]

__all__ = [
    "DIVERGENT_DB",
    "FAITHFUL_DB",
    "Layer",
    "Parity",
    "Step",
    "compare_layers",
    "sample_count",
    "sqnr_db",
    "steps",
]

DIVERGENT_DB = 10.0
"""A layer below this has an error of more than a tenth of its signal's power: there the artifact leaves its twin."""
FAITHFUL_DB = 40.0
"""Where probing changes the outputs by more than this, the figures are of a graph that does not ship."""
EXACT_DB = 150.0  # beyond what float32 resolves: equal
MOST_SAMPLES = 64
FEWEST_SAMPLES = 4
BUDGET_ELEMENTS = 64_000_000  # values compared over all samples, some seconds of work


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of the float graph.

    Attributes:
        node: Name of its node.
        op: Its type.
        value: Name of its first output.
        elements: Elements of that output for one sample.
    """

    node: str
    op: str
    value: str
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """How far one operator's output is from the float twin's.

    Attributes:
        node: Name of the node in the float graph.
        op: Its type.
        fused: Nodes whose work the artifact does in it.
        sqnr_db: Signal to quantization noise, ``10 log10(Σ float² / Σ (float - artifact)²)``, in -150…150 dB.
        max_error: Largest absolute difference of one element.
        peak: Largest absolute float value.
    """

    node: str
    op: str
    fused: tuple[str, ...]
    sqnr_db: float
    max_error: float
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The layers of an artifact beside those of its float twin.

    Attributes:
        layers: Those that have a counterpart, in the order of the graph.
        skipped: (node, reason) of those that have none.
        samples: How many samples were run.
        disturbance_db: How near the probed artifact's outputs are to those of the artifact that ships.
    """

    layers: tuple[Layer, ...]
    skipped: tuple[tuple[str, str], ...]
    samples: int
    disturbance_db: float

    @property
    def first_divergent(self) -> Layer | None:
        """The first layer under ``DIVERGENT_DB``, or None."""
        return next((layer for layer in self.layers if layer.sqnr_db < DIVERGENT_DB), None)


def steps(model: ir.Model) -> tuple[Step, ...]:
    """Return the operators of a float graph whose first output is a float tensor, in its order."""
    import onnx_ir as ir  # noqa: PLC0415 - only a caller that has a graph needs it

    return tuple(
        Step(node=str(node.name), op=node.op_type, value=str(node.outputs[0].name), elements=_elements(node.outputs[0]))
        for node in model.graph
        if node.outputs and node.outputs[0].dtype is ir.DataType.FLOAT and node.op_type != "Constant"
    )


def sample_count(available: int, graph: Sequence[Step]) -> int:
    """Return on how many samples to compare: at most 64, fewer where a sample has very many activations."""
    each = sum(step.elements for step in graph)
    return min(available, max(FEWEST_SAMPLES, min(MOST_SAMPLES, BUDGET_ELEMENTS // max(each, 1))))


def compare_layers(reference: Path, artifact: Path, judge: StandIn, inputs: Arrays, graph: Sequence[Step]) -> Parity:
    """Compare an artifact with its float twin of the same format, layer by layer.

    Args:
        reference: The float model file: an ``.onnx`` whose nodes have the graph's names, or a ``.tflite`` whose tensors
            have.
        artifact: The model file that ships, made from the same graph.
        judge: What runs both.
        inputs: Preprocessed inputs of both, samples first; at most 64 are wanted, see :func:`sample_count`.
        graph: The operators of the float graph, from :func:`steps`.

    Raises:
        DataError: There are no samples.
        VerifyError: A runtime crashed, hung or refused a probed model.
    """
    check_counts(inputs)
    with tempfile.TemporaryDirectory(prefix="edgepe-parity-") as name:
        folder = Path(name)
        find = onnx_probes if judge.kind == "onnxruntime" else tensor_probes
        probed = find(reference, artifact, graph, folder)
        job = ParityJob(
            reference=str(probed.reference),
            artifact=str(probed.artifact),
            plain=str(artifact.absolute()),
            kind=judge.kind,
            settings=judge.settings,
            pairs=tuple((probe.reference, probe.artifact) for probe in probed.probes),
            names=write_arrays(folder / "inputs.npz", inputs),
        )
        found = measure(job, folder)
    rows = [*zip(probed.probes, found.layers, strict=True)]
    absent = [
        (probe.node, "it has no tensor of its own in the artifact: another operator computes it on the way")
        for probe, energy in rows
        if not energy
    ]
    return Parity(
        layers=tuple(_layer(probe, energy) for probe, energy in rows if energy),
        skipped=(*probed.skipped, *absent),
        samples=found.samples,
        disturbance_db=sqnr_db(found.disturbance.signal, found.disturbance.noise),
    )


def sqnr_db(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)`` of two energies, within ±150 dB; no noise is 150.

    >>> sqnr_db(100.0, 1.0), sqnr_db(0.0, 0.0), sqnr_db(0.0, 1.0)
    (20.0, 150.0, -150.0)
    """
    if noise == 0:
        return EXACT_DB
    if signal == 0 or not math.isfinite(noise):
        return -EXACT_DB
    return max(-EXACT_DB, min(EXACT_DB, 10.0 * (math.log10(signal) - math.log10(noise))))


def _layer(probe: Probe, energy: Energy) -> Layer:
    return Layer(
        node=probe.node,
        op=probe.op,
        fused=probe.fused,
        sqnr_db=sqnr_db(energy.signal, energy.noise),
        max_error=energy.max_error,
        peak=energy.peak,
    )


def _elements(value: ir.Value) -> int:
    if value.shape is None:
        return 1
    return math.prod(size if isinstance(size, int) else 1 for size in value.shape)
