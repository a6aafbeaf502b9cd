"""How much memory an inference will take.

Rules kept here:
1. Figures are of one sample: an open batch counts as 1.
2. What comes out is a prediction and is labelled so wherever it is shown; it says nothing where the profile does not
   know what the runtime takes by itself.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

    from edgepe.scheme import OpScheme
    from edgepe.target import MemoryTable

__all__ = ["OP_BYTES", "WEIGHT_COPIES", "activation_peak_bytes", "predict_rss_bytes"]

WEIGHT_COPIES = 2
"""How often a runtime holds the model file: as read, and packed for its kernels."""
OP_BYTES = 64 << 10
"""What a runtime keeps of one operator; measured on x86-64 with onnxruntime 1.31 on a 100-operator net."""
ELEMENT_BYTES = {Precision.INT8: 1, Precision.MIXED: 4, Precision.FP16: 2, Precision.FP32: 4}
IN_PLACE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Relu", "Clip"})


def activation_peak_bytes(model: ir.Model, schemes: Iterable[OpScheme]) -> int:
    """Return the bytes of activations alive at once, at most, when operators run in the graph's order.

    A value lives from its operator to its last reader; an operator that works in place takes its input's bytes over.

    Args:
        model: The float graph.
        schemes: The precision of each operator; float32 where there is none.
    """
    precisions = {scheme.node: scheme.precision for scheme in schemes}
    nodes = list(model.graph)
    last = {value: place for place, node in enumerate(nodes) for value in node.inputs if value is not None}
    alive = {value: _bytes(value, Precision.FP32) for value in model.graph.inputs}
    outputs = set(model.graph.outputs)
    peak = sum(alive.values())
    for place, node in enumerate(nodes):
        precision = precisions.get(str(node.name), Precision.FP32)
        made = {value: _bytes(value, precision) for value in node.outputs}
        dying = {value for value in alive if last.get(value, -1) <= place and value not in outputs}
        reused = sum(alive[value] for value in dying & {node.inputs[0]}) if node.op_type in IN_PLACE else 0
        peak = max(peak, sum(alive.values()) + max(sum(made.values()) - reused, 0))
        alive = {value: size for value, size in (alive | made).items() if value not in dying}
    return peak


def predict_rss_bytes(
    model: ir.Model, schemes: Iterable[OpScheme], *, file_bytes: int, memory: MemoryTable | None
) -> int | None:
    """Return the predicted resident memory of the process that serves an artifact; None where nothing is known.

    The prediction is ``runtime + 2 file + activations + 64 KiB an operator``.

    Args:
        model: The float graph.
        schemes: The artifact's schemes.
        file_bytes: Size of the artifact.
        memory: The target's figures.
    """
    if memory is None:
        return None
    rows = tuple(schemes)
    ops = sum(1 for _ in model.graph)
    activations = activation_peak_bytes(model, rows)
    return memory.runtime_bytes + WEIGHT_COPIES * file_bytes + activations + OP_BYTES * ops


def _bytes(value: ir.Value, precision: Precision) -> int:
    if value.shape is None:
        return 0
    return ELEMENT_BYTES[precision] * prod(size if isinstance(size, int) else 1 for size in value.shape)
