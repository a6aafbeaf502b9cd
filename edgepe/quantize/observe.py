"""A float graph that tells, of each of its values, only what calibration needs.

Rules kept here:
1. A large value never leaves the runtime: the graph itself takes its least, its largest and its sum, and for a
   histogram every k-th element of each sample, where k has no divisor in common with the value's size and so walks
   over all channels, rows and columns. The span is always that of every element.
2. A small value leaves it whole.
3. A sum that is not finite gives a value away whose elements are not; that value alone is then looked at whole.
4. The graph that is handed in is not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from device_agent.runtime.onnxruntime_ import first_line, foreign_errors
from edgepe.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["WHOLE", "Observation", "ObservedGraph"]

WHOLE = 8192
"""Elements of one sample up to which a value is looked at whole; of a larger one at most as many are counted."""

ERRORS_ONLY = 3  # onnxruntime's log severity
PREFIX = "edgepe.observed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one batch tells of one value.

    Attributes:
        name: The value.
        low: Least element.
        high: Largest element.
        values: The elements to count: all, or a fair part; None where none were asked for.
    """

    name: str
    low: float
    high: float
    values: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thin:
    """A value that the graph reduces, and the outputs it does so in."""

    name: str
    low: str
    high: str
    total: str
    part: str


class ObservedGraph:
    """A float graph, opened to be run over calibration samples.

    Args:
        model: The float graph.
        bins: Of the histograms that the observations go into; 0 asks for spans only.
    """

    def __init__(self, model: ir.Model, *, bins: int) -> None:
        self._proto = ir.serde.serialize_model(model)
        self._order = [value for value in _values(model) if value.dtype in (ir.DataType.FLOAT, None)]
        self._inputs = {str(value.name) for value in model.graph.inputs}
        self._thin: dict[str, Thin] = {}
        observed = onnx.ModelProto()
        observed.CopyFrom(self._proto)
        have = {output.name for output in observed.graph.output}
        for place, value in enumerate(self._order):
            name = str(value.name)
            if _elements(value) > WHOLE and value.dtype is not None:
                self._thin[name] = _reduce(observed.graph, value, place, sampled=bool(bins))
            elif name not in have | self._inputs:
                observed.graph.output.append(onnx.ValueInfoProto(name=name))
        self._session = _open(observed)
        self._names = [output.name for output in self._session.get_outputs() if output.name not in self._thin]

    def observe(self, batch: Mapping[str, NDArray[Any]]) -> Iterator[Observation]:
        """Run one batch and yield what it tells, value by value in the order of the graph.

        Raises:
            DataError: The batch does not fit the graph, or an activation is not finite.
        """
        got = dict(batch) | _run(self._session, self._names, batch)
        for value in self._order:
            name = str(value.name)
            thin = self._thin.get(name)
            if thin is not None:
                yield self._reduced(thin, got, batch)
            elif name in got and got[name].dtype == np.float32 and got[name].size:
                yield whole(name, got[name])

    def _reduced(self, thin: Thin, got: Mapping[str, NDArray[Any]], batch: Mapping[str, NDArray[Any]]) -> Observation:
        if not np.isfinite(got[thin.total]):  # also a sum of finite elements may be too large
            return whole(thin.name, self._look(thin.name, batch))
        part = got[thin.part] if thin.part else None
        return Observation(name=thin.name, low=float(got[thin.low]), high=float(got[thin.high]), values=part)

    def _look(self, name: str, batch: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        if name in self._inputs:
            return batch[name]
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        if name not in {output.name for output in proto.graph.output}:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
        return _run(_open(proto), [name], batch)[name]


def whole(name: str, array: NDArray[np.float32]) -> Observation:
    """Return what a whole array tells.

    Raises:
        DataError: An element is infinite or NaN.
    """
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # both spread NaN; cheaper than looking at each
        bad = int(array.size - np.isfinite(array).sum())
        raise DataError(
            f"The activation {name!r} is not finite on the calibration data.",
            expected="finite numbers",
            got=f"{bad} of {array.size} are infinite or NaN",
            next_step="check the weights and the preprocessing of the model",
        )
    return Observation(name=name, low=low, high=high, values=array)


def stride(elements: int) -> int:
    """Return the step that takes at most ``WHOLE`` of so many elements and has no divisor in common with them.

    >>> stride(3 * 224 * 224)
    19
    """
    step = -(-elements // WHOLE)
    while gcd(step, elements) != 1:
        step += 1
    return step


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    for node in model.graph:
        yield from (value for value in node.outputs if value.name)


def _elements(value: ir.Value) -> int:
    """Return the elements of one sample; an open dimension counts as 1."""
    return 0 if value.shape is None else prod(size if isinstance(size, int) else 1 for size in value.shape)


def _reduce(graph: onnx.GraphProto, value: ir.Value, place: int, *, sampled: bool) -> Thin:
    name = str(value.name)
    thin = Thin(
        name=name,
        low=f"{PREFIX}.{place}.low",
        high=f"{PREFIX}.{place}.high",
        total=f"{PREFIX}.{place}.total",
        part=f"{PREFIX}.{place}.part" if sampled else "",
    )
    for op, made in (("ReduceMin", thin.low), ("ReduceMax", thin.high), ("ReduceSum", thin.total)):
        graph.node.append(helper.make_node(op, [name], [made], keepdims=0))
    if sampled:
        _sample(graph, value, thin.part)
    graph.output.extend(onnx.ValueInfoProto(name=made) for made in (thin.low, thin.high, thin.total, thin.part) if made)
    return thin


def _sample(graph: onnx.GraphProto, value: ir.Value, part: str) -> None:
    sizes = list(value.shape or ())
    rows = len(sizes) > 1  # each row is a sample: what is counted then does not depend on where batches are cut
    step = stride(prod(size if isinstance(size, int) else 1 for size in (sizes[1:] if rows else sizes)))
    constants = {
        "flat": [0, -1] if rows else [-1],
        "start": [0],
        "end": [np.iinfo(np.int64).max],
        "axis": [1 if rows else 0],
        "step": [step],
    }
    for key, numbers in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(numbers, np.int64), f"{part}.{key}"))
    graph.node.append(helper.make_node("Reshape", [str(value.name), f"{part}.flat"], [f"{part}.rows"]))
    names = [f"{part}.{key}" for key in ("rows", "start", "end", "axis", "step")]
    graph.node.append(helper.make_node("Slice", names, [part]))


def _open(proto: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # A value is reduced as soon as it is there and then freed; the default order puts that off and holds them all.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, names: list[str], batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    try:
        return dict(zip(names, session.run(names, dict(batch)), strict=True))
    except foreign_errors() as error:
        raise DataError(
            f"The calibration data does not fit the model: {first_line(error)}",
            expected={node.name: (node.type, node.shape) for node in session.get_inputs()},
            got={name: (array.dtype.name, array.shape) for name, array in batch.items()},
        ) from error
