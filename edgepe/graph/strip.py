"""Remove what an exporter left for debugging: host paths, stack traces, comments, producer and version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StripMetadata"]

PRODUCER = "edgepe"


class StripMetadata(ir.passes.InPlacePass):
    """Clear metadata and doc strings of the model, its graphs, nodes and values.

    Requires: nothing. Ensures: the same net from another folder or day gives the same bytes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Clear them in place."""
        changed = bool(model.metadata_props) or model.producer_name != PRODUCER
        model.metadata_props.clear()
        model.doc_string = None
        model.producer_name = PRODUCER
        model.producer_version = None
        model.domain = None
        model.model_version = None
        for thing in _things(model):
            changed = changed or bool(thing.metadata_props) or bool(thing.doc_string)
            thing.metadata_props.clear()
            thing.doc_string = None
        return ir.passes.PassResult(model, modified=changed)


def _things(model: ir.Model) -> Iterator[ir.Graph | ir.Function | ir.Node | ir.Value]:
    for body in _bodies(model):
        yield body
        yield from body.inputs
        if isinstance(body, ir.Graph):
            yield from body.initializers.values()
        for node in body:
            yield node
            yield from node.outputs


def _bodies(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    yield from model.graphs()
    yield from model.functions.values()
