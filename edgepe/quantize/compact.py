"""Make the names and hints inside a graph cost nothing.

Rules kept here:
1. What a caller sees stays: names of graph inputs and outputs, names of the nodes that have a scheme; others lose it.
2. Inner values are named by their position in base 36; inner types and shapes, which a runtime infers, are left out.
3. Initializers keep their types: they are part of their content.
4. An attribute that says what the operator's specification assumes anyway is left out: in its schema, or in words there
   (strides and dilations of one, pads of zero).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx import defs, helper

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["compact", "short_name"]

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
WINDOWED = frozenset({"AveragePool", "Conv", "ConvTranspose", "MaxPool"})
ASSUMED = {"strides": 1, "dilations": 1, "pads": 0}


def short_name(index: int) -> str:
    """Return a number in base 36.

    >>> short_name(35), short_name(36)
    ('z', '10')
    """
    head = short_name(index // len(DIGITS)) if index >= len(DIGITS) else ""
    return head + DIGITS[index % len(DIGITS)]


def compact(model: ir.Model, *, nodes: Collection[str]) -> None:
    """Shorten the inner names of a graph without control flow, in place.

    Args:
        model: The model.
        nodes: Names of the nodes that keep theirs.
    """
    graph = model.graph
    leave_out_defaults(model)
    for node in graph:
        node.name = node.name if node.name in nodes else None
    kept = {value.name for value in (*graph.inputs, *graph.outputs)}
    inner = [value for node in graph for value in node.outputs if value.name not in kept]
    initializers = [value for value in graph.initializers.values() if value.name not in kept]
    for value in inner:
        value.type, value.shape = None, None
    fresh = (name for index in range(2**62) if (name := short_name(index)) not in kept)
    # A new name may equal an old one elsewhere in the graph: move all out of the way first.
    for index, value in enumerate((*inner, *initializers)):
        value.name = f"\N{NULL}{index}"
    for value in (*initializers, *inner):
        value.name = next(fresh)


def leave_out_defaults(model: ir.Model) -> None:
    """Drop the attributes that rule 4 speaks of, in place."""
    opset = model.opset_imports.get("", 1)
    for node in model.graph:
        if node.domain in {"", "ai.onnx"}:
            for name in [name for name, given in node.attributes.items() if is_default(node, given, opset)]:
                del node.attributes[name]


def is_default(node: ir.Node, given: ir.Attr, opset: int) -> bool:
    """Tell whether an attribute says what its absence would say."""
    if node.op_type in WINDOWED and given.name in ASSUMED:
        return set(given.as_ints()) == {ASSUMED[given.name]}
    known = defs.get_schema(node.op_type, opset, "").attributes.get(given.name)
    if known is None or not known.default_value.name:
        return False
    return bool(helper.get_attribute_value(known.default_value) == helper.get_attribute_value(ir.to_proto(given)))
