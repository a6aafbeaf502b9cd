"""Masks and other reparametrizations of torch's own, folded into plain weights.

Rules kept here:
1. ``torch.nn.utils.prune`` leaves ``weight_orig`` and ``weight_mask`` and multiplies before each call; so do we, once.
2. ``torch.nn.utils.parametrize`` (weight norm, spectral norm, the user's own) is evaluated once, in ``eval``.
3. A state dict that was saved with masks fits the module without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.utils import parametrize, prune

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

__all__ = ["fold_masks", "masked_state"]

ORIGINAL, MASK = "_orig", "_mask"


def fold_masks(module: nn.Module) -> None:
    """Turn masked and parametrized tensors into plain ones, in place."""
    remove: Callable[[nn.Module, str], object] = prune.remove  # torch gives it no types
    for layer in module.modules():
        for hook in list(layer._forward_pre_hooks.values()):  # noqa: SLF001 - torch offers no other way to ask
            if isinstance(hook, prune.BasePruningMethod):
                remove(layer, hook._tensor_name)  # noqa: SLF001 - as torch's own is_pruned does
        if parametrize.is_parametrized(layer):
            for name in list(layer.parametrizations):  # type: ignore[arg-type] # a ModuleDict, says torch's documentation
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)


def masked_state(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict whose masks are multiplied in, where the module wants plain tensors.

    Args:
        state: What the file holds.
        wanted: The module's own state dict.
    """
    folded = dict(state)
    for name in wanted:
        original, mask = state.get(name + ORIGINAL), state.get(name + MASK)
        if name not in state and original is not None and mask is not None and name + ORIGINAL not in wanted:
            folded[name] = original * mask
            del folded[name + ORIGINAL], folded[name + MASK]
    return folded
