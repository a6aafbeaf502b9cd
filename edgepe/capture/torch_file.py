"""Capture what torch saved whole: a program (``.pt2``) or TorchScript.

Rules kept here:
1. Such a file holds code, and loading it runs it with the user's rights: it is as trusted as a factory.
2. A program knows its shapes; TorchScript does not, and takes those of the data, as a factory does.
"""

from __future__ import annotations

import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import torch
from torch import nn

from edgepe.capture.captured import Captured, Port
from edgepe.capture.finish import captured_from
from edgepe.capture.torch_module import OPSET, cause, example_inputs, example_outputs, output_names, quiet
from edgepe.errors import CaptureError
from edgepe.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["capture_program", "capture_script"]

SCRIPT_OPSET = 18
"""The newest operator set of the exporter that takes TorchScript, which is the oldest that the graph passes want."""

UNREADABLE = (RuntimeError, OSError, ValueError, KeyError, EOFError, AssertionError, TypeError, AttributeError)


def capture_program(
    path: Path, *, name: str, shapes: Mapping[str, tuple[int, ...]], outputs: tuple[str, ...] = ()
) -> Captured:
    """Return a ``.pt2`` of ``torch.export.save`` as a captured model.

    Args:
        path: The file.
        name: The model's name.
        shapes: Input name → shape for open dimensions; -1 keeps the batch open.
        outputs: Values to cut the graph at; none keeps the program's own.

    Raises:
        CaptureError: It is no such file, or cannot be exported.
        UsageError: A shape or an output does not fit.
    """
    try:
        with quiet():
            program = torch.export.load(path)
    except (*UNREADABLE, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise _unreadable(path, "a file of torch.export.save", error) from error
    with torch.no_grad(), quiet():
        try:
            exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            raise _not_exported(path, error) from error
    if exported is None:
        raise CaptureError("PyTorch's exporter gave no model", expected="an ONNX program", got="None")
    return captured_from(exported.model, name=name, shapes=shapes, outputs=outputs)


def capture_script(path: Path, *, name: str, inputs: tuple[Port, ...], outputs: tuple[str, ...] = ()) -> Captured:
    """Return a TorchScript file as a captured model.

    Args:
        path: The file.
        name: The model's name.
        inputs: What it is called with, in order; an empty name takes that of the parameter of ``forward``.
        outputs: Values to cut the graph at; none keeps the script's own.

    Raises:
        CaptureError: It is no such file, does not run on such inputs, or cannot be exported.
    """
    if not inputs:
        raise CaptureError(
            "the shapes of the script's inputs are not known",
            expected="calibration data, or --shape NAME=1,3,224,224",
            got="neither",
        )
    load: Callable[[str], nn.Module] = torch.jit.load  # torch gives it no types
    try:
        with quiet():
            script = load(str(path)).eval()
    except UNREADABLE as error:
        raise _unreadable(path, "a file of torch.jit.save", error) from error
    forward: Any = script.forward  # a ScriptMethod, which has a schema
    parameters = [argument.name for argument in forward.schema.arguments[1:]]
    named = _in_order(inputs, parameters)
    with tempfile.TemporaryDirectory(prefix="edgepe-export-") as scratch:
        exported = Path(scratch) / "model.onnx"
        _export_script(script, named, exported, path)
        return captured_from(ir.serde.deserialize_model(onnx.load(exported)), name=name, outputs=outputs)


def _export_script(script: nn.Module, inputs: tuple[Port, ...], to: Path, path: Path) -> None:
    example = example_inputs(inputs)
    with torch.no_grad(), quiet():
        results = output_names(example_outputs(script, example))
        try:
            torch.onnx.export(
                script,
                example,
                to,
                dynamo=False,
                opset_version=SCRIPT_OPSET,
                input_names=[port.name for port in inputs],
                output_names=results,
                dynamic_axes={port.name: {0: "batch"} for port in inputs if port.shape[0] == -1},
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            raise _not_exported(path, error) from error


def _in_order(inputs: tuple[Port, ...], parameters: list[str]) -> tuple[Port, ...]:
    places = {name: place for place, name in enumerate(parameters)}
    ordered = sorted(inputs, key=lambda port: places.get(port.name, 0))
    return tuple(
        Port(name=port.name or parameters[place], dtype=port.dtype, shape=port.shape)
        for place, port in enumerate(ordered)
    )


def _unreadable(path: Path, wanted: str, error: Exception) -> CaptureError:
    return CaptureError(
        f"{path} cannot be loaded by torch {torch.__version__}",
        expected=wanted,
        got=first_line(error),
        next_step="save it again with this version of torch, or give package.module:factory with --weights",
    )


def _not_exported(path: Path, error: Exception) -> CaptureError:
    return CaptureError(
        f"PyTorch cannot export {path}",
        expected="a model that torch.onnx.export takes",
        got=cause(error),
        next_step="export it to .onnx yourself, or give package.module:factory with --weights",
    )
