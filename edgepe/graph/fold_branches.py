"""Take the branch of an If whose condition is known at compile time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FoldBranches"]


class FoldBranches(ir.passes.InPlacePass):
    """Put the nodes of the branch that is always taken in the place of its If.

    Requires: constants are initializers. Ensures: no If of constant condition is left in the main graph; names stay
    unique.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold in place."""
        changed = False
        for node in list(model.graph):
            if node.op_type == "If" and not node.domain:
                condition = node.inputs[0]
                if condition is not None and condition.const_value is not None:
                    taken = "then_branch" if bool(condition.const_value.numpy().all()) else "else_branch"
                    _take(model.graph, node, node.attributes[taken].as_graph())
                    changed = True
        return ir.passes.PassResult(model, modified=changed)


def _take(graph: ir.Graph, choice: ir.Node, branch: ir.Graph) -> None:
    results = list(branch.outputs)
    _rename(graph, branch)
    branch.outputs.clear()
    for name in list(branch.initializers):
        graph.register_initializer(branch.initializers.pop(name))
    nodes = list(branch)
    branch.remove(nodes)
    graph.insert_before(choice, nodes)
    for old, new in zip(choice.outputs, results, strict=True):
        kept = new
        if old.is_graph_output():  # an output keeps its name, whoever else reads the value
            link = ir.Node("", "Identity", [new], num_outputs=1, name=f"{choice.name}_{old.name}")
            link.outputs[0].type, link.outputs[0].shape = old.type, old.shape
            graph.insert_before(choice, link)
            name = str(old.name)
            kept = link.outputs[0]
            old.replace_all_uses_with(kept, replace_graph_outputs=True)
            old.name, kept.name = f"{name}_chosen", name
        else:
            old.replace_all_uses_with(kept)
    graph.remove(choice, safe=True)


def _rename(graph: ir.Graph, branch: ir.Graph) -> None:
    """Give the branch's values names that the graph around it does not have."""
    taken = {str(value.name) for value in _values(graph)}
    for value in list(_values(branch)):
        if value.name in taken:
            fresh = next(name for index in range(len(taken) + 1) if (name := f"{value.name}_{index}") not in taken)
            value.name = fresh
        taken.add(str(value.name))


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield what has a name in a graph and in the branches inside it."""
    for each in (graph, *graph.subgraphs()):
        yield from each.inputs
        yield from each.initializers.values()
        for node in each:
            yield from node.outputs
