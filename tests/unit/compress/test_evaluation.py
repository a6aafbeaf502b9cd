from __future__ import annotations

import torch
from torch import nn

from edgepe.compress import Samples, evaluate


def test_scores_and_costs_of_a_known_network() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, bias=False), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(15, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    y = torch.tensor([0, 0, 0, 1])
    result = evaluate(model.train(), Samples(x=torch.randn(4, 2, 5), y=y), train_seconds=1.5)
    assert (result.samples, result.accuracy, result.recall, result.train_seconds) == (4, 0.75, 0.5, 1.5)
    assert result.parameters == 18 + 6 + 32
    assert result.macs == 18 * 5 + 30
    assert result.weight_bytes == 4 * (18 + 6 + 6 + 32) + 8
    assert model.training
