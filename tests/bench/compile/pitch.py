"""Spotify's basic-pitch as an ONNX file that others made: three outputs, no classes, a spectrogram inside the graph.

Rules kept here:
1. There are no labels: the float net's own decisions (a note sounds in a frame, or not) stand in for them, and the
   score is F1 of the artifact's, for silence outweighs notes by far.
2. The samples are spoken digits joined and stretched from 8 to 22.05 kHz: voices have a pitch, if no melody.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepe.capture import capture
from tests.bench.compile.data import Part, Split, data_folder, loader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgepe.capture import Captured

__all__ = ["NOTES", "SCORE", "note_f1", "pitch_net", "sounds"]

FILE = "basic_pitch_nmp.onnx"
SCORE = "tests.bench.compile.pitch:note_f1"
NOTES = "StatefulPartitionedCall:1"
THRESHOLD = 0.3  # of basic-pitch's own decoder for frames
SAMPLES, RATE, CLIP_RATE = 43_844, 22_050, 8_000
PARTS = (64, 24, 32)


def pitch_net() -> Captured:
    """Return the net, its only input renamed to ``x``."""
    captured = capture(str(data_folder() / "models" / FILE))
    captured.model.graph.inputs[0].name = "x"
    return captured


def sounds() -> Split:
    """Return windows [n, 43844, 1]; the labels are put in when the float net has run."""
    clips, *_ = loader().spoken_digits()
    need = int(sum(PARTS) * SAMPLES * CLIP_RATE / RATE) + CLIP_RATE
    order = np.random.default_rng(0).permutation(len(clips))
    joined = np.concatenate([clips[index].astype(np.float32) / 32768.0 for index in order])[:need]
    places = np.arange(sum(PARTS) * SAMPLES) * (CLIP_RATE / RATE)
    x = np.interp(places, np.arange(len(joined)), joined).astype(np.float32).reshape(sum(PARTS), SAMPLES, 1)
    whole = Part(x=x, y=np.zeros(len(x), np.int64))
    ends = np.cumsum((0, *PARTS))
    train, evaluation, test = (whole.pick(np.arange(low, high)) for low, high in pairwise(ends))
    return Split(train=train, evaluation=evaluation, test=test)


def note_f1(outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> float:
    """Return F1 of the notes that sound, frame by frame, against the labels [n, 172, 88]."""
    notes, wanted = outputs[NOTES] >= THRESHOLD, labels > 0
    both = int((notes & wanted).sum())
    return 2 * both / max(1, int(notes.sum()) + int(wanted.sum()))
