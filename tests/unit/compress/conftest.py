"""Networks of each kind that groups must understand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgepe.compress import Samples


class Residual(nn.Module):
    """A small 2-D network with a residual sum and a flattened image before its linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU())
        self.back = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.Linear(8 * 16, 10), nn.ReLU(), nn.Linear(10, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.back(self.inner(x)))
        logits: Tensor = self.head(torch.max_pool2d(x, 2).flatten(1))
        return logits


class Joined(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv1d(3, 4, 3, padding=1)
        self.right = nn.Conv1d(3, 6, 5, padding=2)
        self.mix = nn.Conv1d(10, 8, 1)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.relu(torch.cat([self.left(x), self.right(x)], 1))
        logits: Tensor = self.out(torch.relu(self.mix(both)).mean(2))
        return logits


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 12), nn.Tanh(), nn.Linear(12, 4))


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 12, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 4),
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 12, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 4),
    )


NETWORKS = {
    "mlp": (mlp, (10,)),
    "conv1d": (conv1d, (3, 20)),
    "depthwise": (depthwise, (3, 20)),
    "residual": (Residual, (3, 8, 8)),
    "joined": (Joined, (3, 20)),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """Return a network that is no longer as it was initialised, and inputs for it."""
    make, shape = NETWORKS[request.param]
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = make()
        example = torch.randn(6, *shape, generator=generator)
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.get_buffer("running_mean"))
    return model.eval(), example


@pytest.fixture
def blobs() -> Samples:
    """Return 256 points in ten dimensions, four classes that only the first three dimensions tell apart."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(256) % 4
    x = torch.randn(256, 10, generator=generator)
    x[:, :3] = 0.3 * x[:, :3] + 2 * torch.tensor([[0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]])[y]
    return Samples(x=x, y=y)
