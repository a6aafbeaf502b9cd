from __future__ import annotations

import torch
from torch import nn

from edgepe.compress import Samples, recalibrate


def test_recalibration_takes_the_statistics_of_the_data_and_leaves_the_momentum() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    x = torch.randn(600, 3, generator=torch.Generator().manual_seed(0)) * 3 + 2
    recalibrate(model, Samples(x=x, y=torch.zeros(600, dtype=torch.int64)), batch=300)
    norm = model[0]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, x.mean(0), atol=1e-4)
    assert torch.allclose(norm.running_var, x.var(0), rtol=0.02)
    assert norm.momentum == 0.1
    assert not any(module.training for module in model.modules())
