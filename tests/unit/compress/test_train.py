from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from edgepe.compress import (
    Budget,
    GateSettings,
    Progress,
    Samples,
    TrainSettings,
    evaluate,
    fit,
    fit_gates,
    make_variational,
    rebuild,
    reproducible,
)
from edgepe.errors import CompressError

TRAIN = TrainSettings(epochs=4, rate=1e-2, batch=32)
GATES = GateSettings(train=TrainSettings(epochs=30, rate=5e-3, batch=32), every=2)


def network(seed: int = 5) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(10, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)
        )


def test_gates_meet_the_budget_and_the_rebuilt_network_still_tells_the_classes_apart(blobs: Samples) -> None:
    seen: list[Progress] = []
    with reproducible(1, 1):
        model = network()
        fit(model, blobs, TRAIN, stage="dense", seed=1)
        dense = evaluate(model, blobs)
        variational = make_variational(model, example=blobs.x[:2])
        fit_gates(variational, blobs, GATES, Budget(parameters=0.3), seed=1, report=seen.append)
        smaller = rebuild(variational)
        fit(smaller, blobs, TRAIN, stage="finetune", seed=1)
    after = evaluate(smaller, blobs)
    assert after.parameters <= 0.3 * dense.parameters
    assert after.accuracy >= dense.accuracy - 0.02
    assert [row.epoch for row in seen] == list(range(1, 31))
    assert seen[-1].parameters == after.parameters
    assert max(row.beta for row in seen) > 0.5


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(blobs: Samples) -> None:
    def train(seed: int) -> dict[str, torch.Tensor]:
        with reproducible(seed, 1):
            variational = make_variational(network(), example=blobs.x[:2])
            settings = replace(GATES, train=replace(GATES.train, epochs=1))
            fit_gates(variational, blobs, settings, Budget(parameters=1.0), seed=seed)
        return variational.state_dict()

    first, second, other = train(1), train(1), train(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_callers_random_state_and_threads_are_left_as_they_were() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with reproducible(7, 1):
        torch.rand(3)
    assert torch.equal(state, torch.get_rng_state())
    assert threads == torch.get_num_threads()


def test_a_loss_that_is_not_finite_stops_the_run_with_the_last_good_state(blobs: Samples) -> None:
    model = network()
    x = blobs.x.clone()
    good: dict[str, torch.Tensor] = {}

    def spoil(progress: Progress) -> None:
        if progress.epoch == 2:
            good.update({name: value.clone() for name, value in model.state_dict().items()})
            x[::3] = float("nan")

    with pytest.raises(CompressError, match="diverged in epoch 3") as caught:
        fit(model, Samples(x=x, y=blobs.y), TRAIN, stage="dense", seed=1, report=spoil)
    assert "lower the rate (now 0.01)" in str(caught.value)
    assert all(torch.equal(good[name], value) for name, value in model.state_dict().items())
    assert not model.training


def test_a_budget_that_is_not_met_says_what_was_reached(blobs: Samples) -> None:
    variational = make_variational(network(), example=blobs.x[:2])
    settings = replace(GATES, train=replace(GATES.train, epochs=1))
    with pytest.raises(CompressError, match="the budget was not met") as caught:
        fit_gates(variational, blobs, settings, Budget(parameters=0.1), seed=1)
    assert caught.value.expected == "at most 78 parameters"
    assert str(caught.value.got).startswith("780 after 1 epochs")


def test_a_budget_below_one_channel_a_group_is_refused_before_training(blobs: Samples) -> None:
    variational = make_variational(network(), example=blobs.x[:2])
    seen: list[Progress] = []
    with pytest.raises(CompressError, match="cannot be met by this network"):
        fit_gates(variational, blobs, GATES, Budget(parameters=0.02), seed=1, report=seen.append)
    assert not seen
