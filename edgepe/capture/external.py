"""Tensors that lie outside the ``.onnx`` file: where they may lie, and how they are brought in.

Rules kept here:
1. External data lies in the model's own folder or below it, as a regular file, links followed; anything else is refused
   before a byte is read.
2. What a tensor claims (offset, length, dimensions) is compared with the file before memory is taken for it.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from onnx import external_data_helper, numpy_helper

from edgepe.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["LARGEST_BYTES", "check_claims", "load_external", "refuse_size"]

LARGEST_BYTES = (1 << 31) - 1
"""A protobuf message can be no larger."""


def load_external(proto: onnx.ModelProto, folder: Path) -> None:
    """Bring external tensors into the model, in place.

    Args:
        proto: The model as read, without its external data.
        folder: The model's folder.

    Raises:
        CaptureError: Data lies outside the folder, is absent, or is smaller than its tensor claims.
    """
    external = [tensor for tensor in _tensors(proto) if external_data_helper.uses_external_data(tensor)]
    refuse_size(proto.ByteSize() + sum(_checked_bytes(tensor, folder) for tensor in external), "the model")
    for tensor in external:
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))


def refuse_size(size: int, what: str) -> None:
    """Refuse what no ONNX file can hold.

    Raises:
        CaptureError: With the size.
    """
    if size > LARGEST_BYTES:
        raise CaptureError(
            f"{what} is larger than an ONNX file can be",
            expected=f"at most {LARGEST_BYTES:,} bytes with its external data",
            got=f"{size:,} bytes",
            next_step="compress the model first; no target of edgepe takes one of this size",
        )


def check_claims(proto: onnx.ModelProto) -> None:
    """Refuse a tensor whose dimensions and bytes disagree, before anything takes memory by its dimensions.

    Raises:
        CaptureError: Naming the tensor.
    """
    for tensor in _tensors(proto):
        try:
            _check_claim(tensor)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise CaptureError(
                f"tensor '{tensor.name}' is damaged",
                expected="as many values as its dimensions say",
                got=str(error),
                next_step="export the model again",
            ) from error


def _check_claim(tensor: onnx.TensorProto) -> None:
    wanted = 0 if tensor.data_type == onnx.TensorProto.STRING else _claimed_bytes(tensor)
    if wanted > LARGEST_BYTES or (tensor.HasField("raw_data") and len(tensor.raw_data) != wanted):
        raise ValueError(f"{wanted:,} bytes claimed, {len(tensor.raw_data):,} there")
    if not tensor.HasField("raw_data"):
        numpy_helper.to_array(tensor)


def _checked_bytes(tensor: onnx.TensorProto, folder: Path) -> int:
    """Return how many bytes a tensor will take from its file."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    path = _inside(said.get("location", ""), folder, tensor.name)
    try:
        offset = int(said.get("offset") or 0)
        length = int(said.get("length") or path.stat().st_size - offset)
        wanted = _claimed_bytes(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise _refused(tensor.name, "whole numbers as offset and length, and a known type", f"{said}") from error
    if offset < 0 or length != wanted or offset + length > path.stat().st_size:
        raise _refused(
            tensor.name,
            f"{wanted:,} bytes, as its type and dimensions say",
            f"{length:,} bytes at {offset:,} of a file of {path.stat().st_size:,}",
        )
    return length


def _claimed_bytes(tensor: onnx.TensorProto) -> int:
    if any(size < 0 for size in tensor.dims):
        raise ValueError("a dimension is negative")
    return int((prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth + 7) // 8)


def _inside(location: str, folder: Path, name: str) -> Path:
    home = folder.resolve()
    path = (home / location).resolve() if location and "\0" not in location else home
    if not path.is_relative_to(home) or path == home:
        raise _refused(name, f"a file in {home}", location or "no location")
    if not path.is_file():
        raise _refused(name, f"the file {location} beside the model", "no such file")
    return path


def _refused(name: str, expected: str, got: str) -> CaptureError:
    return CaptureError(
        f"the external data of tensor '{name}' is refused",
        expected=expected,
        got=got,
        next_step="keep the model and its data in one folder, as they were exported",
    )


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor: initializers and attributes, subgraphs and functions included."""
    graphs, nodes = [proto.graph], [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            graphs.extend([attribute.g] if attribute.HasField("g") else [])
            graphs.extend(attribute.graphs)
