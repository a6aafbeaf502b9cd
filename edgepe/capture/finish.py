"""The last step of every capture: one optimized graph whose ports, types and operators are known.

Rules kept here:
1. Only the batch, the first dimension of an input, may be open; nothing is empty.
2. Every operator is one of ONNX's own and draws nothing: another one is an error that names the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgepe.capture.captured import Captured, Port
from edgepe.capture.cut import cut
from edgepe.capture.shapes import fix_shapes
from edgepe.errors import CaptureError, UnsupportedOpError
from edgepe.graph import optimize
from edgepe.graph.infer_shapes import infer_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["captured_from", "finish", "with_ports"]

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def captured_from(
    model: ir.Model,
    *,
    name: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    outputs: tuple[str, ...] = (),
) -> Captured:
    """Return a graph as a captured model: cut, fixed, optimized, stripped, checked.

    Raises:
        CaptureError: See :func:`finish`.
        UnsupportedOpError: Likewise.
    """
    if outputs:
        infer_shapes(model)
        cut(model, outputs)
    fix_shapes(model, shapes or {})
    return with_ports(finish(model), name=name)


def finish(model: ir.Model) -> ir.Model:
    """Return a graph optimized, stripped and checked.

    Raises:
        CaptureError: A dimension other than the batch is open, one is empty, or a type or shape is not known.
        UnsupportedOpError: An operator is none of ONNX's own.
    """
    infer_shapes(model)
    for value in model.graph.inputs:
        if value.name not in model.graph.initializers:
            _port(value)
    clean = optimize(model)
    _check_operators(clean)
    with_ports(clean, name="")
    return clean


def with_ports(clean: ir.Model, *, name: str) -> Captured:
    """Return an optimized graph with its inputs and outputs as values.

    Raises:
        CaptureError: A dimension other than the batch is open, or a type or shape is not known.
    """
    return Captured(
        name=name,
        model=clean,
        inputs=tuple(_port(value) for value in clean.graph.inputs),
        outputs=tuple(_port(value, open_ok=-1) for value in clean.graph.outputs),
    )


def _check_operators(model: ir.Model) -> None:
    for node in _nodes(model):
        if node.domain not in KNOWN_DOMAINS:
            raise UnsupportedOpError(
                f"node '{node.name}' is of an operator set that is not ONNX's own",
                op=node.op_type,
                node=str(node.name),
                expected="operators of ai.onnx",
                got=f"{node.domain}::{node.op_type}",
                next_step="export without that library's fusions, or cut the graph before it with --outputs",
            )
        if node.op_type in RANDOM:
            raise CaptureError(
                f"node '{node.name}' draws random numbers",
                expected="one deterministic graph",
                got=node.op_type,
                next_step="give the layer that draws a method deterministic() that returns the layer to export",
            )
        for value in node.outputs:
            if value.shape is not None and 0 in list(value.shape):
                raise CaptureError(
                    f"node '{node.name}' ({node.op_type}) computes an empty value",
                    expected="sizes of at least 1",
                    got=f"{value.name}: {_shown(value.shape)}",
                    next_step="give other sizes with --shape",
                )


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(model.graph)


def _port(value: ir.Value, *, open_ok: int = 1) -> Port:
    """Return a value as a port; the first ``open_ok`` dimensions (-1: all) may be open."""
    name, dtype, shape = str(value.name), value.dtype, value.shape
    if dtype is None or shape is None:
        raise CaptureError(
            f"the shape or type of '{name}' is not known",
            expected="a tensor of known type and shape",
            got=f"type {dtype}, shape {shape}",
            next_step=f"give --shape {name}=…",
        )
    shown = _shown(shape)
    if any(isinstance(dim, int) and dim < 1 for dim in shape):
        raise CaptureError(f"'{name}' has an empty dimension", expected="sizes of at least 1", got=f"{name}={shown}")
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in shape)
    if open_ok >= 0 and -1 in dims[open_ok:]:
        raise CaptureError(
            f"input '{name}' has an open dimension besides the batch",
            expected="sizes known at compile time",
            got=f"{name}={shown}",
            next_step=f"give --shape {name}={shown} with a number for each N (-1 keeps the batch open)",
        )
    return Port(name=name, dtype=dtype.numpy().name, shape=dims)


def _shown(shape: ir.Shape) -> str:
    return ",".join(str(dim) if isinstance(dim, int) else "N" for dim in shape)
