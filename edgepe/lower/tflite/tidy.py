"""The last passes over a TFLite graph, before its bytes.

Rules kept here:
1. Only what an output needs is left: dead operators make XNNPACK fail at prepare, dead tensors cost bytes.
2. Operators stand where LiteRT's in-place memory does no harm (see ``inplace``).
3. Names are unique; inputs and outputs keep theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgepe.lower.tflite.flat import ABSENT, Graph
from edgepe.lower.tflite.inplace import copy_shared, outputs_last

if TYPE_CHECKING:
    from edgepe.lower.tflite.flat import Operator, Port, Tensor

__all__ = ["tidy"]


def tidy(graph: Graph) -> Graph:
    """Return the graph that a file shall hold; tidying twice changes nothing more."""
    return _unique_names(_compact(copy_shared(outputs_last(_without_dead(graph)))))


def _without_dead(graph: Graph) -> Graph:
    needed = {port.tensor for port in graph.outputs}
    alive: list[Operator] = []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            alive.append(operator)
            needed.update(operator.inputs)
    return replace(graph, operators=tuple(reversed(alive)))


def _compact(graph: Graph) -> Graph:
    used = {tensor for o in graph.operators for tensor in (*o.inputs, *o.outputs)}
    used |= {port.tensor for port in (*graph.inputs, *graph.outputs)}
    kept = sorted(used - {ABSENT})
    new = {old: position for position, old in enumerate(kept)} | {ABSENT: ABSENT}

    def moved(port: Port) -> Port:
        return replace(port, tensor=new[port.tensor])

    return Graph(
        tensors=tuple(graph.tensors[old] for old in kept),
        operators=tuple(
            replace(o, inputs=tuple(new[i] for i in o.inputs), outputs=tuple(new[i] for i in o.outputs))
            for o in graph.operators
        ),
        inputs=tuple(map(moved, graph.inputs)),
        outputs=tuple(map(moved, graph.outputs)),
    )


def _unique_names(graph: Graph) -> Graph:
    """Give each port its own name first, then every other tensor what is still free."""
    fixed = {port.tensor: port.name for port in (*graph.outputs, *graph.inputs)}
    taken = set(fixed.values())
    tensors: list[Tensor] = []
    for index, tensor in enumerate(graph.tensors):
        name = fixed.get(index) or _free_name(tensor.name or "tensor", taken)
        taken.add(name)
        tensors.append(replace(tensor, name=name))
    return replace(graph, tensors=tuple(tensors))


def _free_name(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}.{number}"
    return name
