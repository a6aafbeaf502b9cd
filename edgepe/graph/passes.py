"""The order in which passes run, until none of them changes the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import (
    DeduplicateInitializersPass,
    InlinePass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
    TopologicalSortPass,
)

from edgepe.graph.fold_batchnorm import FoldBatchNorm
from edgepe.graph.fold_branches import FoldBranches
from edgepe.graph.fold_constants import FoldConstants
from edgepe.graph.global_pool import GlobalPool
from edgepe.graph.infer_shapes import infer_shapes
from edgepe.graph.remove_dead_channels import RemoveDeadChannels
from edgepe.graph.remove_identities import RemoveIdentities
from edgepe.graph.remove_no_ops import RemoveNoOps
from edgepe.graph.static_reshape import StaticReshape
from edgepe.graph.strip import StripMetadata

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CLEANUP", "PREPARATION", "SIMPLIFICATION", "fold_branches", "run_passes"]

MAX_ROUNDS = 10

PREPARATION: tuple[Callable[[], ir.passes.PassBase], ...] = (
    StripMetadata,
    InlinePass,
    RemoveInitializersFromInputsPass,
    lambda: LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
)
SIMPLIFICATION: tuple[Callable[[], ir.passes.PassBase], ...] = (
    FoldConstants,
    FoldBranches,
    StaticReshape,
    RemoveNoOps,
    RemoveIdentities,
    FoldBatchNorm,
    GlobalPool,
    RemoveDeadChannels,
    RemoveUnusedNodesPass,
)
CLEANUP: tuple[Callable[[], ir.passes.PassBase], ...] = (
    DeduplicateInitializersPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
    NameFixPass,
    TopologicalSortPass,
)


def run_passes(model: ir.Model, *, check: Callable[[ir.Model], None] | None = None) -> ir.Model:
    """Return an optimized copy of the model.

    Args:
        model: The float model; not changed.
        check: Called with the graph after every pass; raises if it is no longer valid.
    """
    copy = ir.serde.deserialize_model(ir.serde.serialize_model(model))
    _run(copy, PREPARATION, check)
    infer_shapes(copy)
    for _ in range(MAX_ROUNDS):
        if not _run(copy, SIMPLIFICATION, check):
            break
        infer_shapes(copy)
    _run(copy, CLEANUP, check)
    return copy


def fold_branches(model: ir.Model) -> ir.Model:
    """Return a model without the branches that its shapes and constants decide; the same where it has none."""
    if not any(node.op_type == "If" for node in model.graph):
        return model
    copy = ir.serde.deserialize_model(ir.serde.serialize_model(model))
    _run(copy, PREPARATION, None)
    infer_shapes(copy)
    for _ in range(MAX_ROUNDS):
        if not _run(copy, (FoldConstants, FoldBranches, RemoveUnusedNodesPass), None):
            break
        infer_shapes(copy)
    return copy


def _run(
    model: ir.Model, passes: tuple[Callable[[], ir.passes.PassBase], ...], check: Callable[[ir.Model], None] | None
) -> bool:
    changed = False
    for make in passes:
        changed = make()(model).modified or changed
        if check is not None:
            check(model)
    return changed
