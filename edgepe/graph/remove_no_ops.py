"""Remove operators that hand on their input unchanged at inference."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["RemoveNoOps"]


class RemoveNoOps(ir.passes.InPlacePass):
    """Turn Dropout, Cast to the same type, and Pad, Transpose or Reshape that change nothing into nothing.

    Requires: constants are initializers. Ensures: no such no-op is left, save where it makes a graph output.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Remove them in place."""
        changed = False
        for node in list(model.graph):
            if _passes_on(node) and not node.outputs[0].is_graph_output() and node.inputs[0] is not None:
                node.outputs[0].replace_all_uses_with(node.inputs[0])
                model.graph.remove(node, safe=True)
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def _passes_on(node: ir.Node) -> bool:
    if node.domain or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    if node.op_type == "Dropout":
        return len(node.inputs) < 3 or _truth(node.inputs[2]) is False  # noqa: PLR2004 - the third is training_mode
    if node.op_type == "Cast":
        source = node.inputs[0]
        return source is not None and source.dtype is not None and int(source.dtype) == node.attributes.get_int("to")
    if node.op_type == "Transpose":
        order = list(node.attributes.get_ints("perm", ()))
        return bool(order) and order == sorted(order)
    if node.op_type == "Reshape":
        return _same_static_shape(node)
    return node.op_type == "Pad" and _pads_nothing(node)


def _truth(value: ir.Value | None) -> bool | None:
    if value is None:
        return False
    return None if value.const_value is None else bool(value.const_value.numpy().item())


def _same_static_shape(node: ir.Node) -> bool:
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return False
    shapes = list(before.shape), list(after.shape)
    known = all(isinstance(dim, int) for dim in (*shapes[0][1:], *shapes[1][1:]))
    return known and bool(shapes[0]) and shapes[0] == shapes[1]


def _pads_nothing(node: ir.Node) -> bool:
    pads = node.inputs[1] if len(node.inputs) > 1 else None
    return pads is not None and pads.const_value is not None and not pads.const_value.numpy().any()
