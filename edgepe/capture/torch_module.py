"""Capture a PyTorch module: import the factory, load its weights, make it deterministic, export it.

Rules kept here:
1. The factory is the user's own code and runs with the user's rights; nothing else of theirs does.
2. Every layer that draws is replaced by its deterministic self before export, masks are folded, all is in ``eval``.
3. The batch stays open: the example has two samples, so that the exporter does not take the batch for a constant.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgepe.capture.captured import Captured, Deterministic, Port
from edgepe.capture.finish import captured_from
from edgepe.capture.foreign import mean_layer
from edgepe.capture.masks import fold_masks
from edgepe.capture.weights import load_weights
from edgepe.errors import CaptureError, UsageError
from edgepe.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx_ir as ir

__all__ = [
    "OPSET",
    "capture_factory",
    "capture_module",
    "cause",
    "example_inputs",
    "example_outputs",
    "make_deterministic",
    "output_names",
    "quiet",
]

EXAMPLE_BATCH = 2
LARGEST_BATCH = 1 << 16
OPSET = 20


def capture_factory(
    source: str,
    *,
    name: str,
    weights: Path | None,
    inputs: tuple[Port, ...],
    outputs: tuple[str, ...] = (),
    talk: Callable[[str], None] | None = None,
) -> Captured:
    """Return what ``package.module:factory`` makes as a captured model.

    Args:
        source: ``package.module:factory``; called without arguments, returns a module.
        name: The model's name.
        weights: Safetensors or a state dict; None takes the module as the factory made it.
        inputs: What the module is called with, in order; the batch first.
        outputs: Values to cut the graph at; none keeps the module's own.
        talk: Told before the export, which takes seconds.

    Raises:
        UsageError: The factory cannot be imported or returns no module.
        WeightsError: The weights do not fit.
        CaptureError: The module cannot be exported.
    """
    module = _make(source)
    if weights is not None:
        load_weights(module, weights)
    return capture_module(module, name=name, inputs=inputs, outputs=outputs, talk=talk)


def capture_module(
    module: nn.Module,
    *,
    name: str,
    inputs: tuple[Port, ...],
    outputs: tuple[str, ...] = (),
    talk: Callable[[str], None] | None = None,
) -> Captured:
    """Return a module as a captured model.

    Args:
        module: The module; a copy of nothing is made, so its layers with ``deterministic()`` are replaced in place.
        name: The model's name.
        inputs: What it is called with, in order; a first dimension of -1 stays open.
        outputs: Values to cut the graph at; none keeps the module's own.
        talk: Told before the export.

    Raises:
        CaptureError: It cannot be exported.
    """
    if not inputs:
        raise CaptureError(
            "the shapes of the module's inputs are not known",
            expected="calibration data, or --shape NAME=1,3,224,224",
            got="neither",
        )
    if talk is not None:
        talk(f"exporting {name}")
    module = make_deterministic(module).eval()
    fold_masks(module)
    named = _named(module, inputs)
    return captured_from(_export(module, named), name=name, outputs=outputs)


def make_deterministic(module: nn.Module, *, path: str = "") -> nn.Module:
    """Return the module with each layer that draws replaced by one that does not, outermost first.

    Args:
        module: Its layers with ``deterministic()``, and the variational ones of known libraries, are replaced in place.
        path: Where it is in the model, for errors.

    Raises:
        CaptureError: A variational layer of a known library has no deterministic counterpart.
    """
    if isinstance(module, Deterministic):
        return module.deterministic()
    foreign = mean_layer(module, path=path)
    if foreign is not None:
        return foreign
    for name, child in module.named_children():
        replaced = make_deterministic(child, path=f"{path}.{name}".strip("."))
        if replaced is not child:
            setattr(module, name, replaced)
    return module


def _make(source: str) -> nn.Module:
    module_name, _, factory_name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"'{source}' cannot be imported",
            expected="package.module:factory, importable from the working directory",
            got=str(error),
            next_step="run edgepe where the package is, or install it",
        ) from error
    made = factory()
    if not isinstance(made, nn.Module):
        raise UsageError(f"'{source}' makes no torch module", expected="torch.nn.Module", got=type(made).__name__)
    return made


def _named(module: nn.Module, inputs: tuple[Port, ...]) -> tuple[Port, ...]:
    """Return the inputs in the order of forward's parameters, where they bear their names."""
    names = list(inspect.signature(module.forward).parameters)
    ordered = sorted(inputs, key=lambda port: names.index(port.name) if port.name in names else 0)
    return tuple(
        Port(name=port.name or names[index], dtype=port.dtype, shape=port.shape) for index, port in enumerate(ordered)
    )


def _export(module: nn.Module, inputs: tuple[Port, ...]) -> ir.Model:
    example = example_inputs(inputs)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    dynamic = tuple({0: batch} if port.shape[0] == -1 else {} for port in inputs)
    with torch.no_grad(), quiet():
        outputs = output_names(example_outputs(module, example))
        try:
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=[port.name for port in inputs],
                output_names=outputs,
                dynamic_shapes=dynamic,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise CaptureError(
                "PyTorch cannot export the module",
                expected="a module that torch.onnx.export(dynamo=True) takes",
                got=cause(error),
                next_step="make its forward free of Python branches on tensor values",
            ) from error
    if program is None:
        raise CaptureError("PyTorch's exporter gave no model", expected="an ONNX program", got="None")
    return program.model


def example_inputs(inputs: tuple[Port, ...]) -> tuple[torch.Tensor, ...]:
    """Return zeros of the inputs' shapes; two samples where the batch is open (rule 3)."""
    return tuple(
        torch.zeros([EXAMPLE_BATCH if size == -1 else size for size in port.shape], dtype=getattr(torch, port.dtype))
        for port in inputs
    )


def example_outputs(module: nn.Module, example: tuple[torch.Tensor, ...]) -> object:
    """Run a module once.

    Raises:
        CaptureError: It does not take the example.
    """
    try:
        return module(*example)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise CaptureError(
            "the module does not run on inputs of the data's shapes",
            expected="inputs that its forward takes",
            got=f"{', '.join(str(tuple(tensor.shape)) for tensor in example)}: {_said(error)}",
            next_step="declare the layout of the raw data in --signature, or give --shape",
        ) from error


def _said(error: BaseException) -> str:
    """Return what an error says: TorchScript prints its own traceback first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if "TorchScript" in first_line(error) and lines else first_line(error)


def cause(error: BaseException) -> str:
    """Return the first line of what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def output_names(result: object) -> list[str]:
    """Return names for what a module returns.

    Raises:
        CaptureError: It returns no tensors.
    """
    if isinstance(result, torch.Tensor):
        return ["output"]
    if isinstance(result, (tuple, list)):
        return [f"output_{index}" for index in range(len(result))]
    if isinstance(result, dict):
        return [str(key) for key in result]
    raise CaptureError("the module returns no tensors", expected="a tensor, or several", got=type(result).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's remarks about packages that are not installed and about its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
