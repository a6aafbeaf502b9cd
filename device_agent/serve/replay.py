"""A source that plays a recording as if the sensor were there: same engine, same recorder as any client.

Rules kept here:
1. A recording is raw windows: an ``.npz`` with ``x`` (or one array per input name), or a folder of ``.npy``/``.npz``
   files in the order of their names.
2. Each window is due at its own time; after a delay the source goes on from now and never sends a burst.
3. A recording that does not fit the model is refused before the model is called ready.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from device_agent.errors import ConfigError, ModelError
from device_agent.runtime.arrays import read_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from device_agent.runtime.base import Array
    from device_agent.runtime.engine import Engine

__all__ = ["Replay", "ReplaySettings", "read_recording"]

LOG = logging.getLogger(__name__)

Window = dict[str, "Array"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """Where the recording is and how it is played.

    Attributes:
        path: An ``.npz`` or ``.npy`` file, or a folder of them.
        rate_hz: Windows a second.
        loop: Whether it starts again at its end.
    """

    path: Path
    rate_hz: float = 20.0
    loop: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz <= 100_000:  # noqa: PLR2004 - the bound is the rule
            raise ConfigError("The source's rate_hz is wrong.", expected="above 0, at most 100000", got=self.rate_hz)

    @classmethod
    def from_json(cls, text: str) -> ReplaySettings:
        """Read the settings from ``{"file" or "folder", "rate_hz", "loop"}``.

        Raises:
            ConfigError: A field is missing, unknown or of the wrong type.
        """
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ConfigError("The source is not JSON.", got=str(error)) from error
        fields = dict(value) if isinstance(value, dict) else {}
        paths = [fields.pop(key) for key in ("file", "folder") if key in fields]
        rate_hz, loop = fields.pop("rate_hz", 20.0), fields.pop("loop", True)
        right = isinstance(rate_hz, int | float) and isinstance(loop, bool)
        if fields or not right or len(paths) != 1 or not isinstance(paths[0], str):
            raise ConfigError("The source is wrong.", expected='one of "file" or "folder"; "rate_hz", "loop"', got=text)
        return cls(path=Path(paths[0]), rate_hz=float(rate_hz), loop=loop)


class Replay:
    """Plays a recording into an engine from a thread of its own.

    Raises:
        ModelError: The recording cannot be read or does not fit the model.
    """

    def __init__(self, settings: ReplaySettings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._windows = read_recording(settings.path, engine)
        engine.prepare(self._windows[0])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="replay", daemon=True)

    def start(self) -> None:
        """Begin to play."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the window under way and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _play(self) -> None:
        windows = itertools.cycle(self._windows) if self._settings.loop else iter(self._windows)
        for window in paced(windows, 1.0 / self._settings.rate_hz, self._stop):
            self._infer(window)

    def _infer(self, window: Window) -> None:
        try:
            self._engine.run(self._engine.prepare(window))
        except ModelError as error:  # counted by the recorder; the next window may be well
            LOG.warning("replay: %s", error)


def paced(windows: Iterator[Window], period_s: float, stop: threading.Event) -> Iterator[Window]:
    """Yield each window when it is due (rule 2) until ``stop`` is set."""
    due = time.monotonic()
    for window in windows:
        if stop.wait(max(0.0, due - time.monotonic())):
            return
        yield window
        due = next_due(due, time.monotonic(), period_s)


def next_due(due: float, now: float, period_s: float) -> float:
    """Return when the next window is due: a period after this one was, but never in the past (rule 2)."""
    return max(due + period_s, now)


def read_recording(path: Path, engine: Engine) -> list[Window]:
    """Read a recording into windows of batch one.

    Args:
        path: A file, or a folder of files.
        engine: Says the inputs' names and ranks.

    Raises:
        ModelError: Nothing is there, a file is damaged, or its arrays are not the model's inputs.
    """
    files = sorted(p for p in path.iterdir() if p.suffix in {".npy", ".npz"}) if path.is_dir() else [path]
    windows = [window for file in files for window in cut(file, read_arrays(file, what="recording"), engine)]
    if not windows:
        raise ModelError(f"The recording {path} is empty.", expected=".npz or .npy files with at least one window")
    return windows


def cut(path: Path, arrays: dict[str, Array], engine: Engine) -> Iterator[Window]:
    """Cut a file's arrays into windows of batch one.

    An array of the input's rank holds windows along its first axis; of one rank less, it is one window.

    Raises:
        ModelError: An input is missing or its rank is wrong.
    """
    specs = engine.manifest.inputs
    named = {specs[0].name: arrays["x"]} if len(specs) == 1 and "x" in arrays else arrays
    if not {spec.name for spec in specs} <= set(named):
        raise ModelError(
            f"The recording {path} lacks an input.", expected=[spec.name for spec in specs], got=sorted(arrays)
        )
    stacks = {spec.name: stack(named[spec.name], len(spec.shape), path) for spec in specs}
    for at in range(min(len(values) for values in stacks.values())):
        yield {name: values[at : at + 1] for name, values in stacks.items()}


def stack(value: Array, rank: int, path: Path) -> Array:
    """Return an array with windows along its first axis.

    Raises:
        ModelError: The rank is neither that of the input nor one less.
    """
    if value.ndim == rank:
        return value
    if value.ndim == rank - 1:
        return value[np.newaxis]
    raise ModelError(
        f"The recording {path} has the wrong rank.", expected=f"{rank} or {rank - 1} axes", got=list(value.shape)
    )
