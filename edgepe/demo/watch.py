"""The demo's data: watch recordings of seven shoulder exercises, shipped inside the PyPI package seglearn.

Rules kept here:
1. seglearn is found, never imported: its dependencies are not installed, and only its data file is read.
2. The file is a pickled array of objects, so it is read by an unpickler that knows numpy's arrays and nothing else.
3. The split is by people. The ten ids come in pairs of near-equal recordings, set by set and arm by arm (1-2, 3-4,
   5-6, 7-10, 8-9: their lengths differ by 2 %, those of other people by 10 % and more), so a pair is never divided:
   it may be one person twice, or two who trained together.
4. The test people are never seen in training, in tuning, or in calibration.

Source: D. Burns et al., "Shoulder physiotherapy exercise recognition: machine learning the inertial signals from a
smartwatch", 2018 (seglearn, BSD-3-Clause).
"""

from __future__ import annotations

import importlib.util
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from edgepe.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "CHANNELS",
    "HOP",
    "LABELS",
    "RATE_HZ",
    "TEST_PEOPLE",
    "TRAIN_PEOPLE",
    "VALIDATION_PEOPLE",
    "WINDOW",
    "Normalization",
    "Recording",
    "WatchData",
    "Windows",
    "cut",
    "load_recordings",
    "load_watch",
    "normalization",
    "save_windows",
]

LABELS = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
RATE_HZ = 50
WINDOW = 100
HOP = 50
TRAIN_PEOPLE = (1, 2, 3, 4, 5, 6)
VALIDATION_PEOPLE = (7, 10)
TEST_PEOPLE = (8, 9)

_ADMITTED = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("_codecs", "encode"): lambda text, encoding: str(text).encode(encoding),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One set of one exercise: samples float32 [time, 6] at 50 Hz, label 0..6, person 1..10, arm 0 (left) or 1."""

    samples: NDArray[np.float32]
    label: int
    person: int
    arm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows cut from recordings, raw as the watch gives them.

    Attributes:
        x: float32 [n, 100, 6], acceleration in g and turn rate in rad/s.
        y: int64 [n], labels 0..6.
        person: int64 [n], ids as the source has them.
        recording: int64 [n], which recording a window comes from: neighbours overlap, so intervals resample these.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    person: NDArray[np.int64]
    recording: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchData:
    """The three parts of the data; no pair of people is in two of them."""

    train: Windows
    validation: Windows
    test: Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """Mean and standard deviation per channel, from the training people alone."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return raw windows [n, 100, 6] as the network takes them: float32 [n, 6, 100]."""
        scaled = (x - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 2, 1), dtype=np.float32)

    def signature(self) -> str:
        """Return the same as the signature file of ``edgepe build``: raw layout, mean, deviation, labels."""
        return (
            f"labels = {json.dumps(LABELS)}\n\n"
            f'[inputs.x]\nlayout = "NWC"\nmean = {json.dumps(self.mean)}\nstd = {json.dumps(self.std)}\n'
        )


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that rebuilds numpy arrays and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the signature is pickle's
        """Return one of the few admitted names.

        Raises:
            pickle.UnpicklingError: The pickle asks for anything else.
        """
        if module in {"numpy.core.multiarray", "numpy._core.multiarray"} and name == "_reconstruct":
            return _reconstruct
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array") from None


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> NDArray[Any]:
    """Make the empty array that a pickled array fills by its state."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"{kind.__name__} is not an array")
    return np.ndarray(shape, np.dtype(code.decode("ascii")))


def _find_file() -> Path:
    spec = importlib.util.find_spec("seglearn")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("demo", wanted_by="the watch recordings", module="seglearn")
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "watch_dataset.npy"
    if not path.is_file():
        raise DataError(
            "the installed seglearn has no watch recordings",
            expected=path.name,
            got="no such file",
            next_step="pip install --no-deps seglearn==1.2.5",
        )
    return path


def _read_table(stream: BinaryIO) -> dict[str, Any]:
    npy.read_magic(stream)
    npy.read_array_header_1_0(stream)
    array = _ArrayUnpickler(stream).load()
    table = array.item() if isinstance(array, np.ndarray) and array.shape == () else None
    wanted = {"X", "y", "subject", "side"}
    if not isinstance(table, dict) or not wanted <= table.keys():
        raise DataError("not the watch recordings", expected=f"a table with {sorted(wanted)}", got=type(table).__name__)
    return table


def load_recordings(path: Path | None = None) -> tuple[Recording, ...]:
    """Read all 140 recordings.

    Args:
        path: The data file; seglearn's own where none is given.

    Raises:
        MissingExtraError: seglearn is not installed.
        DataError: The file is damaged, or holds something else than arrays.
    """
    source = path or _find_file()
    try:
        with source.open("rb") as stream:
            table = _read_table(stream)
    except (pickle.UnpicklingError, ValueError, EOFError, OSError) as error:
        raise DataError(
            f"cannot read the watch recordings in {source.name}",
            expected="an .npy file that holds arrays only",
            got=str(error),
            next_step="pip install --force-reinstall --no-deps seglearn==1.2.5",
        ) from error
    rows = zip(table["X"], table["y"], table["subject"], table["side"], strict=True)
    return tuple(
        Recording(samples=np.asarray(x, np.float32), label=int(y), person=int(person), arm=int(arm))
        for x, y, person, arm in rows
    )


def cut(recordings: Sequence[Recording], people: Iterable[int]) -> Windows:
    """Cut the recordings of some people into windows of 2 s, one each second.

    Raises:
        DataError: None of these people has a recording of that length.
    """
    wanted = frozenset(people)
    places = [
        (index, start)
        for index, recording in enumerate(recordings)
        if recording.person in wanted
        for start in range(0, len(recording.samples) - WINDOW + 1, HOP)
    ]
    if not places:
        raise DataError("no recordings of these people", expected="people 1..10", got=sorted(wanted))
    return Windows(
        x=np.stack([recordings[i].samples[start : start + WINDOW] for i, start in places]),
        y=np.array([recordings[i].label for i, _ in places], np.int64),
        person=np.array([recordings[i].person for i, _ in places], np.int64),
        recording=np.array([i for i, _ in places], np.int64),
    )


def load_watch(path: Path | None = None) -> WatchData:
    """Read the recordings and split them by people: 1-6 train, 7 and 10 validation, 8 and 9 test.

    Raises:
        MissingExtraError: seglearn is not installed.
        DataError: The file is damaged.
    """
    recordings = load_recordings(path)
    return WatchData(
        train=cut(recordings, TRAIN_PEOPLE),
        validation=cut(recordings, VALIDATION_PEOPLE),
        test=cut(recordings, TEST_PEOPLE),
    )


def normalization(windows: Windows) -> Normalization:
    """Return mean and standard deviation of each channel."""
    flat = windows.x.reshape(-1, windows.x.shape[-1]).astype(np.float64)
    return Normalization(
        mean=tuple(round(float(value), 6) for value in flat.mean(0)),
        std=tuple(round(float(value), 6) for value in flat.std(0)),
    )


def save_windows(windows: Windows, path: Path) -> Path:
    """Write raw windows as ``.npz`` with ``x`` and ``y``: for calibration, evaluation, or an agent to replay."""
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as stream:
        np.savez(stream, x=windows.x, y=windows.y)
    partial.replace(path)
    return path
