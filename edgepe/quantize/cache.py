"""Ranges that were calibrated before, and calibrations that were cut short.

Rules kept here:
1. A key is a digest of all that ranges depend on: graph, samples as prepared, method, batch, versions, machine.
2. A file is written whole under a temporary name and then renamed; one that is damaged or of another make counts as
   absent and is removed, never believed.
3. A calibration puts its state aside between batches, at most once in ``every_s`` seconds, and goes on from there.
4. The folder stays within its limit: what was used longest ago goes first.
5. A folder that cannot be written costs no build: ``trouble`` says why, and nothing more is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from edgepe.bundle.files import write_whole
from edgepe.errors import BundleError
from edgepe.quantize.calibrate import Tally
from edgepe.quantize.histogram import Histogram
from edgepe.quantize.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepe.quantize.methods import Method
    from edgepe.quantize.ranges import Ranges

__all__ = ["LIMIT", "VERSION", "RangeCache", "cache_folder", "cache_key"]

VERSION = 2
"""Of the way ranges are taken; a change of the arithmetic raises it."""
LIMIT = 256 << 20
"""Bytes that the folder may hold."""
EVERY_S = 2.0


def cache_folder() -> Path:
    """Return where calibrations are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "edgepe" / "calibration"


def cache_key(model: ir.Model, *, data_digest: str, method: Method, batch: int) -> str:
    """Return the key of a calibration, hex.

    Args:
        model: The float graph.
        data_digest: Digest of the samples as they are prepared.
        method: How ranges are taken.
        batch: Samples at a time.
    """
    graph = hashlib.sha256(ir.serde.serialize_model(model).SerializeToString(deterministic=True)).hexdigest()
    parts = (VERSION, graph, data_digest, repr(method), batch, ort.__version__, np.__version__, platform.machine())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class RangeCache:
    """A folder of ranges and of calibrations under way.

    Args:
        folder: The folder; made when something is written.
        limit_bytes: What it may hold.
        every_s: Least time between two writings of a calibration's state, seconds.
        clock: Seconds that only ever rise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int = LIMIT,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._every_s = every_s
        self._clock = clock
        self._written = clock()
        self.trouble = ""

    def ranges(self, key: str) -> Ranges | None:
        """Return what was calibrated before, or None."""
        path = self._folder / f"{key}.json"
        try:
            found = _read_ranges(path.read_bytes())
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            _discard(path)
            return None
        return found

    def keep(self, key: str, ranges: Ranges) -> None:
        """Keep the ranges of a calibration that is done; its state is no longer needed."""
        plain = {name: [each.low, each.high, each.beyond] for name, each in ranges.items()}
        path = self._folder / f"{key}.json"
        self._write(path, json.dumps({"sha256": _digest(plain), "ranges": plain}).encode())
        _discard(self._folder / f"{key}.npz")
        self._shrink(path)

    def resume(self, key: str, method: Method) -> Tally:
        """Return the tally of a calibration that was cut short, or an empty one."""
        path = self._folder / f"{key}.npz"
        self._written = self._clock()
        try:
            with np.load(path, allow_pickle=False) as stored:
                names, states = stored["names"].tolist(), stored["states"]
                seen = {name: Histogram.restored(state) for name, state in zip(names, states, strict=True)}
                return Tally(method, seen, int(stored["samples"]))
        except FileNotFoundError:
            return Tally(method)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            _discard(path)
            return Tally(method)

    def put_aside(self, key: str, tally: Tally) -> None:
        """Keep the state of a calibration between two batches, where the last writing is long enough ago."""
        if self._clock() - self._written < self._every_s or self.trouble:
            return
        states = np.stack([histogram.state() for histogram in tally.seen.values()])
        buffer = io.BytesIO()
        np.savez(buffer, names=np.array(list(tally.seen)), states=states, samples=np.array(tally.samples))
        path = self._folder / f"{key}.npz"
        self._write(path, buffer.getvalue())
        self._shrink(path)
        self._written = self._clock()

    def _write(self, path: Path, data: bytes) -> None:
        if self.trouble:
            return
        try:
            write_whole(path, data)
        except BundleError as error:
            self.trouble = f"{path.parent} cannot be written: {error.got or error.what}"

    def _shrink(self, newest: Path) -> None:
        """Remove what was used longest ago until the folder holds its limit; other builds may be at it as well."""
        rows = []
        for path in self._folder.glob("*"):
            try:
                status = path.stat()
            except OSError:
                continue
            rows.append((path == newest, status.st_mtime_ns, path, status.st_size))
        held = sum(size for *_, size in rows)
        for is_newest, _, path, size in sorted(rows):
            if held <= self._limit or is_newest:
                return
            _discard(path)
            held -= size


def _read_ranges(data: bytes) -> Ranges:
    raw = json.loads(data)
    if raw["sha256"] != _digest(raw["ranges"]):
        raise ValueError("the digest is of other ranges")
    return {name: Range(low=low, high=high, beyond=beyond) for name, (low, high, beyond) in raw["ranges"].items()}


def _digest(ranges: object) -> str:
    return hashlib.sha256(json.dumps(ranges, sort_keys=True).encode()).hexdigest()


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # what cannot be removed is overwritten, or told of, when it is written
        return
