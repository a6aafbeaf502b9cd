"""The lowest version of each builtin that the content of an operator needs.

Rules kept here:
1. The figures follow ``GetBuiltinOperatorVersion`` in TensorFlow Lite's ``op_version.cc``; tests load each of them.
2. A version is never higher than needed: an old runtime refuses what it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepe.lower.tflite.flat import Builtin, DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepe.lower.tflite.flat import Operator, Tensor

__all__ = ["operator_version"]

# Versions for int8 data; every other builtin is at 1.
INT8_VERSIONS = {
    Builtin.ABS: 2,
    Builtin.ADD: 2,
    Builtin.AVERAGE_POOL_2D: 2,
    Builtin.CONCATENATION: 2,
    Builtin.CONV_2D: 3,
    Builtin.DEPTHWISE_CONV_2D: 3,
    Builtin.EXP: 2,
    Builtin.FULLY_CONNECTED: 4,
    Builtin.LEAKY_RELU: 2,
    Builtin.LOGISTIC: 2,
    Builtin.MAXIMUM: 2,
    Builtin.MAX_POOL_2D: 2,
    Builtin.MEAN: 2,
    Builtin.MINIMUM: 2,
    Builtin.MUL: 2,
    Builtin.PAD: 2,
    Builtin.PADV2: 2,
    Builtin.REDUCE_MAX: 2,
    Builtin.REDUCE_MIN: 2,
    Builtin.RELU: 2,
    Builtin.RELU6: 2,
    Builtin.SOFTMAX: 2,
    Builtin.SUB: 2,
    Builtin.TANH: 2,
    Builtin.TRANSPOSE: 2,
}
DEQUANTIZE_INT8 = 2
REQUANTIZE_INT8 = 2
DILATED_DEPTHWISE = 2
KEEPS_DIMENSIONS = 5


def operator_version(operator: Operator, tensors: Sequence[Tensor]) -> int:
    """Return the version that a file must ask for.

    Args:
        operator: What will be written.
        tensors: The graph's tensors.
    """
    data = tensors[operator.inputs[0]].dtype
    plain = INT8_VERSIONS.get(operator.builtin, 1) if data is DType.INT8 else 1
    if operator.builtin is Builtin.FULLY_CONNECTED:
        return max(plain, KEEPS_DIMENSIONS if operator.options.get("keepNumDims") else 1)
    if operator.builtin is Builtin.DEPTHWISE_CONV_2D and _dilated(operator):
        return max(plain, DILATED_DEPTHWISE)
    if operator.builtin is Builtin.DEQUANTIZE:
        return DEQUANTIZE_INT8
    if operator.builtin is Builtin.QUANTIZE and data is DType.INT8:
        return REQUANTIZE_INT8
    return plain


def _dilated(operator: Operator) -> bool:
    return any(operator.options.get(name, 1) != 1 for name in ("dilationHFactor", "dilationWFactor"))
