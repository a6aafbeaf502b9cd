"""TensorRT's rules: what its int8 kernels are, and where a pair of Quantize/Dequantize helps.

Rules kept here (sources: NVIDIA ModelOpt's ONNX post-training quantization, TensorRT's guide to explicit quantization):
1. Int8 are Conv and ConvTranspose with constant weights, Gemm and MatMul with one; their inputs are quantized, their
   outputs never, so that bias, BatchNorm and ReLU fuse behind them.
2. A Conv with fewer than ``min_channels`` input or output channels stays in float, unless its kernels exist: ungrouped,
   one side a multiple of 8, first layer or one side wide enough, same kernel size along each axis; or grouped with
   output channels a multiple of 8 and kernels of 3 or more.
3. A product with a vector (GEMV) stays in float: it is bound by memory. An open batch counts as 1, which is what a
   device is asked.
4. Of a residual Add only the shorter branch is quantized, so that Conv + Add + ReLU become one kernel.
5. Any other operator keeps the precision that TensorRT's own fusion gives it: no pair beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepe.scheme import OpScheme, Precision, Reason

if TYPE_CHECKING:
    from edgepe.quantize.facts import GraphFacts, OpFacts
    from edgepe.target import QuantRules

__all__ = ["residual_input", "tensorrt_scheme"]

KERNEL_MULTIPLE = 8
GROUPED_KERNEL = 3
TWO = 2  # operands of an Add, and of a matrix product


def tensorrt_scheme(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> OpScheme:
    """Decide one operator that nothing else bars from int8."""
    if op.op in ("Conv", "ConvTranspose"):
        precision, reason, detail = convolution(facts, op, rules)
    elif op.op in ("Gemm", "MatMul"):
        precision, reason, detail = product(facts, op, rules)
    elif op.op == "Add" and rules.residual_branch_only:
        branch = residual_input(facts, op)
        found = branch is not None
        precision = Precision.INT8 if found else Precision.FP32
        reason, detail = Reason.TARGET_RULE, f"residual branch {branch} only" if found else "no residual branch"
    else:
        precision, reason, detail = Precision.FP32, Reason.TARGET_RULE, "TensorRT fuses it; no pair beside it"
    return OpScheme(node=op.node, op=op.op, precision=precision, reason=reason, detail=detail)


def convolution(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> tuple[Precision, Reason, str]:
    """Apply rule 2."""
    weight = facts.constant(op, 1)
    if weight is None or weight.shape is None:
        return Precision.FP32, Reason.WEIGHT_NOT_CONSTANT, f"weight {op.inputs[1]} is computed"
    first, second = weight.dim(0) or 0, weight.dim(1) or 0
    if min(first, second) >= rules.min_channels or has_small_kernel(facts, op, rules):
        return Precision.INT8, Reason.TARGET_RULE, ""
    detail = f"weight {list(weight.shape)}: fewer than {rules.min_channels} channels and no int8 kernel for that"
    return Precision.FP32, Reason.FEW_CHANNELS, detail


def has_small_kernel(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> bool:
    """Tell whether a Conv with few channels still has an int8 kernel."""
    weight = facts.tensors[op.inputs[1]]
    first, second = weight.dim(0) or 0, weight.dim(1) or 0
    kernel = (weight.shape or ())[2:]
    if op.op != "Conv":
        return False
    if op.numbers.get("group", 1) > 1:
        return first % KERNEL_MULTIPLE == 0 and all((size or 0) >= GROUPED_KERNEL for size in kernel)
    even = first % KERNEL_MULTIPLE == 0 or second % KERNEL_MULTIPLE == 0
    wide = op.inputs[0] in facts.inputs or max(first, second) >= rules.min_channels
    return even and wide and len(set(kernel)) == 1


def product(facts: GraphFacts, op: OpFacts, rules: QuantRules) -> tuple[Precision, Reason, str]:
    """Apply rule 3, and the smallest inner and outer dimension of int8 matrix kernels."""
    weight = facts.constant(op, 1)
    if weight is None or len(weight.shape or ()) != TWO:
        return Precision.FP32, Reason.WEIGHT_NOT_CONSTANT, f"{op.inputs[1]} is no constant matrix"
    if op.op == "Gemm" and op.numbers.get("transA"):
        return Precision.FP32, Reason.NO_INT8_KERNEL, "transA"
    output = facts.tensors[op.outputs[0]].shape
    rows = [size or 1 for size in (output or ())[:-1]]
    if all(size == 1 for size in rows) or (output or (0,))[-1] == 1:
        return Precision.FP32, Reason.TARGET_RULE, "a product with a vector is bound by memory"
    if min(size or 0 for size in weight.shape or ()) < rules.min_channels:
        return Precision.FP32, Reason.FEW_CHANNELS, f"weight {list(weight.shape or ())}"
    return Precision.INT8, Reason.TARGET_RULE, ""


def residual_input(facts: GraphFacts, op: OpFacts) -> str | None:
    """Return the operand of an Add that is its residual branch: the one that is not the deeper Conv.

    None where the Add is not residual: an operand is constant, shapes differ, or none comes from a Conv of its own.
    """
    operands = facts.activations(op)
    shapes = {facts.tensors[name].shape for name in operands}
    if len(op.inputs) != TWO or len(set(operands)) != TWO or len(shapes) != 1:
        return None
    fusible = [name for name in operands if ends_in_conv(facts, name)]
    if not fusible:
        return None
    main = max(fusible, key=lambda name: (depth(facts, name), operands.index(name)))
    return next(name for name in operands if name != main)


def ends_in_conv(facts: GraphFacts, name: str) -> bool:
    """Tell whether a value is the output of a Conv that nothing else reads."""
    producer = facts.producer(name)
    return producer is not None and producer.op in ("Conv", "ConvTranspose") and facts.only_reader(name) is not None


def depth(facts: GraphFacts, name: str) -> int:
    """Count the nodes on the longest way from a graph input to a value."""
    depths: dict[str, int] = {}
    for op in facts.ops:
        here = 1 + max((depths.get(source, 0) for source in op.inputs), default=0)
        depths.update(dict.fromkeys(op.outputs, here))
    return depths.get(name, 0)
