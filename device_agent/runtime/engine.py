"""One model being served: the only way from a raw input to an output, whoever asks.

Rules kept here:
1. One run at a time: a runtime's arena is not shared, and on a small board two runs at once help nobody.
2. A fault of the caller (``prepare``) and a fault of the model (``run``) are told apart: only the second counts as an
   error of the model, since a roll-back hangs on it.
3. An output that is not finite is a fault of the model.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from device_agent.errors import ModelError
from device_agent.runtime.base import check_feeds
from device_agent.runtime.preprocess import prepare_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from device_agent.runtime.base import Array, Runtime
    from device_agent.telemetry.recorder import Recorder
    from device_agent.wire.manifest import Manifest

__all__ = ["Engine", "winners"]

CLASSIFIER_RANK = 2  # [samples, classes]


class Engine:
    """A manifest, its runtime and what is recorded about them."""

    def __init__(self, manifest: Manifest, runtime: Runtime, recorder: Recorder) -> None:
        self.manifest = manifest
        self.runtime = runtime
        self.recorder = recorder
        self._lock = threading.Lock()

    def prepare(self, raw: Mapping[str, Array]) -> dict[str, Array]:
        """Preprocess raw inputs and check that they fit.

        Raises:
            ModelError: They do not; the caller's fault.
        """
        feeds = prepare_all(raw, self.manifest.inputs)
        check_feeds(self.runtime.inputs, feeds)
        return feeds

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once and record time and winning classes.

        Raises:
            ModelError: The runtime failed or an output is not finite; the model's fault.
        """
        with self._lock:
            start = time.perf_counter_ns()
            try:
                outputs = self.runtime.run(feeds)
                elapsed = time.perf_counter_ns() - start
                check_finite(outputs)
            except ModelError:
                self.recorder.record_error()
                raise
        self.recorder.record(elapsed, winners(outputs))
        return outputs

    def warm_up(self) -> int:
        """Run once on zeros, unrecorded, and return the time in nanoseconds.

        Raises:
            ModelError: The model cannot run.
        """
        feeds = self.prepare({spec.name: zeros(spec.raw_shape, spec.dtype) for spec in self.manifest.inputs})
        start = time.perf_counter_ns()
        self.runtime.run(feeds)
        return time.perf_counter_ns() - start


def zeros(shape: tuple[int, ...], dtype: str) -> Array:
    """Return zeros, with 1 for each open dimension."""
    return np.zeros([max(1, size) if size < 0 else size for size in shape], dtype)


def check_finite(outputs: Mapping[str, Array]) -> None:
    """Refuse NaN and infinity in the outputs.

    Raises:
        ModelError: Naming the output.
    """
    for name, value in outputs.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ModelError(f"Output {name!r} of the model is not finite.", expected="finite numbers")


def winners(outputs: Mapping[str, Array]) -> tuple[int, ...]:
    """Return the largest class of each sample of the first output; empty where it is not [samples, classes]."""
    first = next(iter(outputs.values()))
    if first.ndim != CLASSIFIER_RANK or first.shape[1] <= 1:
        return ()
    return tuple(first.argmax(axis=1).tolist())
