"""Raw samples on their way into a graph: what shape they give a model, and how they become its inputs.

Rules kept here:
1. The code that prepares a sample here is the code that prepares it on the device.
2. A factory has no shapes of its own: it gets those of the data, in the channel-first order of the float graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from device_agent.errors import ModelError
from device_agent.runtime.preprocess import prepare
from edgepe.capture.captured import Port
from edgepe.data import Dataset, check_against, check_labels
from edgepe.errors import DataError
from edgepe.metrics import AGREEMENT, Metric, class_axis, metric
from edgepe.signature import channel_first, spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from device_agent.wire.manifest import TensorSpec
    from edgepe.capture.captured import Captured
    from edgepe.signature import Signature
    from edgepe.stages.candidate import Edge

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Samples", "choose_metric", "input_specs", "ports_of"]

ONLY_INPUT = "x"
BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """A set of samples that fits the model.

    Attributes:
        data: The raw set, its arrays named like the inputs.
        specs: The inputs, as the samples are to be prepared for.
    """

    data: Dataset
    specs: tuple[TensorSpec, ...]

    @classmethod
    def fitting(cls, data: Dataset, specs: tuple[TensorSpec, ...]) -> Samples:
        """Return the set for these inputs, whatever the batch.

        Raises:
            DataError: Names or shapes do not fit.
        """
        return cls(data=check_against(data, specs), specs=tuple(_any_batch(each) for each in specs))

    def prepared(self) -> dict[str, NDArray[Any]]:
        """Return the inputs after preprocessing, samples first.

        Raises:
            DataError: The preprocessing does not fit the data.
        """
        return _prepared(self.data.inputs, self.specs)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> str:
        """Digest of the samples and of what is done to them, hex."""
        return hashlib.sha256(repr((self.data.digest, tuple(self.data.inputs), self.specs)).encode()).hexdigest()

    def batches(self, size: int = BATCH, first: int = 0) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the prepared inputs, ``size`` samples at a time, from sample ``first`` on."""
        for start in range(first, len(self.data), size):
            raw = {name: array[start : start + size] for name, array in self.data.inputs.items()}
            yield _prepared(raw, self.specs)


def ports_of(data: Dataset, signature: Signature) -> tuple[Port, ...]:
    """Return what a factory's module is called with, by the data: names, types, channel-first shapes, open batch."""
    only = len(data.inputs) == 1
    ports = []
    for name, array in data.inputs.items():
        declared = signature.of(name, only=only)
        plain = channel_first(array.ndim)
        raw = declared.layout if declared is not None and declared.layout else plain
        fits = sorted(raw) == sorted(plain)
        sizes = tuple(array.shape[raw.index(letter)] for letter in plain) if plain and fits else array.shape
        dtype = "int64" if array.dtype.kind in "iub" and declared is None else "float32"
        ports.append(Port(name="" if only and name == ONLY_INPUT else name, dtype=dtype, shape=(-1, *sizes[1:])))
    return tuple(ports)


def input_specs(edges: tuple[Edge, ...], data: Dataset, signature: Signature) -> tuple[TensorSpec, ...]:
    """Return the specification of an artifact's inputs: how they lie, and what becomes of the raw value."""
    only = len(edges) == 1
    signature.check_names(tuple(edge.name for edge in edges))
    return tuple(
        spec(
            edge.name,
            edge.dtype,
            edge.shape,
            signature.of(edge.name, only=only),
            layout=edge.layout,
            raw_dtype=_raw_dtype(data, edge.name),
        )
        for edge in edges
    )


def choose_metric(name: str | None, data: Dataset, captured: Captured) -> Metric:
    """Return the metric asked for; else accuracy for class labels, mse for other labels, agreement for none.

    Raises:
        DataError: Labels are out of range of the model's outputs.
    """
    labels = data.labels
    if name is None:
        whole = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub"
        name = AGREEMENT if labels is None else "accuracy" if whole else "mse"
    chosen = metric(name)
    shape = captured.outputs[0].shape
    axis = class_axis(len(shape))
    if chosen.classifies and labels is not None and axis > 0 and shape[axis] > 1:
        check_labels(labels, shape[axis], rank=len(shape) - 1)
    return chosen


def _any_batch(each: TensorSpec) -> TensorSpec:
    return replace(each, shape=(-1, *each.shape[1:])) if each.shape else each


def _raw_dtype(data: Dataset, name: str) -> str:
    array = data.inputs.get(name)
    return str(next(iter(data.inputs.values())).dtype if array is None else array.dtype)


def _prepared(raw: Arrays, specs: tuple[TensorSpec, ...]) -> dict[str, NDArray[Any]]:
    try:
        return {each.name: np.ascontiguousarray(prepare(raw[each.name], each)) for each in specs}
    except ModelError as error:
        raise DataError(
            error.what, expected=error.expected, got=error.got, next_step="mend the signature or the data"
        ) from error
