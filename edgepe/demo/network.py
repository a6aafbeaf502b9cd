"""The demo's network and how it is compressed: a small 1-D convolutional net on two seconds of a watch's sensors.

Rules kept here:
1. The figures of a run were chosen by the scores of the validation people; the test people report.
2. Version 2 is another model for the same job: another seed, trained longer, to a smaller budget.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from edgepe.compress import Budget, CompressSettings, GateSettings, TrainingData, TrainSettings, samples
from edgepe.demo.watch import CHANNELS, LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepe.compress import Samples
    from edgepe.demo.watch import Normalization, WatchData, Windows

__all__ = ["FACTORY", "watch_net", "watch_samples", "watch_settings", "watch_training_data"]

FACTORY = "edgepe.demo.network:watch_net"
KERNEL = 5


def watch_net(widths: tuple[int, ...] = (32, 48, 64)) -> nn.Module:
    """Return an untrained net: convolution, BatchNorm and ReLU for each width, global average, linear.

    Input float32 [n, 6, 100], output logits float32 [n, 7]. Each block after the first halves the time axis.

    Args:
        widths: Channels of each block; 24,743 parameters by default.
    """
    return nn.Sequential(
        *_blocks((len(CHANNELS), *widths)),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], len(LABELS)),
    )


def watch_settings(version: int = 1) -> CompressSettings:
    """Return how a version of the demo's model is made: 1 keeps a quarter of the parameters, later ones a fifth.

    Args:
        version: 1 or more; each has a seed of its own.
    """
    first = version == 1
    # Widths in eights: Jetson's int8 kernels want them, and the others do not mind.
    # A smoothed target halves the spread between seeds on people that training has not seen.
    decay, smoothing = 0.01, 0.1
    return CompressSettings(
        budget=Budget(parameters=0.28 if first else 0.2, round_to=8),
        dense=TrainSettings(epochs=20, rate=5e-3, weight_decay=decay, label_smoothing=smoothing),
        gates=GateSettings(train=TrainSettings(epochs=20, rate=2e-3, label_smoothing=smoothing)),
        finetune=TrainSettings(epochs=15 if first else 25, rate=3e-3, weight_decay=decay, label_smoothing=smoothing),
        seed=version,
    )


def watch_samples(windows: Windows, normalization: Normalization) -> Samples:
    """Return windows as the network takes them.

    Raises:
        DataError: The windows are damaged.
    """
    return samples(normalization.apply(windows.x), windows.y, classes=len(LABELS))


def watch_training_data(data: WatchData, normalization: Normalization) -> TrainingData:
    """Return the training and validation people's windows; the test people's stay out."""
    return TrainingData(
        train=watch_samples(data.train, normalization),
        validation=watch_samples(data.validation, normalization),
        classes=len(LABELS),
    )


def _blocks(channels: tuple[int, ...]) -> Iterator[nn.Module]:
    for index, (before, after) in enumerate(pairwise(channels)):
        stride = 1 if index == 0 else 2
        yield nn.Conv1d(before, after, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)
        yield nn.BatchNorm1d(after)
        yield nn.ReLU()
