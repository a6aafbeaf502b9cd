"""Cut a graph at values that the user names, for instance before a detector's non-maximum suppression.

Rules kept here:
1. What no chosen value needs is removed, inputs included; what it needs is not touched.
2. A name that is no value is an error with the nearest ones.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgepe.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["cut"]

SHOWN = 6


def cut(model: ir.Model, outputs: tuple[str, ...]) -> None:
    """Make these values the graph's outputs, in this order, in place.

    Args:
        model: The graph.
        outputs: Names of values that nodes of the main graph write; none leaves the graph as it is.

    Raises:
        UsageError: A name is no such value, or stands twice.
    """
    if not outputs:
        return
    written = {str(value.name): value for node in model.graph for value in node.outputs if value.name}
    for name in outputs:
        if name not in written:
            raise _no_value(name, list(written))
    if len(set(outputs)) != len(outputs):
        raise UsageError("--outputs names a value twice", expected="each once", got=", ".join(outputs))
    model.graph.outputs[:] = [written[name] for name in outputs]
    RemoveUnusedNodesPass()(model)
    for value in list(model.graph.inputs):
        if not value.uses():
            model.graph.inputs.remove(value)


def _no_value(name: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=SHOWN, cutoff=0.5)
    return UsageError(
        f"--outputs names '{name}', which no node of the graph writes",
        expected=", ".join(near or known[-SHOWN:]) + (" or another value" if len(known) > SHOWN else ""),
        got=name,
        next_step="open the model in a viewer such as Netron and take the value's name from there",
    )
