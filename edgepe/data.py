"""Calibration and evaluation sets: raw arrays as the application has them, before preprocessing.

Rules kept here:
1. Nothing is made up: absent, empty, constant or non-finite data is an error, never replaced.
2. A pickle is never loaded; a function of the user's own runs with the user's rights.
3. A file may call the only input ``x``; the labels are ``y``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgepe.data_sources import LABELS, read_arrays
from edgepe.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from device_agent.wire.manifest import TensorSpec

__all__ = ["Dataset", "check_against", "check_informative", "check_labels", "dataset", "load_dataset"]

ONLY_INPUT = "x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Raw inputs and, where there are any, labels.

    Attributes:
        inputs: Input name → array ``[samples, …]``, raw.
        labels: Array ``[samples, …]``, or None.
        digest: SHA-256 over names, types, shapes and values, hex.
    """

    inputs: Mapping[str, NDArray[np.generic]]
    labels: NDArray[np.generic] | None
    digest: str

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def batches(self, size: int) -> Iterator[Mapping[str, NDArray[np.generic]]]:
        """Yield the inputs in slices of ``size`` samples; the last may be smaller."""
        for start in range(0, len(self), size):
            yield {name: array[start : start + size] for name, array in self.inputs.items()}

    def head(self, count: int) -> Dataset:
        """Return the first ``count`` samples."""
        return dataset(
            {name: array[:count] for name, array in self.inputs.items()},
            None if self.labels is None else self.labels[:count],
        )


def dataset(inputs: Mapping[str, NDArray[np.generic]], labels: NDArray[np.generic] | None = None) -> Dataset:
    """Return a set of arrays already in memory, checked.

    Raises:
        DataError: It is empty, ragged, not numeric or not finite.
    """
    arrays = {name: np.ascontiguousarray(inputs[name]) for name in sorted(inputs)}
    _check_arrays(arrays, labels)
    return Dataset(inputs=arrays, labels=labels, digest=_digest(arrays, labels))


def load_dataset(source: str | Path, *, labels: tuple[str, ...] = ()) -> Dataset:
    """Return the set that a file, a folder or a function of the user's gives.

    Args:
        source: An ``.npz`` file that holds ``x`` (or one array per input name) and, where there are labels, ``y``; a
            folder of one ``.npy`` file per array; a folder with one subfolder of images per class; or
            ``module:function``.
        labels: Names of the classes in the order of the outputs: the subfolders' names are looked up there. Without
            them, classes are numbered in the order of their names.

    Raises:
        MissingFileError: There is no such file.
        MissingExtraError: Images need Pillow.
        UsageError: There is no such function.
        DataError: Its data is empty, ragged, not numeric, not finite, or of an unknown class.
    """
    arrays = read_arrays(source, labels=labels)
    given = arrays.pop(LABELS, None)
    if not arrays:
        raise DataError(
            f"{source} holds no inputs",
            expected="an array 'x', or one per input name",
            got=", ".join([LABELS] if given is not None else ["nothing"]),
            next_step="np.savez(path, x=…, y=…)",
        )
    return dataset(arrays, given)


def check_against(data: Dataset, specs: tuple[TensorSpec, ...]) -> Dataset:
    """Return the set with its arrays named like the model's inputs, in their order.

    Raises:
        DataError: Names or raw shapes do not fit.
    """
    names = tuple(spec.name for spec in specs)
    inputs = data.inputs
    if len(specs) == 1 and tuple(inputs) == (ONLY_INPUT,):
        inputs = {names[0]: inputs[ONLY_INPUT]}
    if set(inputs) != set(names):
        raise DataError(
            "the data does not have the model's inputs",
            expected=", ".join(names),
            got=", ".join(inputs),
            next_step=f"name the arrays like the inputs{', or the only one x' if len(specs) == 1 else ''}",
        )
    for spec in specs:
        _check_shape(spec, inputs[spec.name].shape)
    return replace(data, inputs={name: inputs[name] for name in names})


def check_informative(data: Dataset) -> None:
    """Refuse a set that calibration could learn nothing from.

    Raises:
        DataError: An input holds one value only; whole numbers may (a mask of ones), where another input varies.
    """
    constant = [name for name, array in data.inputs.items() if array.min() == array.max()]
    for name in constant:
        array = data.inputs[name]
        if array.dtype.kind == "f" or len(constant) == len(data.inputs):
            raise DataError(
                f"the calibration data of '{name}' is constant",
                expected="samples that vary as the application's do",
                got=f"{array.shape[0]} samples, every value {array.flat[0]}",
                next_step="record real samples; edgepe makes none up",
            )


def check_labels(labels: NDArray[np.generic], classes: int, *, rank: int = 1) -> None:
    """Refuse class labels that no output column stands for.

    Args:
        labels: Class indices, one per sample, or per place of each sample.
        classes: Number of output columns.
        rank: Axes that the labels ought to have.

    Raises:
        DataError: A label is no whole number in ``0 … classes - 1``, or the axes are others.
    """
    whole = np.issubdtype(labels.dtype, np.integer) or bool(np.all(np.mod(labels.astype(np.float64), 1) == 0))
    lowest, highest = labels.min(), labels.max()
    if labels.ndim != rank or not whole or lowest < 0 or highest >= classes:
        raise DataError(
            "labels are out of range",
            expected=f"{rank} axes of whole numbers in 0 … {classes - 1}, for the model has {classes} classes",
            got=f"shape {labels.shape}, values {lowest} … {highest}",
            next_step="give class indices as 'y'",
        )


def _check_shape(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    wanted = spec.raw_shape
    rest = tuple(wanted[1:])
    if len(shape) != len(wanted) or any(size not in {-1, got} for size, got in zip(rest, shape[1:], strict=False)):
        shown = ", ".join("any" if size == -1 else str(size) for size in rest)
        raise DataError(
            f"the data of input '{spec.name}' has another shape than the model",
            expected=f"(samples, {shown})",
            got=f"{shape}",
            next_step="give raw samples in the layout of the model, or declare theirs in --signature",
        )


def _check_arrays(arrays: Mapping[str, NDArray[np.generic]], labels: NDArray[np.generic] | None) -> None:
    everything = dict(arrays) | ({} if labels is None else {LABELS: labels})
    for name, array in everything.items():
        if array.dtype.kind not in "fiub":
            raise DataError(f"'{name}' is not numeric", expected="numbers", got=str(array.dtype))
        if array.ndim == 0 or array.size == 0:
            raise DataError(f"'{name}' is empty", expected="at least one sample", got=f"shape {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise DataError(
                f"'{name}' is not finite",
                expected="finite numbers",
                got=f"{bad} of {array.size} values are NaN or infinite",
                next_step="remove those samples; edgepe fills nothing in",
            )
    counts = {name: len(array) for name, array in everything.items()}
    if len(set(counts.values())) > 1:
        raise DataError("the arrays have different numbers of samples", expected="one number", got=f"{counts}")


def _digest(arrays: Mapping[str, NDArray[np.generic]], labels: NDArray[np.generic] | None) -> str:
    sha = hashlib.sha256()
    for name, array in [*arrays.items(), *([] if labels is None else [(LABELS, labels)])]:
        sha.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
