"""A TFLite model as plain values, between the lowering and the bytes.

Rules kept here:
1. Indices of tensors are positions in ``Graph.tensors``; ``ABSENT`` stands for an input that an operator may lack.
2. ``Tensor.source`` names the ONNX value whose content a tensor holds, whatever its own name: calibration finds it
   there. ``Operator.nodes`` names the ONNX nodes that an operator does the work of: schemes find it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ABSENT",
    "Activation",
    "Builtin",
    "DType",
    "Graph",
    "Model",
    "Operator",
    "OptionValue",
    "Port",
    "Quantization",
    "Tensor",
    "count_operators",
]

ABSENT = -1
OptionValue = int | float | tuple[int, ...]


class DType(StrEnum):
    """Element types, by their names in LiteRT's schema."""

    FLOAT32 = "FLOAT32"
    INT8 = "INT8"
    INT32 = "INT32"


class Activation(StrEnum):
    """Activations that an operator can carry in itself, by their names in LiteRT's schema."""

    NONE = "NONE"
    RELU = "RELU"
    RELU6 = "RELU6"
    RELU_N1_TO_1 = "RELU_N1_TO_1"


class Builtin(StrEnum):
    """Operators that the lowering emits, by their names in LiteRT's schema."""

    ABS = "ABS"
    ADD = "ADD"
    AVERAGE_POOL_2D = "AVERAGE_POOL_2D"
    CONCATENATION = "CONCATENATION"
    CONV_2D = "CONV_2D"
    DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
    DEQUANTIZE = "DEQUANTIZE"
    DIV = "DIV"
    ELU = "ELU"
    EXP = "EXP"
    FULLY_CONNECTED = "FULLY_CONNECTED"
    HARD_SWISH = "HARD_SWISH"
    LEAKY_RELU = "LEAKY_RELU"
    LOGISTIC = "LOGISTIC"
    MAXIMUM = "MAXIMUM"
    MAX_POOL_2D = "MAX_POOL_2D"
    MEAN = "MEAN"
    MINIMUM = "MINIMUM"
    MUL = "MUL"
    PAD = "PAD"
    PADV2 = "PADV2"
    QUANTIZE = "QUANTIZE"
    REDUCE_MAX = "REDUCE_MAX"
    REDUCE_MIN = "REDUCE_MIN"
    RELU = "RELU"
    RELU6 = "RELU6"
    RELU_N1_TO_1 = "RELU_N1_TO_1"
    RESHAPE = "RESHAPE"
    SOFTMAX = "SOFTMAX"
    SQRT = "SQRT"
    SUB = "SUB"
    SUM = "SUM"
    TANH = "TANH"
    TRANSPOSE = "TRANSPOSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Affine parameters: ``real = scale * (quantized - zero_point)``.

    Attributes:
        scale: One scale, or one a channel.
        zero_point: Shared by all channels.
        axis: The channels' axis where there are several scales.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor: constant where it has data."""

    name: str
    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32
    data: NDArray[np.generic] | None = None
    quantization: Quantization | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator.

    Attributes:
        builtin: Which.
        inputs: Tensors read, ``ABSENT`` for one left out.
        outputs: Tensors written.
        options: Fields of the builtin's option table, by the schema's names.
        activation: What it applies to its result.
        nodes: ONNX nodes whose work it does; none for a move at the graph's edge.
    """

    builtin: Builtin
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    activation: Activation = Activation.NONE
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the signature.

    Attributes:
        name: Its ONNX name, kept in the file.
        tensor: Which tensor.
        axes: The ONNX axis that each axis of the tensor holds: (0, 2, 3, 1) says that NCHW became NHWC.
    """

    name: str
    tensor: int
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Tensors, operators in the order they run, and the graph's two edges."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A whole file."""

    graph: Graph
    description: str = "edgepe"


def count_operators(model: Model, builtin: Builtin) -> int:
    """Return how many operators of a kind the model runs."""
    return sum(operator.builtin is builtin for operator in model.graph.operators)
