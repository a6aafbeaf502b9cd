"""Which value of an artifact is the output of which operator of the float graph.

Rules kept here:
1. ONNX: nodes keep their names through quantization, so they are paired by name. An int8 node ends behind its
   Quantize/Dequantize pair; a ReLU or Clip that folded away ends where its producer does.
2. TFLite: the lowering gives a tensor the name of the ONNX value that it holds, in the float file and in the int8
   file; both have the same layout, so a pair is compared as it lies.
3. An output of a graph stays what it is; probes are further outputs behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # protobuf ships no types

from edgepe.errors import VerifyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from edgepe.verify.parity import Step

__all__ = ["Probe", "Probed", "onnx_probes", "tensor_probes"]

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FOLDS = frozenset({"Relu", "Clip"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One pair to compare.

    Attributes:
        node: Name of the node in the float graph.
        op: Its type.
        fused: Nodes behind it whose work the artifact does in it.
        reference: Name of its output in the float model.
        artifact: Name of its output in the artifact.
    """

    node: str
    op: str
    fused: tuple[str, ...]
    reference: str
    artifact: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """Two models that give out what the pairs name.

    Attributes:
        reference: File of the float model.
        artifact: File of the artifact.
        probes: The pairs, in the order of the graph.
        skipped: (node, reason) of the operators without one.
    """

    reference: Path
    artifact: Path
    probes: tuple[Probe, ...]
    skipped: tuple[tuple[str, str], ...]


def tensor_probes(reference: Path, artifact: Path, graph: Sequence[Step], folder: Path) -> Probed:  # noqa: ARG001 - one interface with onnx_probes
    """Pair the tensors of two TFLite files by name; which of them exist, the child finds out."""
    probes = tuple(
        Probe(node=step.node, op=step.op, fused=(), reference=step.value, artifact=step.value) for step in graph
    )
    return Probed(reference=reference.absolute(), artifact=artifact.absolute(), probes=probes, skipped=())


def onnx_probes(reference: Path, artifact: Path, graph: Sequence[Step], folder: Path) -> Probed:
    """Pair the nodes of two ONNX files by name, and write copies of both that give the pairs out.

    Raises:
        VerifyError: A file is no ONNX.
    """
    left, right = _load(reference), _load(artifact)
    probes, skipped = pair_nodes(left.graph, right.graph, graph)
    copies = folder / "reference.onnx", folder / "artifact.onnx"
    copies[0].write_bytes(with_outputs(left, [probe.reference for probe in probes]))
    copies[1].write_bytes(with_outputs(right, [probe.artifact for probe in probes]))
    return Probed(reference=copies[0], artifact=copies[1], probes=probes, skipped=skipped)


def pair_nodes(
    left: onnx.GraphProto, right: onnx.GraphProto, graph: Sequence[Step]
) -> tuple[tuple[Probe, ...], tuple[tuple[str, str], ...]]:
    """Return the pairs of a float graph and an artifact's, and the nodes that have none."""
    made = {node.name: node for node in right.node if node.name}
    originals = {node.name: node for node in left.node}
    readers, outputs = _readers(left), {output.name for output in left.output}
    later, ends = _readers(right), {output.name for output in right.output}
    probes: list[Probe] = []
    skipped: list[tuple[str, str]] = []
    folded: set[str] = set()
    for step in graph:
        if step.node in folded:
            continue
        if step.node not in made or step.node not in originals:
            skipped.append((step.node, "the artifact has no node of its name"))
            continue
        tail = _folded_tail(originals[step.node], made, readers, outputs)
        folded.update(node.name for node in tail)
        probes.append(
            Probe(
                node=step.node,
                op=step.op,
                fused=tuple(node.name for node in tail),
                reference=(tail[-1] if tail else originals[step.node]).output[0],
                artifact=_end(made[step.node], later, ends),
            )
        )
    return tuple(probes), tuple(skipped)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """Return the bytes of a copy of a model that gives these values out too; their types the runtime infers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    fresh = [name for name in dict.fromkeys(names) if name not in present]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in fresh)
    return bytes(copy.SerializeToString())


def _folded_tail(
    node: onnx.NodeProto,
    made: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, Sequence[onnx.NodeProto]],
    outputs: set[str],
) -> tuple[onnx.NodeProto, ...]:
    """Return the ReLU and Clip nodes behind a node that the artifact no longer has."""
    tail: list[onnx.NodeProto] = []
    while node.output[0] not in outputs:
        behind = readers.get(node.output[0], ())
        if len(behind) != 1 or behind[0].op_type not in FOLDS or behind[0].name in made:
            break
        node = behind[0]
        tail.append(node)
    return tuple(tail)


def _end(node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]], outputs: set[str]) -> str:
    """Return the value where an artifact's node ends: behind its pair where that alone reads it."""
    value = node.output[0]
    for wanted in (QUANTIZE, DEQUANTIZE):
        behind = readers.get(value, ())
        if len(behind) != 1 or behind[0].op_type != wanted or value in outputs:
            return str(node.output[0])
        value = behind[0].output[0]
    return str(value)


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise VerifyError(f"{path.name} cannot be probed.", expected="an ONNX file", got=str(error)) from error
