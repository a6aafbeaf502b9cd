"""A net that others trained: MLPerf Tiny's keyword net, whose 500 public samples are too few to train on.

Rule kept here: its file stores weights as int8 with scales though it computes in float, so its weights lie on a grid of
255 steps per channel already; what quantization costs it is the activations' share. The table says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from tests.bench.compile.data import data_folder
from tests.bench.compile.networks import DsCnn

__all__ = ["keyword_net"]

FILE = "kws_dscnn_fp32.tflite"
ORDERS = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (0, 1)}


@torch.no_grad()
def keyword_net() -> nn.Module:
    """Return the keyword net with the weights of the file, layer by layer in the file's order."""
    source = Interpreter(str(data_folder() / "models" / FILE))
    source.allocate_tensors()
    module = DsCnn()
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    steps = [step for step in source._get_ops_details() if step["op_name"] in ORDERS]
    for layer, step in zip(layers, steps, strict=True):
        _, weight, bias = step["inputs"]
        layer.weight.copy_(real_tensor(source, weight).permute(ORDERS[step["op_name"]]))
        if layer.bias is not None:
            layer.bias.copy_(real_tensor(source, bias))
    return module


def real_tensor(source: Any, index: int) -> torch.Tensor:
    """Return a constant of a TFLite file in float."""
    array = source.get_tensor(index).astype(np.float32)
    grid = next(each for each in source.get_tensor_details() if each["index"] == index)["quantization_parameters"]
    if len(grid["scales"]):
        axis = grid["quantized_dimension"]
        array = array * grid["scales"].reshape([-1 if place == axis else 1 for place in range(array.ndim)])
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
