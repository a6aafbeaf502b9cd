"""How much an operator computes, and what a cost table makes of it.

Rules kept here:
1. Counts are of one sample: an open batch counts as 1.
2. A multiply-accumulate is one multiplication with its addition; operators without any count the elements they write.
3. What a runtime fuses into its producer (ReLU, Clip, BatchNormalization) or does not copy (Reshape) costs nothing.
4. Where operators of two precisions meet, a value is converted: one more operator for each precision that reads it.
5. What comes out is a prediction and is labelled so wherever it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx_ir as ir

    from edgepe.scheme import OpScheme
    from edgepe.target import CostTable

__all__ = ["Load", "OpWork", "conversion_work", "count_work", "load_of", "load_us", "predict_us"]

FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Relu", "Clip", "BatchNormalization"})
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpWork:
    """The work of one operator on one sample.

    Attributes:
        node: Name of the node.
        op: Operator type.
        macs: Multiply-accumulates.
        elements: Elements written.
    """

    node: str
    op: str
    macs: int
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """All the work of one inference, as far as a cost table tells it apart.

    Attributes:
        ops: Operators that cost something.
        macs: Precision → multiply-accumulates.
        elements: Precision → elements written by operators without multiply-accumulates.
    """

    ops: int
    macs: Mapping[Precision, int]
    elements: Mapping[Precision, int]

    def to_json(self) -> dict[str, object]:
        """Return the load as a device report tells it."""
        found = dict.fromkeys((*self.macs, *self.elements))
        return {
            "ops": self.ops,
            **{str(key): {"macs": self.macs.get(key, 0), "elements": self.elements.get(key, 0)} for key in found},
        }


def count_work(model: ir.Model) -> tuple[OpWork, ...]:
    """Return the work of each node of an optimized graph, in its order."""
    return tuple(
        OpWork(
            node=str(node.name),
            op=node.op_type,
            macs=_macs(node),
            elements=0 if node.op_type in FREE else sum(prod(_dims(value)) for value in node.outputs),
        )
        for node in model.graph
    )


def conversion_work(model: ir.Model, schemes: Iterable[OpScheme]) -> tuple[OpWork, ...]:
    """Return the conversions between precisions of a graph whose inputs and outputs are float32 (rule 4)."""
    precisions = {scheme.node: scheme.precision for scheme in schemes}
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    outputs = set(model.graph.outputs)
    found = []
    for value in values:
        if value.dtype is None or not value.dtype.is_floating_point():
            continue
        producer = value.producer()
        own = Precision.FP32 if producer is None else precisions.get(str(producer.name), Precision.FP32)
        readers = {precisions.get(str(use.node.name), Precision.FP32) for use in value.uses()}
        wanted = readers | ({Precision.FP32} if value in outputs else set())
        found += [OpWork(node="", op="Convert", macs=0, elements=prod(_dims(value)))] * len(wanted - {own})
    return tuple(found)


def load_of(work: Iterable[OpWork], schemes: Iterable[OpScheme]) -> Load:
    """Return what an artifact's operators come to, precision by precision (rules 2 and 3)."""
    precisions = {scheme.node: scheme.precision for scheme in schemes}
    ops = 0
    macs: dict[Precision, int] = {}
    elements: dict[Precision, int] = {}
    for op in work:
        if not op.elements:
            continue
        ops += 1
        precision = precisions.get(op.node, Precision.FP32)
        counts, amount = (macs, op.macs) if op.macs else (elements, op.elements)
        counts[precision] = counts.get(precision, 0) + amount
    return Load(ops=ops, macs=macs, elements=elements)


def predict_us(work: Iterable[OpWork], schemes: Iterable[OpScheme], cost: CostTable | None) -> float | None:
    """Return the predicted latency of one inference on one thread, µs; None where the table says too little."""
    return None if cost is None else load_us(load_of(work, schemes), cost)


def load_us(load: Load, cost: CostTable) -> float | None:
    """Return the predicted latency of a load, µs; None where the table has no row for it.

    The prediction is ``call + Σ (op + macs / macs_per_us + elements / elements_per_us)``: no caches, no overlap. A
    precision without a row of its own costs what fp32 does.
    """
    total = cost.call_us + cost.op_us * load.ops
    for precision in dict.fromkeys((*load.macs, *load.elements)):
        row = cost.row(precision) or cost.row(Precision.FP32)
        if row is None:
            return None
        total += load.macs.get(precision, 0) / row.macs_per_us
        total += load.elements.get(precision, 0) / row.elements_per_us
    return total


def _dims(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return (1,)
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)


def _macs(node: ir.Node) -> int:
    written = prod(_dims(node.outputs[0]))
    weight = _dims(node.inputs[1]) if len(node.inputs) > 1 else ()
    if node.op_type == "Conv":
        return written * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return prod(_dims(node.inputs[0])) * prod(weight[1:])
    if node.op_type == "Gemm":
        return written * weight[1 if node.attributes.get_int("transB", 0) else 0]
    if node.op_type == "MatMul":
        return written * _dims(node.inputs[0])[-1]
    if node.op_type in RECURRENT:
        return _dims(node.inputs[0])[0] * (prod(weight) + prod(_dims(node.inputs[2])))
    return 0
