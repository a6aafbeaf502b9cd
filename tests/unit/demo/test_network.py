from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from edgepe.compress import TrainSettings, compress, evaluate
from edgepe.demo.network import FACTORY, watch_net, watch_samples, watch_settings, watch_training_data
from edgepe.demo.watch import load_watch, normalization

if TYPE_CHECKING:
    from pathlib import Path


def test_the_net_takes_windows_and_gives_seven_logits() -> None:
    model = watch_net()
    assert model(torch.zeros(2, 6, 100)).shape == (2, 7)
    assert sum(parameter.numel() for parameter in model.parameters()) == 24_743
    assert watch_net((4, 5)).eval()(torch.zeros(1, 6, 100)).shape == (1, 7)


def test_versions_differ_in_seed_and_budget() -> None:
    assert watch_settings(1) == watch_settings()
    assert watch_settings(2).seed != watch_settings(1).seed
    assert watch_settings(2).budget.parameters < watch_settings(1).budget.parameters


@pytest.mark.slow
def test_a_short_run_shrinks_the_net_and_still_recognises_unseen_people(tmp_path: Path) -> None:
    data = load_watch()
    scaling = normalization(data.train)
    settings = watch_settings()
    short = replace(
        settings,
        dense=TrainSettings(epochs=3, rate=5e-3),
        gates=replace(settings.gates, train=TrainSettings(epochs=12, rate=2e-3), beta=4.0, every=5),
        finetune=TrainSettings(epochs=3, rate=3e-3),
    )
    result = compress(
        watch_net, watch_training_data(data, scaling), short, out=tmp_path / "out", name="watch", factory=FACTORY
    )
    test = evaluate(result.model, watch_samples(data.test, scaling))
    assert test.parameters <= watch_settings(1).budget.parameters * 24_743
    assert test.accuracy >= 0.6
