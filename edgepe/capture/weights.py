"""Read weights as tensors and nothing else.

Rules kept here:
1. safetensors by its magic, else a state dict through ``torch.load(weights_only=True)``; code never runs.
2. Masks that were saved beside their weights (``torch.nn.utils.prune``) are multiplied in.
3. The weights fit the module exactly: a missing, unexpected or misshapen tensor is an error that names it.
"""

from __future__ import annotations

import pickle
import warnings
from typing import TYPE_CHECKING

import safetensors
import torch
from safetensors.torch import load_file

from edgepe.capture.masks import masked_state
from edgepe.errors import MissingFileError, WeightsError
from edgepe.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["load_weights", "read_weights"]

SHOWN = 3


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Load a file's tensors into a module.

    Raises:
        MissingFileError: There is no such file.
        WeightsError: The file is unsafe or damaged, or its tensors do not fit.
    """
    wanted = module.state_dict()
    state = masked_state(read_weights(path), wanted)
    problems = [f"missing {name}" for name in wanted if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in wanted]
    problems += [
        f"{name}: {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise WeightsError(
            f"the weights in {path} do not fit the module",
            expected=f"its {len(wanted)} tensors, by name and shape",
            got="; ".join(problems[:SHOWN]) + more,
            next_step="give the weights of this very architecture",
        )
    module.load_state_dict(state)


def read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Return the tensors of a file by name.

    Raises:
        MissingFileError: There is no such file.
        WeightsError: The file holds something else than tensors, or is damaged.
    """
    if not path.is_file():
        raise MissingFileError(f"there are no weights {path}", expected="a file", got="no such file")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a remark on the pickle protocol, which we report ourselves
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _unsafe(path, got=first_line(error)) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise _unsafe(path, got=f"a {type(state).__name__} that is no state dict")
    return state


def _safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged", expected="a safetensors file", got=str(error)) from error


def _unsafe(path: Path, *, got: str) -> WeightsError:
    return WeightsError(
        f"{path} cannot be loaded safely",
        expected="safetensors, or a state dict of plain tensors (a pickle may run code and is refused)",
        got=got,
        next_step="safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
    )
