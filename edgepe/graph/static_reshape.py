"""Give Reshape a constant shape where only the batch is open: exporters compute it while the model runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["StaticReshape"]

Size = int | str
"""A size, or the name of an open dimension."""
PASSED_ON = frozenset({"Unsqueeze", "Squeeze", "Cast", "Identity"})


class StaticReshape(ir.passes.InPlacePass):
    """Replace a shape that is put together from open and known sizes by 0 (as the input has it), -1 and numbers.

    Requires: constants are initializers, shapes inferred. Ensures: no such shape of a Reshape is left, if at most
    one of its sizes is neither known nor the input's own in the same place.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace in place."""
        changed = False
        for node in list(model.graph):
            if node.op_type == "Reshape" and not node.domain and not int(node.attributes.get_int("allowzero", 0)):
                changed = _fix(model.graph, node) or changed
        return ir.passes.PassResult(model, modified=changed)


def _fix(graph: ir.Graph, node: ir.Node) -> bool:
    source, wanted = node.inputs[0], node.inputs[1]
    if source is None or source.shape is None or wanted is None or wanted.const_value is not None:
        return False
    sizes, own = _sizes(wanted), list(source.shape)
    if sizes is None:
        return False
    fixed = [
        size if isinstance(size, int) else 0 if place < len(own) and _name(own[place]) == size else -1
        for place, size in enumerate(sizes)
    ]
    if fixed.count(-1) > 1:
        return False
    name = f"{node.outputs[0].name}_shape"
    value = ir.Value(name=name, const_value=ir.tensor(np.array(fixed, np.int64), name=name))
    value.shape, value.type = ir.Shape([len(fixed)]), ir.TensorType(ir.DataType.INT64)
    graph.register_initializer(value)
    node.replace_input_with(1, value)
    node.outputs[0].shape = ir.Shape([None if size in {0, -1} else size for size in sizes])
    return True


def _sizes(value: ir.Value | None) -> list[Size] | None:
    """Return the sizes that a value of whole numbers holds, open ones by name; None where it is something else."""
    if value is not None and value.const_value is not None:
        return [int(size) for size in value.const_value.numpy().reshape(-1)]
    node = None if value is None else value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "Concat":
        parts = [_sizes(part) for part in node.inputs]
        return None if any(part is None for part in parts) else [size for part in parts for size in part or ()]
    if node.op_type == "Shape":
        return _of_shape(node)
    if node.op_type in {"Gather", "Slice"}:
        return _picked(node)
    return _sizes(node.inputs[0]) if node.op_type in PASSED_ON else None


def _of_shape(node: ir.Node) -> list[Size] | None:
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    if shape is None:
        return None
    names = [_name(size) for size in shape]
    picked = names[int(node.attributes.get_int("start", 0)) : int(node.attributes.get_int("end", len(names)))]
    return None if "" in picked else picked


def _picked(node: ir.Node) -> list[Size] | None:
    sizes, numbers = _sizes(node.inputs[0]), [_sizes(value) for value in node.inputs[1:]]
    if sizes is None or any(number is None or any(isinstance(n, str) for n in number) for number in numbers):
        return None
    places = [[int(n) for n in number or ()] for number in numbers]
    if node.op_type == "Gather":
        return [sizes[place] for place in places[0]] if all(-len(sizes) <= p < len(sizes) for p in places[0]) else None
    step = places[3][0] if len(places) > 3 else 1  # noqa: PLR2004 - starts, ends, axes, steps
    return sizes[places[0][0] : places[1][0] : step] if step > 0 else None


def _name(size: int | ir.SymbolicDim | None) -> Size:
    """Return a size, or the name of an open one, empty where it has none."""
    return size if isinstance(size, int) else str(getattr(size, "value", None) or "")
