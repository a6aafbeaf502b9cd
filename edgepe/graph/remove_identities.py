"""Remove Identity nodes, in branches and loop bodies too."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["RemoveIdentities"]


class RemoveIdentities(ir.passes.InPlacePass):
    """Hand on the input of each Identity in place of its output.

    Requires: nothing. Ensures: no Identity is left, save one that makes an input, an initializer, another output or a
    value of an outer graph an output of its own graph.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Remove them in place."""
        changed = False
        for graph in list(model.graphs()):
            for node in list(graph):
                if node.op_type == "Identity" and not node.domain:
                    changed = _remove(graph, node) or changed
        return ir.passes.PassResult(model, modified=changed)


def _remove(graph: ir.Graph, node: ir.Node) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    if source is None:
        return False
    if output.is_graph_output():
        producer = source.producer()
        if producer is None or producer.graph is not graph or source.is_graph_output():
            return False
        name = output.name
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        output.name = f"{name}_removed"
        source.name = name
    else:
        output.replace_all_uses_with(source)
    graph.remove(node, safe=True)
    return True
