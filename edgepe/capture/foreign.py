"""Variational layers of other libraries, by the mean of their posterior.

Rules kept here:
1. A library is known by its layers' class paths and attribute names; it is never imported.
2. The layer that stands in is torch's own, of the posterior's means: same input, same output, no randomness. Where the
   library's layer also returns a KL term, the stand-in returns zero in its place.
3. A variational layer of such a library without an entry here is an error that names it and the protocol.

Sources: bayesian-torch 0.5.0, blitz-bayesian-pytorch 0.2.8, torchbnn 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgepe.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIBRARIES", "mean_layer"]

LIBRARIES = ("bayesian_torch", "blitz", "torchbnn")

KERNELS: dict[str, Callable[..., nn.Module]] = {
    "Linear": nn.Linear,
    "Conv1d": nn.Conv1d,
    "Conv2d": nn.Conv2d,
    "Conv3d": nn.Conv3d,
}
POSTERIORS = ("mu_weight", "mu_kernel", "weight_mu")
BIASES = ("mu_bias", "bias_mu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How a library names its layers: what stands before and behind ``Linear``, ``Conv2d`` and so on."""

    prefix: str = ""
    suffixes: tuple[str, ...] = ("",)

    def kernel(self, name: str) -> Callable[..., nn.Module] | None:
        """Return torch's layer for a class name of the library's, or None."""
        for suffix in self.suffixes:
            if name.startswith(self.prefix) and name.endswith(suffix):
                return KERNELS.get(name.removeprefix(self.prefix).removesuffix(suffix))
        return None


SPELLINGS = {
    "bayesian_torch": Spelling(suffixes=("Reparameterization", "Flipout")),
    "blitz": Spelling(prefix="Bayesian"),
    "torchbnn": Spelling(prefix="Bayes"),
}


class ZeroKl(nn.Module):
    """A layer whose caller also takes a KL term."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self,
        x: torch.Tensor,
        return_kl: bool = True,  # noqa: FBT001, FBT002 - the library's own signature
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return the layer's output, and zero."""
        out: torch.Tensor = self.layer(x)
        return (out, torch.zeros(())) if return_kl else out


def mean_layer(module: nn.Module, *, path: str) -> nn.Module | None:
    """Return the deterministic layer that stands for a foreign variational one; None for any other module.

    Args:
        module: The layer.
        path: Where it is in the model, for the error.

    Raises:
        CaptureError: It is variational, of a known library, and has no entry here.
    """
    kind = type(module)
    library = kind.__module__.partition(".")[0]
    if library not in SPELLINGS:
        return None
    kernel = SPELLINGS[library].kernel(kind.__name__)
    mean = _first(module, POSTERIORS)
    if kernel is not None and mean is not None:
        layer = _filled(kernel, module, mean, _first(module, BIASES))
        returns_kl = library == "bayesian_torch" and not getattr(module, "dnn_to_bnn_flag", False)
        return ZeroKl(layer) if returns_kl else layer
    if any(name.startswith(("mu", "rho")) or name.endswith(("_mu", "_rho", "_sigma")) for name, _ in _own(module)):
        raise CaptureError(
            f"the variational layer '{path}' of {library} is not known",
            expected=f"a linear or convolutional layer of {', '.join(LIBRARIES)}",
            got=kind.__name__,
            next_step="give the layer a method deterministic() that returns the layer to export",
        )
    return None


def _own(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


def _first(module: nn.Module, names: tuple[str, ...]) -> torch.Tensor | None:
    found = (getattr(module, name, None) for name in names)
    return next((tensor for tensor in found if isinstance(tensor, torch.Tensor)), None)


def _filled(
    kernel: Callable[..., nn.Module], module: nn.Module, mean: torch.Tensor, bias: torch.Tensor | None
) -> nn.Module:
    if getattr(module, "bias", True) is False:  # blitz draws a bias even where it uses none
        bias = None
    layer: nn.Module
    if kernel is nn.Linear:
        layer = kernel(mean.shape[1], mean.shape[0], bias=bias is not None)
    else:
        groups = int(getattr(module, "groups", 1))
        said = {
            name: getattr(module, name)
            for name in ("stride", "padding", "dilation", "padding_mode")
            if hasattr(module, name)
        }
        size = tuple(mean.shape[2:])
        layer = kernel(mean.shape[1] * groups, mean.shape[0], size, groups=groups, bias=bias is not None, **said)
    state = {"weight": mean.detach()} | ({} if bias is None else {"bias": bias.detach()})
    layer.load_state_dict(state)
    return layer
