"""Where Quantize/Dequantize pairs stand, decided before anything is written.

Rules kept here:
1. Pure: facts and schemes in, a :class:`Placement` out.
2. ``ort``: an int8 operator reads and writes pairs, because onnxruntime fuses DQ → operator → Q. A value that an int8
   operator writes is read through its pair by everyone; one that a float operator writes, by int8 readers only.
3. ``tensorrt``: an int8 operator reads pairs; a residual Add reads one on its residual branch only.
4. Values that a data-moving operator of one input joins share one scale and zero point. Concat does not: each of its
   inputs keeps its own steps, and a joint range would undo a ReLU that folded away.
5. A ReLU or Clip that folds away is bridged: its producer writes its output's value.
6. A graph output has a pair where the rules want one, or where fusion would otherwise break; Gemm and MatMul fuse
   without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepe.quantize.assign import MOVERS, folds_into
from edgepe.quantize.dynamic import is_static
from edgepe.quantize.tensorrt import residual_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgepe.quantize.calibrate import Range, Ranges
    from edgepe.quantize.facts import GraphFacts, OpFacts
    from edgepe.scheme import OpScheme
    from edgepe.target import QuantRules

__all__ = ["Placement", "place"]

FUSE_WITHOUT_OUTPUT = frozenset({"Gemm", "MatMul"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What to write.

    Attributes:
        pairs: Values that get a pair → whether every reader takes it (else only ``int8`` nodes).
        reads: (node, value) of the reads that go through the pair where not every reader does.
        ranges: Value with a pair → the range of its group.
        folded: ReLU and Clip nodes to bridge.
        int8: Names of the nodes whose weights are quantized.
    """

    pairs: Mapping[str, bool]
    reads: frozenset[tuple[str, str]]
    ranges: Mapping[str, Range]
    folded: tuple[str, ...]
    int8: frozenset[str]


def place(facts: GraphFacts, schemes: Iterable[OpScheme], ranges: Ranges, rules: QuantRules) -> Placement:
    """Decide where pairs stand.

    Args:
        facts: The float graph's facts.
        schemes: One scheme per node, as :func:`edgepe.quantize.assign.assign` returns them.
        ranges: Calibrated ranges of every value that an int8 node reads or writes.
        rules: The target's rules; the style is ``ort`` or ``tensorrt``.

    Raises:
        ValueError: The style writes no ONNX, or a range is missing.
    """
    names = {scheme.node for scheme in schemes if is_static(scheme)}
    int8 = [op for op in facts.ops if op.node in names]
    if rules.style == "tensorrt":
        reads = {(op.node, name) for op in int8 for name in tensorrt_reads(facts, op)}
        pairs = {name: False for _, name in sorted(reads)}
        folded: list[OpFacts] = []
    elif rules.style == "ort":
        folded = [op for op in int8 if folds_into(facts, op, rules) is not None]
        reads = {(op.node, name) for op in int8 if op not in folded for name in facts.activations(op)}
        pairs = {name: False for _, name in sorted(reads)} | {
            name: True for op in int8 for name in written(facts, op, rules, folded)
        }
    else:
        raise ValueError(f"the style {rules.style!r} writes no ONNX")
    groups = shared(facts, int8, pairs)
    spans = joined(groups, ranges)
    ordered = [name for name in facts.tensors if name in pairs]
    return Placement(
        pairs={name: pairs[name] for name in ordered},
        reads=frozenset(reads),
        ranges={name: spans[groups[name]] for name in ordered},
        folded=tuple(op.node for op in folded),
        int8=frozenset(names),
    )


def tensorrt_reads(facts: GraphFacts, op: OpFacts) -> tuple[str, ...]:
    """Return the values that a node reads through a pair in TensorRT's style."""
    if op.op == "Add":
        branch = residual_input(facts, op)
        return () if branch is None else (branch,)
    return facts.activations(op)


def written(facts: GraphFacts, op: OpFacts, rules: QuantRules, folded: list[OpFacts]) -> tuple[str, ...]:
    """Return the outputs of an int8 node that get a pair in onnxruntime's style."""
    names = []
    for name in op.outputs:
        reader = facts.only_reader(name)
        bridged = reader is not None and reader in folded
        bare = name in facts.outputs and not rules.quantize_outputs and not facts.readers(name)
        if facts.tensors[name].is_float and not bridged and not (bare and op.op in FUSE_WITHOUT_OUTPUT):
            names.append(name)
    return tuple(names)


def shared(facts: GraphFacts, int8: Iterable[OpFacts], pairs: Mapping[str, bool]) -> dict[str, str]:
    """Return value → the value that stands for its group (rule 4); values without a pair join nothing."""
    parent = {name: name for name in pairs}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for op in int8:
        if op.op in MOVERS and len(facts.activations(op)) == 1:
            joined_names = [name for name in (*facts.activations(op), *op.outputs) if name in parent]
            for name in joined_names[1:]:
                parent[root(name)] = root(joined_names[0])
    return {name: root(name) for name in pairs}


def joined(groups: Mapping[str, str], ranges: Ranges) -> dict[str, Range]:
    """Return group → the range that holds the range of each of its values.

    Raises:
        ValueError: A value has no range; ``assign`` avoids that where it is given the ranges.
    """
    missing = [name for name in groups if name not in ranges]
    if missing:
        raise ValueError(f"no calibrated range of {', '.join(missing)}")
    spans: dict[str, Range] = {}
    for name, group in groups.items():
        spans[group] = spans[group].join(ranges[name]) if group in spans else ranges[name]
    return spans
