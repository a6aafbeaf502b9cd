"""Scale and zero point of every int8 activation of a TFLite graph.

Rules kept here:
1. Tensors that an operator only moves or chooses between share one scale: they are one class, found by union-find.
2. Softmax, logistic and tanh have the fixed output parameters of LiteRT's 8-bit quantization specification; so has each
   tensor of their class.
3. A class of several inputs never takes a fixed member in: that input is requantized, so that nothing else clips.
4. A class without a fixed member holds the ranges of all of its members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepe.errors import DataError
from edgepe.lower.tflite.flat import ABSENT, Builtin, Graph, Operator
from edgepe.quantize.affine import Affine, activation_affine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepe.quantize.calibrate import Range, Ranges
    from edgepe.target import QuantRules

__all__ = ["FIXED", "SAME_SCALE", "ActivationScales", "spread"]

SAME_SCALE = frozenset(
    {
        Builtin.AVERAGE_POOL_2D,
        Builtin.CONCATENATION,
        Builtin.MAXIMUM,
        Builtin.MAX_POOL_2D,
        Builtin.MINIMUM,
        Builtin.PAD,
        Builtin.PADV2,
        Builtin.REDUCE_MAX,
        Builtin.REDUCE_MIN,
        Builtin.RESHAPE,
        Builtin.TRANSPOSE,
    }
)


def _single(scale: float, zero_point: int) -> Affine:
    return Affine(scale=np.asarray(scale, np.float32), zero_point=np.asarray(zero_point, np.int32))


FIXED = {
    Builtin.SOFTMAX: _single(1 / 256, -128),
    Builtin.LOGISTIC: _single(1 / 256, -128),
    Builtin.TANH: _single(1 / 128, 0),
}
# What a value gets that was zero on every sample: any scale holds it, and kernels want none that is extreme.
ALWAYS_ZERO = _single(1.0, 0)


def spread(span: Range, rules: QuantRules) -> Affine:
    """Return the parameters that hold a range under the target's rules."""
    return activation_affine(span, symmetry=rules.activation) if span.high > span.low else ALWAYS_ZERO


class ActivationScales:
    """The parameters of a graph's activations.

    Args:
        graph: The float graph.
        integer: Which of its operators become int8.
        ranges: Calibrated ranges by ONNX value name.
        rules: The target's rules.
    """

    def __init__(self, graph: Graph, integer: Sequence[bool], ranges: Ranges, rules: QuantRules) -> None:
        self._graph = graph
        self._ranges = ranges
        self._rules = rules
        self._parent = list(range(len(graph.tensors)))
        self._fixed: dict[int, Affine] = {}
        self._spans: dict[int, Range] = {}
        operators = [o for o, is_integer in zip(graph.operators, integer, strict=True) if is_integer]
        self._join_single(operators)
        for operator in operators:
            if operator.builtin in FIXED:
                self._fixed[self._root(operator.outputs[0])] = FIXED[operator.builtin]
        self._join_several(operators)
        self._collect()

    def affine(self, tensor: int) -> Affine:
        """Return the parameters of an activation.

        Raises:
            DataError: If no member of its class was calibrated.
        """
        root = self._root(tensor)
        if root in self._fixed:
            return self._fixed[root]
        if root not in self._spans:
            name = self._graph.tensors[tensor].source or self._graph.tensors[tensor].name
            raise DataError(
                f"the value '{name}' shall be int8 but was not calibrated",
                expected=f"a range of '{name}'",
                got=f"ranges of {len(self._ranges)} values",
                next_step="collect the ranges from this very graph",
            )
        return spread(self._spans[root], self._rules)

    def _join_single(self, operators: Sequence[Operator]) -> None:
        for operator in operators:
            data = self._activations(operator)
            if operator.builtin in SAME_SCALE and len(data) == 1:
                self._parent[self._root(operator.outputs[0])] = self._root(data[0])

    def _join_several(self, operators: Sequence[Operator]) -> None:
        """Join what a concat or a maximum reads, save an input of fixed scale, which is requantized there."""
        for operator in operators:
            data = self._activations(operator)
            if operator.builtin in SAME_SCALE and len(data) > 1:
                for tensor in data:
                    if self._root(tensor) not in self._fixed:
                        self._parent[self._root(tensor)] = self._root(operator.outputs[0])

    def _collect(self) -> None:
        for index, tensor in enumerate(self._graph.tensors):
            span = self._ranges.get(tensor.source)
            if span is not None and tensor.data is None:
                root = self._root(index)
                self._spans[root] = self._spans[root].join(span) if root in self._spans else span

    def _activations(self, operator: Operator) -> list[int]:
        tensors = self._graph.tensors
        return [i for i in operator.inputs if i != ABSENT and tensors[i].data is None]

    def _root(self, tensor: int) -> int:
        while self._parent[tensor] != tensor:
            self._parent[tensor] = self._parent[self._parent[tensor]]
            tensor = self._parent[tensor]
        return tensor
