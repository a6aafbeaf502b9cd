"""What a network is worth, and what it costs.

Rules kept here:
1. Scores are those of :mod:`edgepe.metrics`, on the samples that are given, in evaluation mode.
2. Costs are counted on the network as it is: its parameters, the operations of its layers, the float32 bytes of its
   weights and buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from edgepe.compress.groups import count_macs
from edgepe.metrics import metric

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from edgepe.compress.training_data import Samples

__all__ = ["Evaluation", "evaluate", "predict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores 0 to 1 (precision, recall and F1 are means over classes) and costs of a network.

    Attributes:
        samples: How many samples it was scored on.
        accuracy: Share that is right.
        precision: Macro precision.
        recall: Macro recall.
        f1: Macro F1.
        parameters: Number of trainable parameters.
        macs: Multiply-accumulate operations for one example.
        weight_bytes: Float32 bytes of parameters and buffers.
        train_seconds: Wall time of all training that led to it.
    """

    samples: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    parameters: int
    macs: int
    weight_bytes: int
    train_seconds: float


def predict(model: nn.Module, x: Tensor, *, batch: int = 512) -> NDArray[np.float32]:
    """Return logits float32 [n, classes] in evaluation mode; the network's mode is left as it was."""
    training = model.training
    with torch.no_grad():
        parts = [model.eval()(part).numpy() for part in torch.split(x, batch)]
    model.train(training)
    return np.concatenate(parts)


def evaluate(model: nn.Module, data: Samples, *, train_seconds: float = 0.0) -> Evaluation:
    """Score a classifier on samples and count what it costs."""
    outputs, labels = {"logits": predict(model, data.x)}, data.y.numpy()
    scores = {name: metric(name).score(outputs, labels) for name in ("accuracy", "precision", "recall", "f1")}
    state = model.state_dict().values()
    return Evaluation(
        samples=len(data),
        **scores,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=count_macs(model, data.x[:2]),
        weight_bytes=sum(value.numel() * value.element_size() for value in state),
        train_seconds=train_seconds,
    )
