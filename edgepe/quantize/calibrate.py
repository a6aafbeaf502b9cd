"""Ranges of activations, taken from the user's own samples.

Rules kept here:
1. Calibration streams: one batch is in memory at a time, and a value costs a fixed number of bytes however many samples
   pass (two floats for min-max, ``BINS`` counters for percentiles).
2. The float graph runs in onnxruntime, with each float value added as an output.
3. A range always holds zero, so that padding and ReLU's floor are exact in int8.
4. Nothing is made up: no samples, or an activation that is not finite, is an error that names the value.
5. Same batches, same ranges, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from device_agent.runtime.onnxruntime_ import first_line, foreign_errors
from edgepe.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["BINS", "Method", "MinMax", "Observer", "Percentile", "Range", "Ranges", "collect_ranges"]

BINS = 4096
"""Counters of one percentile histogram; even, so that zero stays an edge when the reach doubles."""

SMALLEST_REACH = 2.0**-60
ERRORS_ONLY = 3  # onnxruntime's log severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a value was seen to span; zero is always inside.

    Raises:
        ValueError: A bound is not finite, or zero lies outside.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"a range must be finite, got {self.low}..{self.high}")
        if not self.low <= 0.0 <= self.high:
            raise ValueError(f"a range must hold zero, got {self.low}..{self.high}")

    @classmethod
    def holding_zero(cls, low: float, high: float) -> Range:
        """Make the range of two bounds, widened to zero where needed."""
        return cls(low=min(low, 0.0), high=max(high, 0.0))

    def join(self, other: Range) -> Range:
        """Return the smallest range that holds both."""
        return Range(low=min(self.low, other.low), high=max(self.high, other.high))


Ranges: TypeAlias = Mapping[str, Range]
"""Value name → range."""


class Observer(Protocol):
    """Keeps what is needed of one value, batch after batch."""

    def update(self, values: NDArray[np.float32]) -> None:
        """Take one batch's finite values, of any shape, not empty."""

    def range(self) -> Range:
        """Return the range of all that was seen."""


class Method(Protocol):
    """A way to turn what was seen into a range."""

    def observer(self) -> Observer:
        """Make the observer of one value."""


@dataclass(frozen=True, slots=True)
class MinMax:
    """The whole span: nothing ever clips on the calibration data."""

    def observer(self) -> Observer:
        """Make the observer of one value."""
        return MinMaxObserver()


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """The central part of what was seen; the tails clip and everything else gets finer steps.

    Attributes:
        percent: Part kept, split evenly over both tails; above 50 and at most 100.

    Raises:
        ValueError: The percentage is outside.
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 < self.percent <= 100.0:  # noqa: PLR2004 - below it the two tails would cross
            raise ValueError(f"percent must lie in (50, 100], got {self.percent}")

    def observer(self) -> Observer:
        """Make the observer of one value."""
        return PercentileObserver(percent=self.percent)


class MinMaxObserver:
    """Running minimum and maximum."""

    def __init__(self) -> None:
        self._low = math.inf
        self._high = -math.inf

    def update(self, values: NDArray[np.float32]) -> None:
        """Take one batch's values."""
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def range(self) -> Range:
        """Return the span."""
        return Range.holding_zero(self._low, self._high)


