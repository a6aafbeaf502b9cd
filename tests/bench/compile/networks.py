"""The nets of the benchmark, small and of the kinds that people put on small boards.

Rule kept here: plain PyTorch, channel first, logits as the only output; nothing here knows of quantization.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = [
    "Attention",
    "DsCnn",
    "LeNet",
    "Mlp",
    "MobileNetV2",
    "Recurrent",
    "ResNet8",
    "ResNet18",
    "Watch1d",
    "full_mobilenet",
]


def conv(inner: int, outer: int, size: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the size but for its stride, and its BatchNorm."""
    layer = nn.Conv2d(inner, outer, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outer)]


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(inner, outer, 3, stride=stride), nn.ReLU(), *conv(outer, outer, 3))
        same = stride == 1 and inner == outer
        self.short = nn.Identity() if same else nn.Sequential(*conv(inner, outer, 1, stride=stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block of images."""
        return torch.relu(self.body(x) + self.short(x))


class Inverted(nn.Module):
    """MobileNetV2's inverted residual: widen, filter per channel, narrow."""

    def __init__(self, inner: int, outer: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = inner * widen
        first = [*conv(inner, wide, 1), nn.ReLU6()] if widen > 1 else []
        self.body = nn.Sequential(
            *first, *conv(wide, wide, 3, stride=stride, groups=wide), nn.ReLU6(), *conv(wide, outer, 1)
        )
        self.same = stride == 1 and inner == outer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block of images."""
        y = torch.as_tensor(self.body(x))
        return x + y if self.same else y


class LeNet(nn.Sequential):
    """Two 5x5 convolutions and three dense layers, for images [n, 1, 28, 28]."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )


class Mlp(nn.Sequential):
    """Three dense layers, for images [n, 1, 28, 28]."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


class ResNet8(nn.Sequential):
    """The residual net of MLPerf Tiny, for images [n, 3, 32, 32]."""

    def __init__(self) -> None:
        super().__init__(
            *(*conv(3, 16, 3), nn.ReLU()),
            *(Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
        )


class ResNet18(nn.Sequential):
    """ResNet-18, for images [n, 3, 224, 224]."""

    def __init__(self) -> None:
        blocks: list[nn.Module] = []
        inner = 64
        for outer in (64, 128, 256, 512):
            blocks += [Residual(inner, outer, 1 if outer == inner else 2), Residual(outer, outer, 1)]
            inner = outer
        super().__init__(
            *(*conv(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)),
        )


class MobileNetV2(nn.Sequential):
    """MobileNetV2 of rows (widening, channels, repeats, stride); the published ones for 224 pixels, or small."""

    SMALL = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 2, 2), (4, 48, 1, 1))
    FULL = (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    )

    def __init__(
        self, rows: tuple[tuple[int, int, int, int], ...] = SMALL, *, stem: int = 1, last: int = 192, classes: int = 10
    ) -> None:
        first = 16 if stem == 1 else 32
        blocks: list[nn.Module] = [*conv(3, first, 3, stride=stem), nn.ReLU6()]
        inner = first
        for widen, outer, repeats, stride in rows:
            for index in range(repeats):
                blocks.append(Inverted(inner, outer, stride if index == 0 else 1, widen))
                inner = outer
        blocks += [*conv(inner, last, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)]
        super().__init__(*blocks)


def full_mobilenet() -> nn.Module:
    """Return MobileNetV2 as published, for images [n, 3, 224, 224]."""
    return MobileNetV2(MobileNetV2.FULL, stem=2, last=1280, classes=1000)


class DsCnn(nn.Sequential):
    """The keyword net of MLPerf Tiny with its BatchNorm folded, for MFCC features [n, 1, 49, 10]."""

    def __init__(self) -> None:
        blocks: list[nn.Module] = []
        for _ in range(4):
            blocks += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU()]
        super().__init__(
            *(nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), stride=2), nn.ReLU()),
            *(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12)),
        )


class Watch1d(nn.Sequential):
    """Three 1-D convolutions, for windows [n, 6, 100]."""

    def __init__(self) -> None:
        blocks: list[nn.Module] = []
        for inner, outer in ((6, 32), (32, 48), (48, 64)):
            blocks += [nn.Conv1d(inner, outer, 5, padding=2, bias=False), nn.BatchNorm1d(outer), nn.ReLU()]
            blocks += [nn.MaxPool1d(2)]
        super().__init__(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 7))


class Recurrent(nn.Module):
    """One GRU layer over frames [n, frames, features]."""

    def __init__(self, features: int = 40, classes: int = 10) -> None:
        super().__init__()
        self.cells = nn.GRU(features, 96, batch_first=True)
        self.head = nn.Linear(96, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of frames."""
        out, _ = self.cells(x)
        return torch.as_tensor(self.head(out[:, -1]))


class Layer(nn.Module):
    """One pre-norm transformer layer, written out so that every exporter sees plain products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer of frames [n, frames, width]."""
        frames, width = x.shape[1], x.shape[2]
        parts = self.qkv(self.before(x)).reshape(-1, frames, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        weights = torch.softmax(query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5, -1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(-1, frames, width))
        return x + torch.as_tensor(self.narrow(torch.relu(self.wide(self.between(x)))))


class Attention(nn.Module):
    """A small transformer over frames [n, frames, features]."""

    def __init__(self, features: int = 40, frames: int = 50, classes: int = 10) -> None:
        super().__init__()
        self.enter = nn.Linear(features, 64)
        self.place = nn.Parameter(0.02 * torch.randn(1, frames, 64))
        self.layers = nn.Sequential(Layer(64, 4), Layer(64, 4))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of frames."""
        return torch.as_tensor(self.head(self.norm(self.layers(self.enter(x) + self.place)).mean(1)))
