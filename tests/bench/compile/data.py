"""Real data for the nets, from a folder outside the project.

Rules kept here:
1. The folder is ``$EDGEPE_BENCH_DATA``, else ``../shared/data`` beside the checkout; where it is absent, the message
   says what is missing. Nothing but this benchmark needs it.
2. Calibration samples come from the training part; what a build is judged on (``evaluation``) and what nobody sees
   before the end (``test``) are never trained on. People and speakers are split whole.
3. Inputs are normalized float32 as the net takes them, so that every tool gets the same arrays.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CALIBRATION",
    "NO_CLASS",
    "Part",
    "Split",
    "cifar",
    "data_folder",
    "digits",
    "keywords",
    "photographs",
    "spoken",
    "watch",
]

VARIABLE = "EDGEPE_BENCH_DATA"
CALIBRATION = 320  # the vendors advise 300-500
ORDER_SEED = 0  # parts are the same in every run; only training has seeds
FRAMES, BANDS = 50, 40
NO_CLASS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Samples and their classes."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]

    def pick(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Part:
        """Return some of them."""
        return Part(x=np.ascontiguousarray(self.x[rows]), y=self.y[rows].astype(np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The parts of one data set; rule 2."""

    train: Part
    evaluation: Part
    test: Part

    @property
    def calibration(self) -> NDArray[np.float32]:
        """Inputs for calibration, drawn from the training part."""
        rows = np.random.default_rng(ORDER_SEED).permutation(len(self.train.x))[:CALIBRATION]
        return np.ascontiguousarray(self.train.x[np.sort(rows)])


def data_folder() -> Path:
    """Return the folder of the data, or end with a message that says what is missing (rule 1)."""
    folder = Path(os.environ.get(VARIABLE, Path(__file__).resolve().parents[4] / "shared" / "data"))
    if not (folder / "load.py").exists():
        sys.exit(f"bench-compile: no data in {folder}; next: set {VARIABLE} to a folder with load.py and its data")
    return folder


def loader() -> Any:
    """Import the folder's own loaders."""
    spec = importlib.util.spec_from_file_location("bench_data_load", data_folder() / "load.py")
    if spec is None or spec.loader is None:
        sys.exit("bench-compile: load.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cut(part: Part, *sizes: int) -> list[Part]:
    """Shuffle, and return parts of these sizes."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(part.x))
    ends = np.cumsum(sizes)
    return [part.pick(order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def digits() -> Split:
    """Return handwritten digits [n, 1, 28, 28]."""
    x, y, x_test, y_test = loader().mnist()
    whole = Part(x=images(x[:, None]), y=y)
    evaluation, test = cut(Part(x=images(x_test[:, None]), y=y_test), 2_000, 4_000)
    return Split(train=cut(whole, 24_000)[0], evaluation=evaluation, test=test)


def cifar() -> Split:
    """Return photographs [n, 3, 32, 32]."""
    load = loader()
    x, y = load.cifar10("train")
    x_test, y_test = load.cifar10("test")
    train, evaluation = cut(Part(x=images(x.transpose(0, 3, 1, 2)), y=y), len(x) - 2_000, 2_000)
    (test,) = cut(Part(x=images(x_test.transpose(0, 3, 1, 2)), y=y_test), len(x_test))
    return Split(train=train, evaluation=evaluation, test=test)


def photographs() -> Split:
    """Return some photographs enlarged to [n, 3, 224, 224], without classes: for nets of which only time counts."""
    small = cifar().train
    x = np.ascontiguousarray(small.x[:96].repeat(7, 2).repeat(7, 3))
    whole = Part(x=x, y=np.full(len(x), NO_CLASS))
    return Split(
        train=whole.pick(np.arange(64)), evaluation=whole.pick(np.arange(64, 80)), test=whole.pick(np.arange(80, 96))
    )


def images(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return bytes as float32 around zero."""
    return (x.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.25)


def watch() -> Split:
    """Return windows [n, 6, 100] of a watch; people 1-4 train, 5 is for evaluation, 6-7 for the test."""
    x, y, person = loader().har_watch()
    part = Part(x=x.transpose(0, 2, 1).astype(np.float32), y=y)
    train = part.pick(person <= 4)
    mean, std = train.x.mean((0, 2), keepdims=True), train.x.std((0, 2), keepdims=True)
    part = Part(x=(part.x - mean) / std, y=y)
    return Split(train=part.pick(person <= 4), evaluation=part.pick(person == 5), test=part.pick(person >= 6))


def keywords() -> Split:
    """Return MFCC features [n, 1, 49, 10] of keywords; there are only 500."""
    load = loader()
    x, y = load.keyword_mfcc()
    real = (x.astype(np.float32) - load.KWS_ZERO_POINT) * np.float32(load.KWS_SCALE)
    train, evaluation, test = cut(Part(x=real.transpose(0, 3, 1, 2), y=y), 150, 100, 250)
    return Split(train=train, evaluation=evaluation, test=test)


def spoken() -> Split:
    """Return log spectra [n, frames, bands] of spoken digits, by the official split of the recordings."""
    clips, y, _, index = loader().spoken_digits()
    x = np.stack([spectrum(clip) for clip in clips])
    part = Part(x=((x - x.mean()) / x.std()).astype(np.float32), y=np.asarray(y))
    official = np.asarray(index) < 5
    train, evaluation = cut(part.pick(~official), int((~official).sum()) - 200, 200)
    return Split(train=train, evaluation=evaluation, test=part.pick(official))


def spectrum(clip: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the log spectrum of one 8 kHz clip, stretched to ``FRAMES`` windows of 256 samples in ``BANDS`` bands."""
    sound = np.pad(clip.astype(np.float32) / 32768.0, (0, max(0, 256 - len(clip))))
    starts = np.linspace(0, len(sound) - 256, FRAMES).astype(int)
    windows = np.stack([sound[start : start + 256] for start in starts]) * np.hanning(256)
    power = np.abs(np.fft.rfft(windows, axis=1))[:, 1:121].reshape(FRAMES, BANDS, 3).mean(2)
    return np.asarray(np.log(power + 1e-4), np.float32)
