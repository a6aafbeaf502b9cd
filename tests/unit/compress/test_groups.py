from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgepe.compress.groups import Extent, count_macs, find_groups, prune_channels
from edgepe.errors import CompressError


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_structure_counts_what_physical_removal_leaves(network: tuple[nn.Module, Tensor]) -> None:
    model, example = network
    structure = find_groups(model, example)
    kept = [channels - 1 - place % 2 for place, channels in enumerate(structure.widths)]
    assert structure.parameters(structure.widths) == parameters(model)
    assert structure.macs(structure.widths) == count_macs(model, example)
    prune_channels(
        model,
        example,
        [(group.name, range(group.channels - left)) for group, left in zip(structure.groups, kept, strict=True)],
    )
    assert structure.parameters(kept) == parameters(model)
    assert structure.macs(kept) == count_macs(model, example)
    assert model(example).shape == (len(example), 4)


def test_the_outputs_of_the_network_are_left_whole_and_said_so(network: tuple[nn.Module, Tensor]) -> None:
    structure = find_groups(*network)
    assert [row.reason for row in structure.skipped] == ["it gives the network's outputs"]


def test_the_branches_of_a_residual_sum_share_one_group() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.out = nn.Conv2d(3, 4, 1), conv, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            logits: Tensor = self.out(torch.relu(x + self.second(x)).mean((2, 3)))
            return logits

    (group,) = find_groups(Sum(), torch.zeros(2, 3, 5, 5)).groups
    assert group.gated == ("first", "second")


def test_a_gate_stands_behind_batchnorm_and_behind_the_last_layer_of_a_depthwise_pair() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 8, 1, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Conv1d(8, 2, 1),
    )
    (group,) = find_groups(model, torch.zeros(2, 3, 9)).groups
    assert group.gated == ("3",)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        pytest.param(nn.LayerNorm(8), "LayerNorm depends on it", id="layer-norm"),
        pytest.param(nn.PReLU(8), "PReLU depends on it", id="prelu"),
    ],
)
def test_a_group_with_a_layer_that_is_not_understood_is_left_whole(layer: nn.Module, reason: str) -> None:
    model = nn.Sequential(nn.Linear(5, 8), layer, nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    structure = find_groups(model, torch.zeros(2, 5))
    assert [group.name for group in structure.groups] == ["2"]
    assert reason in [row.reason for row in structure.skipped]


def test_a_grouped_convolution_keeps_its_neighbours_whole() -> None:
    model = nn.Sequential(nn.Conv1d(3, 6, 1), nn.Conv1d(6, 6, 3, groups=3), nn.Conv1d(6, 4, 1), nn.Conv1d(4, 2, 1))
    structure = find_groups(model, torch.zeros(2, 3, 9))
    assert [group.name for group in structure.groups] == ["2"]


def test_a_network_of_one_layer_has_nothing_to_remove() -> None:
    with pytest.raises(CompressError, match="nothing in this network can be removed"):
        find_groups(nn.Linear(3, 2), torch.zeros(2, 3))


def test_a_network_that_does_not_run_on_the_example_is_refused_and_keeps_its_mode() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).train()
    with pytest.raises(CompressError, match="cannot be traced"):
        find_groups(model, torch.zeros(2, 7))
    assert model.training


def test_an_extent_loses_as_many_features_as_each_channel_carries() -> None:
    assert Extent(total=100, shares=((0, 10), (1, 1))).left((3, 5)) == 65
