"""MobileNetV2 with weights drawn so that signals keep their size: large, of the usual shape, trained on nothing."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["mobilenet_v2"]

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats, stride (Sandler et al. 2018, "MobileNetV2", table 2)."""


class Bottleneck(nn.Module):
    """An inverted residual."""

    def __init__(self, inner: int, out: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        layers = [unit(inner, wide, 1)] if expansion != 1 else []
        layers += [unit(wide, wide, 3, stride=stride, groups=wide), unit(wide, out, 1, active=nn.Identity())]
        self.layers = nn.Sequential(*layers)
        self.same = stride == 1 and inner == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [n, out, h / stride, w / stride]."""
        made = torch.as_tensor(self.layers(x))
        return x + made if self.same else made


def unit(
    inner: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, active: nn.Module | None = None
) -> nn.Sequential:
    """Return convolution, BatchNorm and, as a rule, ReLU6."""
    conv = nn.Conv2d(inner, out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), active or nn.ReLU6())


def mobilenet_v2(seed: int) -> nn.Module:
    """Return the net over [n, 3, 224, 224] with 1000 outputs, in evaluation mode."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [unit(3, 32, 3, stride=2)]
    width = 32
    for expansion, out, repeats, first in ROWS:
        for place in range(repeats):
            layers.append(Bottleneck(width, out, stride=first if place == 0 else 1, expansion=expansion))
            width = out
    layers += [unit(width, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in")
    with torch.no_grad():  # BatchNorm's averages come from a forward pass, so that each layer is of unit size
        net.train()(torch.randn(16, 3, 224, 224))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        net(torch.randn(16, 3, 224, 224))
    return net.eval()
