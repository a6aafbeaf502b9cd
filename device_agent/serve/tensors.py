"""Tensors of the Open Inference Protocol v2 in JSON (the section "Tensor Data" of its REST API).

Rules kept here:
1. ``shape`` and ``datatype`` are what the client says; data that is not exactly that is refused, never converted
   with a loss.
2. NaN and infinity are refused both ways: JSON has no word for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from device_agent.errors import ModelError

if TYPE_CHECKING:
    from device_agent.runtime.base import Array

__all__ = ["DATATYPES", "TensorRequest", "datatype_of", "from_json", "read_tensor", "to_json"]

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""The protocol's datatypes and numpy's names for them."""

NAMES = {dtype: datatype for datatype, dtype in DATATYPES.items()}
MAX_RANK = 8
SOURCES = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}
"""Kind of the wanted dtype → kinds of JSON data it takes without loss (bool, int, uint, float)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRequest:
    """One entry of a request's ``inputs``, types checked."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[object]


def datatype_of(dtype: str) -> str:
    """Return the protocol's name of a numpy dtype."""
    return NAMES[dtype]


def read_tensor(value: object) -> TensorRequest:
    """Check the form of one entry of ``inputs``.

    Raises:
        ModelError: Naming the field that is wrong.
    """
    if not isinstance(value, dict):
        raise ModelError("An input is not an object.", expected="{name, shape, datatype, data}")
    name, datatype, shape, data = (value.get(key) for key in ("name", "datatype", "shape", "data"))
    if not isinstance(name, str):
        raise ModelError("An input has no name.")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise ModelError(f"Input {name!r} has an unknown datatype.", expected=", ".join(DATATYPES), got=datatype)
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(type(n) is int and n > 0 for n in shape):
        raise ModelError(f"Input {name!r} has no valid shape.", expected="a list of positive integers", got=shape)
    if not isinstance(data, list):
        raise ModelError(f"Input {name!r} has no data.", expected="a list, flat in row-major order or nested")
    return TensorRequest(name=name, datatype=datatype, shape=tuple(shape), data=data)


def from_json(tensor: TensorRequest) -> Array:
    """Make the array that a client means.

    Raises:
        ModelError: The data is ragged, not of the datatype, not finite, or of another size than the shape.
    """
    wanted = np.dtype(DATATYPES[tensor.datatype])
    try:
        found = np.asarray(tensor.data)
    except ValueError as error:
        raise ModelError(f"The data of input {tensor.name!r} is ragged.") from error
    if found.dtype.kind not in SOURCES[wanted.kind] or not in_range(found, wanted):
        raise ModelError(f"The data of input {tensor.name!r} is not {tensor.datatype}.", got=found.dtype.name)
    if found.size != math.prod(tensor.shape) or (found.ndim > 1 and found.shape != tensor.shape):
        raise ModelError(
            f"The data of input {tensor.name!r} does not fill its shape.",
            expected=f"{math.prod(tensor.shape)} values for {list(tensor.shape)}",
            got=f"{found.size} values, nested as {list(found.shape)}",
        )
    return found.astype(wanted).reshape(tensor.shape)


def in_range(found: Array, wanted: np.dtype[Any]) -> bool:
    """Tell whether every value can be held by a dtype."""
    if found.size == 0 or wanted.kind == "b":
        return True
    low, high = float(found.min()), float(found.max())
    if wanted.kind == "f":
        limit = float(np.finfo(wanted).max)
        return -limit <= low and high <= limit  # also false for NaN and infinity
    info = np.iinfo(wanted)
    return int(found.min()) >= info.min and int(found.max()) <= info.max


def to_json(name: str, value: Array) -> dict[str, object]:
    """Return one entry of a response's ``outputs``; the data is flat, in row-major order."""
    return {
        "name": name,
        "datatype": datatype_of(value.dtype.name),
        "shape": list(value.shape),
        "data": value.ravel().tolist(),
    }
