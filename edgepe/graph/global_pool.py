"""Say a mean over all of space as what it is: GlobalAveragePool, which every runtime has in int8 too."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["GlobalPool"]

CHANNEL_AXES = 2  # batch and channel come first


class GlobalPool(ir.passes.InPlacePass):
    """Turn ReduceMean over all of space into GlobalAveragePool, without the detour of 1-D nets over a fourth axis.

    Requires: shapes inferred, axes are initializers. Ensures: no such mean is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite in place."""
        changed = False
        for node in list(model.graph):
            if node.op_type == "ReduceMean" and not node.domain and _is_global(node):
                _rewrite(model.graph, node)
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def _is_global(node: ir.Node) -> bool:
    source = node.inputs[0]
    axes = _axes(node)
    if source is None or source.shape is None or axes is None or not node.attributes.get_int("keepdims", 1):
        return False
    rank = len(source.shape)
    return rank > CHANNEL_AXES and {axis % rank for axis in axes} == set(range(CHANNEL_AXES, rank))


def _axes(node: ir.Node) -> tuple[int, ...] | None:
    """Return the constant axes of ReduceMean, Squeeze or Unsqueeze; None where they are not constant."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.const_value is None:
        return None
    return tuple(int(axis) for axis in value.const_value.numpy().reshape(-1))


def _rewrite(graph: ir.Graph, mean: ir.Node) -> None:
    source, output = mean.inputs[0], mean.outputs[0]
    unsqueeze = None if source is None else source.producer()
    squeeze = output.consumers()[0] if len(output.uses()) == 1 and not output.is_graph_output() else None
    if unsqueeze is not None and squeeze is not None and _is_detour(unsqueeze, squeeze):
        source, output = unsqueeze.inputs[0], squeeze.outputs[0]
    pooled = ir.Node("", "GlobalAveragePool", [source], num_outputs=1, name=mean.name)
    pooled.outputs[0].shape, pooled.outputs[0].type = output.shape, output.type
    graph.insert_before(mean, pooled)
    name = output.name
    ir.convenience.replace_all_uses_with(output, pooled.outputs[0], replace_graph_outputs=True)
    output.name = f"{name}_replaced"
    pooled.outputs[0].name = name


def _is_detour(unsqueeze: ir.Node, squeeze: ir.Node) -> bool:
    """Return whether a spatial axis is added before the mean and taken away behind it."""
    if unsqueeze.op_type != "Unsqueeze" or squeeze.op_type != "Squeeze":
        return False
    added, taken = _axes(unsqueeze), _axes(squeeze)
    shape = unsqueeze.outputs[0].shape
    if added is None or taken is None or shape is None:
        return False
    rank = len(shape)
    places = {axis % rank for axis in added}
    spatial = min(places) >= CHANNEL_AXES and rank - len(places) > CHANNEL_AXES
    return spatial and places == {axis % rank for axis in taken}
