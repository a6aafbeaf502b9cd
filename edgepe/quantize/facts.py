"""What the rules need to know of a graph, as plain values.

Rules kept here:
1. Reading only: the graph is not changed, and nothing here keeps a reference to it.
2. A constant is an initializer, or the output of a Constant node.
3. Every node has a name, and no two the same: schemes are keyed by it.
4. Control flow (an attribute that is a graph) is refused: its inner values cannot be calibrated from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgepe.errors import UnsupportedOpError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GraphFacts", "OpFacts", "TensorFacts", "read_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFacts:
    """One value.

    Attributes:
        name: Its name.
        shape: Dimensions, None where open; or None where not even the rank is known.
        is_float: Whether its elements are float32.
        is_constant: Rule 2.
        low: Smallest element of a float constant, else 0.
        high: Largest element of a float constant, else 0.
    """

    name: str
    shape: tuple[int | None, ...] | None
    is_float: bool
    is_constant: bool
    low: float = 0.0
    high: float = 0.0

    @property
    def peak(self) -> float:
        """Return the largest absolute element of a float constant, else 0."""
        return max(-self.low, self.high, 0.0)

    def dim(self, axis: int) -> int | None:
        """Return one dimension, None where it is open or unknown."""
        if self.shape is None or not -len(self.shape) <= axis < len(self.shape):
            return None
        return self.shape[axis]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFacts:
    """One node.

    Attributes:
        node: Its name.
        op: Operator type; with its domain in front where that is not ONNX's own.
        inputs: Value names, empty where an optional input is left out.
        outputs: Value names.
        numbers: Attributes that are one number.
        lists: Attributes that are several integers.
    """

    node: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, float] = field(default_factory=dict)
    lists: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """A graph.

    Attributes:
        ops: Its nodes in topological order.
        tensors: Value name → facts.
        inputs: Names of the graph inputs.
        outputs: Names of the graph outputs.
    """

    ops: tuple[OpFacts, ...]
    tensors: Mapping[str, TensorFacts]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    _producers: dict[str, OpFacts] = field(init=False, repr=False, compare=False)
    _readers: dict[str, list[OpFacts]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        readers: dict[str, list[OpFacts]] = {}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                readers.setdefault(name, []).append(op)
        object.__setattr__(self, "_producers", {name: op for op in self.ops for name in op.outputs})
        object.__setattr__(self, "_readers", readers)

    def producer(self, name: str) -> OpFacts | None:
        """Return the node that writes a value; None for graph inputs and initializers."""
        return self._producers.get(name)

    def readers(self, name: str) -> tuple[OpFacts, ...]:
        """Return the nodes that read a value, each once."""
        return tuple(self._readers.get(name, ()))

    def activations(self, op: OpFacts) -> tuple[str, ...]:
        """Return the float inputs of a node that are computed, in order."""
        return tuple(
            name for name in op.inputs if name and self.tensors[name].is_float and not self.tensors[name].is_constant
        )

    def constant(self, op: OpFacts, index: int) -> TensorFacts | None:
        """Return the facts of an input that is a float constant, else None."""
        if index >= len(op.inputs) or not op.inputs[index]:
            return None
        tensor = self.tensors[op.inputs[index]]
        return tensor if tensor.is_constant and tensor.is_float else None

    def only_reader(self, name: str) -> OpFacts | None:
        """Return the node that alone reads a value which is no graph output, else None."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def read_facts(model: ir.Model) -> GraphFacts:
    """Read the facts of a float graph.

    Raises:
        UnsupportedOpError: A node holds a graph of its own, or has no unique name.
    """
    graph = model.graph
    tensors: dict[str, TensorFacts] = {}
    for value in (*graph.inputs, *graph.initializers.values()):
        tensors[str(value.name)] = tensor_facts(value)
    ops: dict[str, OpFacts] = {}
    for node in graph:
        facts = op_facts(node)
        if not facts.node or facts.node in ops:
            raise UnsupportedOpError(
                f"The node name {facts.node!r} is not unique.",
                op=facts.op,
                node=facts.node,
                next_step="run edgepe.graph.optimize on the model first",
            )
        ops[facts.node] = facts
        tensors.update((str(value.name), tensor_facts(value)) for value in node.outputs)
    return GraphFacts(
        ops=tuple(ops.values()),
        tensors=tensors,
        inputs=tuple(str(value.name) for value in graph.inputs),
        outputs=tuple(str(value.name) for value in graph.outputs),
    )


def op_facts(node: ir.Node) -> OpFacts:
    """Read one node.

    Raises:
        UnsupportedOpError: It holds a graph of its own.
    """
    numbers: dict[str, float] = {}
    lists: dict[str, tuple[int, ...]] = {}
    for name, attribute in node.attributes.items():
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            raise UnsupportedOpError(
                f"{node.op_type} holds a graph of its own, which cannot be quantized.",
                op=node.op_type,
                node=str(node.name),
                next_step="export the model without control flow",
            )
        if attribute.type == ir.AttributeType.INT:
            numbers[name] = attribute.as_int()
        elif attribute.type == ir.AttributeType.FLOAT:
            numbers[name] = attribute.as_float()
        elif attribute.type == ir.AttributeType.INTS:
            lists[name] = tuple(attribute.as_ints())
    return OpFacts(
        node=str(node.name or ""),
        op=f"{node.domain}::{node.op_type}" if node.domain else node.op_type,
        inputs=tuple(str(value.name) if value is not None else "" for value in node.inputs),
        outputs=tuple(str(value.name) for value in node.outputs),
        numbers=numbers,
        lists=lists,
    )


def tensor_facts(value: ir.Value) -> TensorFacts:
    """Read one value."""
    constant = ir.convenience.get_const_tensor(value)
    is_float = value.dtype is ir.DataType.FLOAT or (constant is not None and constant.dtype is ir.DataType.FLOAT)
    array = constant.numpy() if constant is not None and is_float and constant.size else np.zeros(1)
    return TensorFacts(
        name=str(value.name),
        shape=shape_of(value.shape if constant is None else constant.shape),
        is_float=is_float,
        is_constant=constant is not None,
        low=float(array.min()),
        high=float(array.max()),
    )


def shape_of(shape: ir.ShapeProtocol | None) -> tuple[int | None, ...] | None:
    """Translate a shape."""
    return None if shape is None else tuple(size if isinstance(size, int) else None for size in shape)
