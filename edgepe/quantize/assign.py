"""The precision of each operator, decided from the graph's facts and the target's rules.

Rules kept here:
1. Pure: facts and rules in, one :class:`OpScheme` per node out, in graph order; nothing is silent.
2. What may be int8 depends on the style of the target's rules alone, never on its name:
   ``ort``: operators that onnxruntime's CPU provider fuses (seen in its optimized graph, tests/integration);
   ``tensorrt``: Conv, ConvTranspose, Gemm, MatMul, and of a residual Add the shorter branch;
   ``tflite``: the int8 operators of LiteRT's 8-bit quantization specification.
3. Operators with weights decide first; pointwise, pooling and data-moving operators are int8 only beside an int8
   operator: alone they would lose accuracy and gain nothing.
4. ReLU and Clip vanish into their producer's output range where the rules allow it (``ort``, asymmetric activations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepe.quantize.dynamic import dynamic_schemes, weights_only
from edgepe.quantize.facts import GraphFacts, OpFacts, read_facts
from edgepe.quantize.recipe import Activations
from edgepe.quantize.tensorrt import tensorrt_scheme
from edgepe.scheme import OpScheme, Precision, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx_ir as ir

    from edgepe.quantize.calibrate import Ranges
    from edgepe.target import QuantRules, Target

__all__ = ["MOVERS", "assign", "decide", "folds_into"]

WEIGHTED = {
    "ort": frozenset({"Conv", "Gemm", "MatMul"}),
    "tflite": frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
}
MOVERS = frozenset(
    {"Concat", "Expand", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)
"""Operators that move data only: output and input share scale and zero point."""
POINTWISE = {
    "ort": frozenset({"Add", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"}),
    "tflite": frozenset(
        {"Add", "AveragePool", "Clip", "DepthToSpace", "Gather", "GlobalAveragePool", "GlobalMaxPool", "HardSwish"}
        | {"LeakyRelu", "Max", "Min", "Mul", "Neg", "Pad", "PRelu", "ReduceMax", "ReduceMean", "ReduceSum", "Relu"}
        | {"Resize", "Sigmoid", "Softmax", "Sub", "Tanh"}
    ),
}
FOLDING = frozenset({"Clip", "Relu"})
FOLD_TARGETS = frozenset({"Add", "Conv", "Gemm", "MatMul", "Mul"})
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
FP16_ABSENT = frozenset({"AveragePool"})  # onnxruntime 1.31.1 on Arm: from opset 19 on the session does not open
FP16_LARGEST = 65504.0
FP16_ACTIVATION = 512.0  # sums of squares and of long rows stay below fp16's largest (ModelOpt's default)

Decided = OpScheme | None
Problem = tuple[Reason, str] | None


def assign(
    model: ir.Model,
    target: Target,
    *,
    precision: Precision = Precision.INT8,
    ranges: Ranges | None = None,
    float_nodes: Collection[str] = (),
    activations: Activations = Activations.STATIC,
) -> tuple[OpScheme, ...]:
    """Choose the precision of each operator of a graph.

    Args:
        model: The optimized float graph: shapes inferred, node names unique.
        target: The board.
        precision: What the whole artifact aims at; ``mixed`` is int8 with some nodes in float.
        ranges: Calibrated ranges; where given, a value without one is not quantized.
        float_nodes: Nodes that must stay in float because int8 costs too much there.
        activations: Where the scales of int8 activations come from.

    Returns:
        One scheme per node, in graph order.

    Raises:
        UnsupportedOpError: A node holds a graph of its own, or has no unique name.
    """
    facts = read_facts(model)
    if activations is Activations.DYNAMIC and precision in (Precision.INT8, Precision.MIXED):
        return dynamic_schemes(facts, target.rules, float_nodes)
    return decide(facts, target.rules, precision=precision, ranges=ranges, float_nodes=float_nodes)


def decide(
    facts: GraphFacts,
    rules: QuantRules,
    *,
    precision: Precision,
    ranges: Ranges | None = None,
    float_nodes: Collection[str] = (),
) -> tuple[OpScheme, ...]:
    """Choose the precision of each operator from facts; see :func:`assign`."""
    if precision is Precision.FP32:
        return tuple(scheme(op, Precision.FP32, Reason.WHOLE_PRECISION) for op in facts.ops)
    if precision is Precision.FP16:
        return tuple(half_scheme(facts, op, ranges) for op in facts.ops)
    first: dict[str, Decided] = {
        op.node: barred(facts, op, rules, ranges, float_nodes) or by_style(facts, op, rules) for op in facts.ops
    }
    return tuple(spread(facts, rules, first).values())


def scheme(op: OpFacts, precision: Precision, reason: Reason, detail: str = "") -> OpScheme:
    """Make the scheme of one operator."""
    return OpScheme(node=op.node, op=op.op, precision=precision, reason=reason, detail=detail)


def half_scheme(facts: GraphFacts, op: OpFacts, ranges: Ranges | None) -> OpScheme:
    """Choose fp16 unless there is no kernel, or a constant or a calibrated range says that it would overflow."""
    floats = [name for name in (*op.inputs, *op.outputs) if name and facts.tensors[name].is_float]
    if not floats:
        return scheme(op, Precision.FP32, Reason.INTEGER_DATA, "reads and writes no float values")
    if op.op in FP16_ABSENT:
        return scheme(op, Precision.FP32, Reason.FLOAT_OP, "onnxruntime on Arm has no fp16 kernel of this opset")
    for name in floats:
        tensor = facts.tensors[name]
        span = (ranges or {}).get(name)
        peak = tensor.peak if tensor.is_constant or span is None else span.peak
        limit = FP16_LARGEST if tensor.is_constant else FP16_ACTIVATION
        if peak > limit:
            return scheme(op, Precision.FP32, Reason.FP16_OVERFLOW, f"{name} reaches {peak:.6g}, limit {limit:g}")
    return scheme(op, Precision.FP16, Reason.WHOLE_PRECISION)


def barred(
    facts: GraphFacts, op: OpFacts, rules: QuantRules, ranges: Ranges | None, float_nodes: Collection[str]
) -> Decided:
    """Return the scheme of an operator that can be no int8 whatever the style; None where nothing bars it."""
    if op.op in rules.weight_only_ops and op.node not in float_nodes:
        return weights_only(facts, op)
    missing = [name for name in (*facts.activations(op), *op.outputs) if ranges is not None and name not in ranges]
    bars = (
        (op.node in float_nodes, Reason.SENSITIVE, "int8 here costs too much of the score"),
        (op.op in RECURRENT, Reason.RECURRENT, "static int8 loses too much accuracy over time steps"),
        (op.op in rules.float_ops, Reason.FLOAT_OP, f"the target keeps {op.op} in float"),
        (not writes_float(facts, op), Reason.INTEGER_DATA, "writes no float values"),
        (not facts.activations(op), Reason.INTEGER_DATA, "reads no computed float values"),
        (bool(missing), Reason.NO_RANGE, f"calibration saw no values of {', '.join(missing)}"),
    )
    first = next(((reason, detail) for holds, reason, detail in bars if holds), None)
    return None if first is None else scheme(op, Precision.FP32, *first)


def writes_float(facts: GraphFacts, op: OpFacts) -> bool:
    """Tell whether an operator writes any float value."""
    return any(facts.tensors[name].is_float for name in op.outputs)


def by_style(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> Decided:
    """Apply the style's own rules; None where the neighbours decide (rule 3)."""
    if rules.style == "tensorrt":
        return tensorrt_scheme(facts, op, rules)
    if op.op in WEIGHTED[rules.style]:
        return weighted_scheme(facts, op, rules)
    if op.op in POINTWISE[rules.style] or op.op in MOVERS:
        return None
    if rules.style == "ort" and op.op in FOLDING:
        return None
    detail = "int8 is too coarse for probabilities" if op.op == "Softmax" else f"{rules.style} has no int8 {op.op}"
    return scheme(op, Precision.FP32, Reason.NO_INT8_KERNEL, detail)


