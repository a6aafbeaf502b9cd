"""The demo's network: a small 1-D convolutional net on two seconds of a watch's sensors."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from edgepe.demo.watch import CHANNELS, LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["watch_net"]

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


def _blocks(channels: tuple[int, ...]) -> Iterator[nn.Module]:
    for index, (before, after) in enumerate(pairwise(channels)):
        stride = 1 if index == 0 else 2
        yield nn.Conv1d(before, after, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)
        yield nn.BatchNorm1d(after)
        yield nn.ReLU()