class PercentileObserver:
    """A histogram of ``BINS`` equal bins over [-reach, reach], where reach is a power of two.

    When a value lies beyond the reach, the reach doubles and neighbouring bins merge: no sample is seen twice, and the
    result does not depend on where batches were cut.
    """

    def __init__(self, *, percent: float) -> None:
        self._tail = (100.0 - percent) / 200.0
        self._counts = np.zeros(BINS, np.int64)
        self._reach = 0.0
        self._span = MinMaxObserver()

    def update(self, values: NDArray[np.float32]) -> None:
        """Take one batch's values."""
        self._span.update(values)
        self._grow(float(np.abs(values).max()))
        places = values.ravel() * np.float32(BINS / 2 / self._reach) + np.float32(BINS / 2)
        self._counts += np.bincount(np.minimum(places.astype(np.int32), BINS - 1), minlength=BINS)

    def _grow(self, peak: float) -> None:
        if self._reach == 0.0:
            self._reach = power_above(peak)
        while peak > self._reach:
            merged = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.concatenate([np.zeros(BINS // 4, np.int64), merged, np.zeros(BINS // 4, np.int64)])
            self._reach *= 2.0

    def range(self) -> Range:
        """Return the central part, never wider than the span."""
        whole = self._span.range()
        edges = np.linspace(-self._reach, self._reach, BINS + 1)
        total = np.concatenate([[0], np.cumsum(self._counts)])
        allowed = self._tail * total[-1]
        low = edges[int(np.searchsorted(total, allowed, side="right")) - 1]
        high = edges[int(np.searchsorted(total, total[-1] - allowed, side="left"))]
        return Range.holding_zero(max(float(low), whole.low), min(float(high), whole.high))


def power_above(peak: float) -> float:
    """Return the smallest power of two that is not below ``peak``, at least ``SMALLEST_REACH``."""
    return float(2.0 ** math.ceil(math.log2(max(peak, SMALLEST_REACH))))


def collect_ranges(
    model: ir.Model,
    batches: Iterable[Mapping[str, NDArray[Any]]],
    *,
    method: Method | None = None,
    progress: Callable[[int], None] | None = None,
) -> Ranges:
    """Run the float graph over the samples and return each float value's range.

    Args:
        model: The float graph; it is not changed.
        batches: Preprocessed inputs, one array per graph input, batch first.
        method: How ranges are taken; min-max where absent.
        progress: Called after each batch with the number of samples seen so far.

    Returns:
        Value name → range, for graph inputs, intermediate values and outputs of dtype float32.

    Raises:
        DataError: No batch came, a batch does not fit the graph, or an activation is not finite.
    """
    chosen = method if method is not None else MinMax()
    session = observing_session(model)
    names = [output.name for output in session.get_outputs()]
    order = [str(value.name) for value in model.graph.inputs] + [
        str(value.name) for node in model.graph for value in node.outputs
    ]
    observers: dict[str, Observer] = {}
    samples = 0
    for batch in batches:
        values = dict(batch) | run_batch(session, names, batch)
        for name in order:  # the first value that is not finite is the cause, those behind it are its consequence
            array = values.get(name)
            if array is not None and array.dtype == np.float32 and array.size:
                check_finite(name, array)
                observers.setdefault(name, chosen.observer()).update(array)
        samples += len(next(iter(batch.values())))
        if progress is not None:
            progress(samples)
    if not samples:
        raise DataError("There are no calibration samples.", expected="at least one", got=0)
    return {name: observer.range() for name, observer in observers.items()}


def observing_session(model: ir.Model) -> ort.InferenceSession:
    """Open the float graph with each of its float values as an output (rule 2)."""
    proto = ir.serde.serialize_model(model)
    have = {output.name for output in proto.graph.output}
    for node in model.graph:
        for value in node.outputs:
            if value.name and value.name not in have and value.dtype in (ir.DataType.FLOAT, None):
                proto.graph.output.append(onnx.ValueInfoProto(name=value.name))
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_batch(
    session: ort.InferenceSession, names: list[str], batch: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Run one batch.

    Raises:
        DataError: onnxruntime refuses the feeds.
    """
    try:
        return dict(zip(names, session.run(names, dict(batch)), strict=True))
    except foreign_errors() as error:
        raise DataError(
            f"The calibration data does not fit the model: {first_line(error)}",
            expected={node.name: (node.type, node.shape) for node in session.get_inputs()},
            got={name: (array.dtype.name, array.shape) for name, array in batch.items()},
        ) from error


def check_finite(name: str, array: NDArray[np.float32]) -> None:
    """Refuse infinities and NaN.

    Raises:
        DataError: Naming the value.
    """
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):  # both spread NaN; cheaper than looking at each
        bad = int(array.size - np.isfinite(array).sum())
        raise DataError(
            f"The activation {name!r} is not finite on the calibration data.",
            expected="finite numbers",
            got=f"{bad} of {array.size} are infinite or NaN",
            next_step="check the weights and the preprocessing of the model",
        )
