"""The TFLite graph while it is being built: values by ONNX name, tensors, operators.

Rules kept here:
1. A lowering asks for the layout that its operator needs; a RESHAPE or TRANSPOSE appears only then, once for each
   tensor and move.
2. An activation or a bias goes into the operator that made its input only where nothing else reads that input.
3. Each operator remembers the ONNX node that caused it, each tensor the ONNX value that it holds.
4. Constants are float32 or int32; a 64-bit integer that does not fit is refused, not cut.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepe.lower.tflite.flat import ABSENT, Activation, Builtin, DType, Graph, Operator, OptionValue, Port, Tensor
from edgepe.lower.tflite.value import Permute, Value, canonical, encode, moves, physical_shape, plan_reshape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgepe.lower.tflite.node import Node
    from edgepe.lower.tflite.value import Layout, Step

__all__ = ["GraphBuilder"]

FUSES_ACTIVATION = frozenset(
    {
        Builtin.CONV_2D,
        Builtin.DEPTHWISE_CONV_2D,
        Builtin.FULLY_CONNECTED,
        Builtin.ADD,
        Builtin.SUB,
        Builtin.MUL,
        Builtin.DIV,
        Builtin.MAX_POOL_2D,
        Builtin.AVERAGE_POOL_2D,
    }
)
BIAS = 2


class GraphBuilder:
    """What the lowerings read from and write to.

    Args:
        nodes: Every live ONNX node, in order.
        constants: Arrays by value name.
        outputs: Names of the graph's outputs.
    """

    def __init__(self, nodes: Sequence[Node], constants: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> None:
        self._constants = dict(constants)
        self._outputs = frozenset(outputs)
        self._readers: dict[str, list[Node]] = {}
        for node in nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)
        self._values: dict[str, Value] = {}
        self._tensors: list[Tensor] = []
        self._operators: list[Operator] = []
        self._producers: dict[int, int] = {}
        self._moved: dict[tuple[int, str, tuple[int, ...]], int] = {}
        self._shared: dict[bytes, int] = {}
        self._nodes: tuple[str, ...] = ()

    # What is known of the ONNX graph.

    def readers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that read a value."""
        return tuple(self._readers.get(name, ()))

    def is_output(self, name: str) -> bool:
        """Say whether a value is an output of the graph."""
        return name in self._outputs

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the array of a constant value, None for any other and for the empty name."""
        return self._constants.get(name)

    def required(self, node: Node, index: int, role: str) -> NDArray[Any]:
        """Return a constant input.

        Raises:
            UnsupportedOpError: If the input is absent or computed while the model runs.
        """
        array = self.constant(node.input(index))
        if array is None:
            raise node.refusal(f"its {role} is not constant", expected="a constant", got=node.input(index) or "nothing")
        return array

    def value(self, name: str) -> Value:
        """Return the value of a name; a constant becomes a tensor in ONNX's own layout."""
        if name not in self._values:
            array = self._constants[name]
            tensor = self.add_constant(array, name)
            self._values[name] = Value(
                tensor=tensor, physical=array.shape, layout=canonical(array.ndim), shape=array.shape
            )
        return self._values[name]

    def set_value(self, name: str, value: Value) -> None:
        """Say what a name of the ONNX graph stands for."""
        self._values[name] = value

    def set_constant(self, name: str, array: NDArray[Any]) -> None:
        """Say that a value was found to be constant."""
        self._constants[name] = array

    def enter(self, *nodes: str) -> None:
        """Let the operators that follow belong to these ONNX nodes."""
        self._nodes = nodes

    # Tensors and operators.

    def tensor(self, value: Value) -> Tensor:
        """Return the tensor that holds a value."""
        return self._tensors[value.tensor]

    def add_tensor(self, tensor: Tensor) -> int:
        """Append a tensor and return its index."""
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def add_constant(self, array: NDArray[Any], name: str) -> int:
        """Return the tensor of a constant; integer constants of the same content are one tensor."""
        dtype = DType.INT32 if np.issubdtype(array.dtype, np.integer) else DType.FLOAT32
        data = _narrowed(array, name) if dtype is DType.INT32 else np.ascontiguousarray(array, np.float32)
        key = repr(data.shape).encode() + data.tobytes()
        if dtype is DType.INT32 and key in self._shared:
            return self._shared[key]
        index = self.add_tensor(Tensor(name=name, shape=array.shape, dtype=dtype, data=data, source=name))
        if dtype is DType.INT32:
            self._shared[key] = index
        return index

    def emit(
        self,
        builtin: Builtin,
        inputs: Sequence[int],
        *,
        name: str,
        shape: tuple[int, ...],
        layout: Layout,
        options: Mapping[str, OptionValue] | None = None,
        source: str | None = None,
    ) -> Value:
        """Append an operator with one output.

        Args:
            builtin: Which.
            inputs: Tensors.
            name: Name of the output tensor.
            shape: Logical shape of the output.
            layout: Layout of the output.
            options: Fields of its option table.
            source: ONNX value that the output holds; ``name`` where None, nothing where empty.
        """
        physical = physical_shape(shape, layout)
        output = self.add_tensor(Tensor(name=name, shape=physical, source=name if source is None else source))
        self._producers[output] = len(self._operators)
        self._operators.append(
            Operator(
                builtin=builtin,
                inputs=tuple(inputs),
                outputs=(output,),
                options=options or {},
                nodes=self._nodes,
            )
        )
        return Value(tensor=output, physical=physical, layout=layout, shape=shape)

    def emit_like(
        self, builtin: Builtin, value: Value, *, name: str, options: Mapping[str, OptionValue] | None = None
    ) -> Value:
        """Append an operator of one input whose output has the same shape and layout."""
        made = self.emit(builtin, [value.tensor], name=name, shape=value.shape, layout=value.layout, options=options)
        return replace(made, columns=value.columns)

    # Layout.

    def lay_out(self, value: Value, layout: Layout) -> Value:
        """Return the value in a layout, through the fewest operators."""
        if value.columns is not None:
            msg = "a flattened value whose columns are permuted reached a reader that is not dense"
            raise ValueError(msg)
        for step in moves(value, layout):
            value = self._move(value, step)
        return replace(value, layout=layout)

    def in_order(self, value: Value) -> Value:
        """Return the value in ONNX's own layout."""
        return self.lay_out(value, canonical(value.rank))

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        """Return the value under another logical shape."""
        plan = plan_reshape(value, shape)
        value = self.lay_out(value, plan.before)
        tensor = self.refit(value.tensor, plan.physical)
        return replace(value, tensor=tensor, physical=plan.physical, layout=plan.layout, shape=shape)

    def refit(self, tensor: int, physical: tuple[int, ...]) -> int:
        """Return the tensor with the same memory under another physical shape."""
        if self._tensors[tensor].shape == physical:
            return tensor
        origin = self._origin(tensor)
        shape = self.add_constant(np.asarray(physical, np.int32), "shape")
        return self._moved_tensor(
            Builtin.RESHAPE,
            (origin, shape),
            origin=tensor,
            physical=physical,
            key=physical,
            options={"newShape": physical},
        )

    def _move(self, value: Value, step: Step) -> Value:
        if not isinstance(step, Permute):
            tensor = self.refit(value.tensor, step.physical)
            return replace(value, tensor=tensor, physical=step.physical, layout=step.layout)
        physical = tuple(value.physical[axis] for axis in step.axes)
        axes = self.add_constant(np.asarray(step.axes, np.int32), "axes")
        tensor = self._moved_tensor(
            Builtin.TRANSPOSE, (value.tensor, axes), origin=value.tensor, physical=physical, key=step.axes
        )
        return replace(value, tensor=tensor, physical=physical, layout=step.layout)

    def _moved_tensor(
        self,
        builtin: Builtin,
        inputs: tuple[int, ...],
        *,
        origin: int,
        physical: tuple[int, ...],
        key: tuple[int, ...],
        options: Mapping[str, OptionValue] | None = None,
    ) -> int:
        place = (origin, builtin.value, key)
        if place not in self._moved:
            tensor = self._tensors[origin]
            self._moved[place] = self.emit(
                builtin,
                inputs,
                name=f"{tensor.name}/{builtin.value.lower()}",
                shape=physical,
                layout=canonical(len(physical)),
                options=options,
                source=tensor.source,
            ).tensor
        return self._moved[place]

    def _origin(self, tensor: int) -> int:
        """Return what a tensor was reshaped from: a reshape of a reshape is one."""
        index = self._producers.get(tensor)
        if index is None or self._operators[index].builtin is not Builtin.RESHAPE:
            return tensor
        return self._operators[index].inputs[0]

    # Constants beside values.

    def constant_operand(self, array: NDArray[Any], *, rank: int, layout: Layout, name: str) -> int:
        """Return a constant laid out so that it broadcasts against a value of a logical rank and a layout."""
        lifted = array.reshape((1,) * (rank - array.ndim) + array.shape)
        physical = encode(lifted, layout) if array.size > 1 else array.reshape(())
        return self.add_constant(physical, name)

    # Fusion.

    def fuse_activation(self, node: Node, activation: Activation) -> Value | None:
        """Let the maker of a node's input apply the activation; None where it cannot."""
        index = self._sole_maker(node.input(0))
        if index is None or self._operators[index].builtin not in FUSES_ACTIVATION:
            return None
        operator = self._operators[index]
        if operator.activation is not Activation.NONE:
            return None
        self._extend(index, replace(operator, activation=activation), node)
        return self._values[node.input(0)]

    def absorb_bias(self, node: Node, index: int, bias: NDArray[Any]) -> Value | None:
        """Let the dense layer that made input ``index`` add a constant; None where it cannot."""
        maker = self._sole_maker(node.input(index))
        if maker is None:
            return None
        operator = self._operators[maker]
        width = self._tensors[operator.outputs[0]].shape[-1:]
        free = operator.builtin is Builtin.FULLY_CONNECTED and operator.inputs[BIAS] == ABSENT
        if not free or operator.activation is not Activation.NONE or (bias.size,) != width or bias.shape[-1:] != width:
            return None
        tensor = self.add_constant(bias.reshape(-1), f"{node.output}/bias")
        self._extend(maker, replace(operator, inputs=(*operator.inputs[:BIAS], tensor)), node)
        return self._values[node.input(index)]

    def _sole_maker(self, name: str) -> int | None:
        """Return the operator whose output is exactly this value, if one node alone reads it."""
        value = self._values.get(name)
        if value is None or self.is_output(name) or len(self._readers.get(name, ())) != 1:
            return None
        return self._producers.get(value.tensor) if self._tensors[value.tensor].source == name else None

    def _extend(self, index: int, operator: Operator, node: Node) -> None:
        self._operators[index] = replace(operator, nodes=(*operator.nodes, node.name))
        tensor = operator.outputs[0]
        self._tensors[tensor] = replace(self._tensors[tensor], name=node.output, source=node.output)

    # The end.

    def finish(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> Graph:
        """Return what was built."""
        return Graph(
            tensors=tuple(self._tensors),
            operators=tuple(self._operators),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )


def _narrowed(array: NDArray[Any], name: str) -> NDArray[np.int32]:
    limits = np.iinfo(np.int32)
    if array.size and (int(array.max()) > limits.max or int(array.min()) < limits.min):
        msg = f"constant '{name}' does not fit 32 bits"
        raise ValueError(msg)
    return np.ascontiguousarray(array, np.int32)
