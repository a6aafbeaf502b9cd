"""Ranges of activations, taken from the user's own samples.

Rules kept here:
1. Calibration streams: one batch is in memory at a time, and a value costs a fixed number of bytes however many samples
   pass (two floats for min-max, ``BINS`` counters for the methods that look at how values lie).
2. The float graph runs in onnxruntime, which reduces its large values itself (``observe``).
3. A range always holds zero, so that padding and ReLU's floor are exact in int8.
4. Nothing is made up: no samples, or an activation that is not finite, is an error that names the value.
5. Same batches, same ranges, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepe.errors import DataError
from edgepe.quantize.histogram import BINS, Histogram
from edgepe.quantize.methods import DEFAULT, METHODS, Entropy, MeanSquare, Method, MinMax, Percentile, method_named
from edgepe.quantize.observe import ObservedGraph
from edgepe.quantize.ranges import Range, Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    import onnx_ir as ir
    from numpy.typing import NDArray

__all__ = [
    "BINS",
    "DEFAULT",
    "METHODS",
    "Entropy",
    "MeanSquare",
    "Method",
    "MinMax",
    "Percentile",
    "Range",
    "Ranges",
    "Tally",
    "collect_ranges",
    "method_named",
]


class Tally:
    """What has been seen of each value of a graph.

    Args:
        method: How ranges will be taken.
        seen: Value name → histogram, to go on from.
        samples: How many samples those histograms hold.
    """

    def __init__(self, method: Method, seen: Mapping[str, Histogram] | None = None, samples: int = 0) -> None:
        self._method = method
        self.seen = dict(seen or {})
        self.samples = samples

    def add(self, graph: ObservedGraph, batch: Mapping[str, NDArray[Any]]) -> None:
        """Run one batch and keep what it tells; see :func:`collect_ranges`."""
        for told in graph.observe(batch):
            histogram = self.seen.setdefault(told.name, Histogram(self._method.bins))
            histogram.widen(told.low, told.high)
            if told.values is not None:
                histogram.count(told.values)
        self.samples += len(next(iter(batch.values())))

    def ranges(self) -> Ranges:
        """Return each value's range.

        Raises:
            DataError: There were no samples.
        """
        if not self.samples:
            raise DataError("There are no calibration samples.", expected="at least one", got=0)
        return {name: self._method.range(seen).within(seen.span()) for name, seen in self.seen.items()}


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
    graph = ObservedGraph(model, bins=chosen.bins)
    tally = Tally(chosen)
    for batch in batches:
        tally.add(graph, batch)
        if progress is not None:
            progress(tally.samples)
    return tally.ranges()
