"""Calibrate a model on a set of samples, unless that has been done before.

Rules kept here:
1. The same graph, samples and method give the same ranges, whether they come from the cache, from one run, or from
   several of which all but the last were killed.
2. No batch is run twice: what a run has put aside, the next one goes on from.
3. Where a model's batch is fixed and the samples do not fill the last one, its last sample fills it up; that sample
   then counts more than once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgepe.quantize.batching import batch_size, fixed_batch
from edgepe.quantize.cache import cache_key
from edgepe.quantize.calibrate import Tally
from edgepe.quantize.observe import ObservedGraph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgepe.quantize.cache import RangeCache
    from edgepe.quantize.methods import Method
    from edgepe.quantize.ranges import Ranges

__all__ = ["Source", "calibrate"]


class Source(Protocol):
    """Samples, prepared for the graph."""

    @property
    def digest(self) -> str:
        """Return a digest of the samples and of how they are prepared."""

    def __len__(self) -> int:
        """Return how many there are."""

    def batches(self, size: int, first: int = 0) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Yield them ``size`` at a time, from sample ``first`` on."""


def calibrate(
    model: ir.Model,
    source: Source,
    *,
    method: Method,
    cache: RangeCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> Ranges:
    """Return each float value's range; see :func:`edgepe.quantize.calibrate.collect_ranges`.

    Args:
        model: The float graph; not changed.
        source: The calibration samples.
        method: How ranges are taken.
        cache: Where ranges and unfinished calibrations are kept; None keeps nothing.
        progress: Called with the number of samples seen so far.

    Raises:
        DataError: There are no samples, a batch does not fit the graph, or an activation is not finite.
    """
    size = batch_size(model)
    told = progress if progress is not None else _untold
    if cache is None:
        return _run(model, source, Tally(method), method=method, told=told)
    key = cache_key(model, data_digest=source.digest, method=method, batch=size)
    known = cache.ranges(key)
    if known is not None:
        told(len(source))
        return known
    ranges = _run(
        model,
        source,
        cache.resume(key, method),
        method=method,
        told=told,
        put_aside=lambda tally: cache.put_aside(key, tally),
    )
    cache.keep(key, ranges)
    return ranges


def _run(
    model: ir.Model,
    source: Source,
    tally: Tally,
    *,
    method: Method,
    told: Callable[[int], None],
    put_aside: Callable[[Tally], None] | None = None,
) -> Ranges:
    """Run the batches that a tally has not seen yet."""
    told(tally.samples)
    graph = ObservedGraph(model, bins=method.bins)
    for batch in batches_of(model, source, batch_size(model), tally.samples):
        tally.add(graph, batch)
        if put_aside is not None:
            put_aside(tally)
        told(min(tally.samples, len(source)))
    return tally.ranges()


def batches_of(model: ir.Model, source: Source, size: int, first: int = 0) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the batches from sample ``first`` on, all of the same size where the model fixes it (rule 3)."""
    for batch in source.batches(size, first):
        short = size - len(next(iter(batch.values()))) if fixed_batch(model) else 0
        yield {name: np.concatenate([array, np.repeat(array[-1:], short, axis=0)]) for name, array in batch.items()}


def _untold(_samples: int) -> None:
    """Tell nobody."""
