"""Passes over the one ONNX graph that every artifact is lowered from, one file each.

Rules kept here:
1. A pass leaves the function that the graph computes as it is (float results within 1e-5).
2. Passes mend the graph in place and say whether they changed it; ``optimize`` runs them until none does.
"""

from __future__ import annotations

__all__ = ["optimize"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def optimize(model: ir.Model) -> ir.Model:
    """Return the model with constants and BatchNorm folded, dead parts removed and metadata stripped.

    The argument is not changed.
    """
    from edgepe.graph.passes import run_passes  # noqa: PLC0415 - keeps onnx out of the command line's start

    return run_passes(model)
