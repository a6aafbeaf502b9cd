"""One ONNX node as the lowerings read it: names and typed attributes.

Rules kept here:
1. An attribute of the wrong kind is refused where it is read, with the node's name.
2. What a node lacks is the empty name, never an index error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepe.errors import UnsupportedOpError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

__all__ = ["Node", "read_node"]

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An ONNX node.

    Attributes:
        name: Its own name, or that of its first output.
        op: Operator type, with its domain where that is not ONNX's own.
        inputs: Value names, empty where an optional input is left out.
        outputs: Value names.
        attributes: Numbers, strings and tuples of numbers; others (tensors, graphs) are left out.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    @property
    def output(self) -> str:
        """Name of the first output."""
        return self.outputs[0]

    def input(self, index: int) -> str:
        """Return the name of an input, empty where there is none."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.refusal(f"attribute '{name}' is no integer", got=value)
        return value

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a list of integers."""
        value = self.attributes.get(name, default)
        if not isinstance(value, tuple):
            raise self.refusal(f"attribute '{name}' is no list of integers", got=value)
        return tuple(int(item) for item in value)

    def number(self, name: str, default: float) -> float:
        """Return a floating-point attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)):
            raise self.refusal(f"attribute '{name}' is no number", got=value)
        return float(value)

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise self.refusal(f"attribute '{name}' is no text", got=value)
        return value

    def refusal(
        self,
        why: str,
        *,
        expected: object = None,
        got: object = None,
        next_step: str = "rewrite this part of the network, or build for a target of format onnx",
    ) -> UnsupportedOpError:
        """Return the error that says why TFLite cannot hold this node."""
        what = f"{self.op} (node '{self.name}') cannot be lowered to TFLite: {why}"
        return UnsupportedOpError(what, op=self.op, node=self.name, expected=expected, got=got, next_step=next_step)


def read_node(node: ir.Node) -> Node:
    """Return the typed view of an onnx-ir node."""
    outputs = tuple(value.name or "" for value in node.outputs)
    return Node(
        name=node.name or outputs[0],
        op=f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type,
        inputs=tuple((value.name or "") if value is not None else "" for value in node.inputs),
        outputs=outputs,
        attributes={name: value for name, attr in node.attributes.items() if (value := _plain(attr.value)) is not None},
    )


def _plain(value: object) -> Attribute | None:
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(item, int) for item in value):
        return tuple(int(item) for item in value)
    if isinstance(value, (tuple, list)) and all(isinstance(item, float) for item in value):
        return tuple(float(item) for item in value)
    return None