def weighted_scheme(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> OpScheme:
    """Decide an operator with weights for the styles ``ort`` and ``tflite``."""
    problem = {"Gemm": gemm_problem, "MatMul": matmul_problem}.get(op.op, conv_problem)(facts, op)
    if problem is not None:
        return scheme(op, Precision.FP32, *problem)
    if op.op == "Conv" and few_channels(facts, op, rules):
        return scheme(op, Precision.FP32, Reason.FEW_CHANNELS, f"fewer than {rules.min_channels} channels")
    return scheme(op, Precision.INT8, Reason.TARGET_RULE)


def conv_problem(facts: GraphFacts, op: OpFacts) -> Problem:
    """Tell why a Conv cannot be one fused int8 operator; None where it can."""
    computed = [name for index, name in enumerate(op.inputs) if index and name and facts.constant(op, index) is None]
    return (Reason.WEIGHT_NOT_CONSTANT, f"{computed[0]} is computed") if computed else None


def matmul_problem(facts: GraphFacts, op: OpFacts) -> Problem:
    """Tell why a MatMul cannot be one fused int8 operator; None where it can."""
    if facts.constant(op, 0) is not None:
        return Reason.NO_INT8_KERNEL, "int8 MatMul wants its constant on the right"
    return None


def gemm_problem(facts: GraphFacts, op: OpFacts) -> Problem:
    """Tell why a Gemm cannot be one fused int8 operator; None where it can."""
    computed = conv_problem(facts, op)
    if computed is not None:
        return computed
    plain = op.numbers.get("alpha", 1.0) == 1.0 and op.numbers.get("beta", 1.0) == 1.0 and not op.numbers.get("transA")
    bias = facts.constant(op, 2)
    if not plain or (bias is not None and len(bias.shape or ()) != 1):
        return Reason.NO_INT8_KERNEL, "int8 Gemm wants alpha = beta = 1, no transA, a bias of one dimension"
    return None


def few_channels(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> bool:
    """Tell whether a Conv has fewer channels than the target's int8 kernels want."""
    weight = facts.tensors[op.inputs[1]]
    group = int(op.numbers.get("group", 1))
    return min(weight.dim(0) or 0, (weight.dim(1) or 0) * group) < rules.min_channels


def spread(facts: GraphFacts, rules: QuantRules, first: Mapping[str, Decided]) -> dict[str, OpScheme]:
    """Let the undecided follow their neighbours until nothing changes (rule 3)."""
    done = dict(first)
    changed = True
    while changed:
        changed = False
        for op in facts.ops:
            if done[op.node] is None and beside_int8(facts, op, done):
                done[op.node] = follower(facts, op, rules, done)
                changed = changed or done[op.node] is not None
    lonely = "no int8 operator beside it"
    return {op.node: done[op.node] or scheme(op, Precision.FP32, Reason.FOLLOWS_INPUT, lonely) for op in facts.ops}


def is_int8(decided: Decided) -> bool:
    """Tell whether an operator was decided to be int8."""
    return decided is not None and decided.precision is Precision.INT8


def beside_int8(facts: GraphFacts, op: OpFacts, done: Mapping[str, Decided]) -> bool:
    """Tell whether an operator's producer or reader is int8."""
    producers = [facts.producer(name) for name in facts.activations(op)]
    readers = [reader for name in op.outputs for reader in facts.readers(name)]
    return any(is_int8(done[other.node]) for other in (*producers, *readers) if other is not None)


def follower(facts: GraphFacts, op: OpFacts, rules: QuantRules, done: Mapping[str, Decided]) -> Decided:
    """Decide an operator that stands beside an int8 one."""
    if op.op in FOLDING and rules.style == "ort":
        host = folds_into(facts, op, rules)
        if host is None:
            return scheme(op, Precision.FP32, Reason.NO_INT8_KERNEL, "no producer whose output range could hold it")
        if not is_int8(done[host.node]):
            return None if done[host.node] is None else scheme(op, Precision.FP32, Reason.FOLLOWS_INPUT, host.node)
        return scheme(op, Precision.INT8, Reason.TARGET_RULE, f"folded into the output range of {host.node}")
    if op.op in MOVERS:
        return scheme(op, Precision.INT8, Reason.FOLLOWS_INPUT)
    return scheme(op, Precision.INT8, Reason.TARGET_RULE)


def folds_into(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> OpFacts | None:
    """Return the operator whose output range can hold a ReLU or Clip, else None (rule 4)."""
    if rules.style != "ort" or rules.activation != "asymmetric" or op.op not in FOLDING or not holds_zero(facts, op):
        return None
    host = facts.producer(op.inputs[0])
    alone = facts.only_reader(op.inputs[0]) is not None
    return host if alone and host is not None and host.op in FOLD_TARGETS else None


def holds_zero(facts: GraphFacts, op: OpFacts) -> bool:
    """Tell whether zero lies between the constant bounds of a ReLU or Clip, as it does in any int8 range."""
    bounds = [facts.constant(op, index) for index in (1, 2) if index < len(op.inputs) and op.inputs[index]]
    low = bounds[0].low if bounds and bounds[0] is not None and op.inputs[1] else op.numbers.get("min", 0.0)
    high = bounds[-1].high if bounds and bounds[-1] is not None and op.inputs[-1] else op.numbers.get("max", 0.0)
    return None not in bounds and low <= 0.0 <= high
