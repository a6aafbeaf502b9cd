"""Capture an ONNX file: a child process reads it, this one takes over the clean graph.

Rules kept here:
1. Bytes of somebody else's are parsed in a child with limits on time, memory and written bytes: what they do to a
   library ends the child and is an error here.
2. What comes back was serialized by our own code: an optimized graph, no longer the user's file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from edgepe.capture.finish import captured_from, with_ports
from edgepe.capture.onnx_child import CLEAN, REPORT, REQUEST
from edgepe.errors import CaptureError, EdgepeError, UnsupportedOpError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepe.capture.captured import Captured

__all__ = ["capture_onnx", "captured_from"]

TIMEOUT_S = 300.0


def capture_onnx(
    path: Path,
    *,
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    outputs: tuple[str, ...] = (),
    timeout_s: float = TIMEOUT_S,
) -> Captured:
    """Return an ONNX file as a captured model.

    Args:
        path: The file; external data must lie beside it.
        name: The model's name.
        shapes: Input name → shape for open dimensions; -1 keeps the batch open.
        outputs: Values to cut the graph at; none keeps its own outputs.
        timeout_s: Seconds after which the child is killed.

    Raises:
        CaptureError: It is no valid float ONNX graph, leaves a dimension open, or cannot be read within the limits.
        UnsupportedOpError: An operator is none of ONNX's own.
        UsageError: A shape or an output does not fit.
    """
    with tempfile.TemporaryDirectory(prefix="edgepe-capture-") as scratch:
        folder = Path(scratch)
        wish = {"path": str(path.absolute()), "shapes": {key: list(shape) for key, shape in shapes.items()}}
        (folder / REQUEST).write_text(json.dumps(wish | {"outputs": list(outputs), "seconds": int(timeout_s) + 1}))
        _read_in_child(folder, path, timeout_s)
        clean = ir.serde.deserialize_model(onnx.load(folder / CLEAN))
    return with_ports(clean, name=name)


def _read_in_child(folder: Path, path: Path, timeout_s: float) -> None:
    command = [sys.executable, "-m", "edgepe.capture.onnx_child", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own module
    except subprocess.TimeoutExpired as error:
        raise _unreadable(path, f"not done after {timeout_s:g} s") from error
    report = folder / REPORT
    if report.is_file():
        raise _error(json.loads(report.read_text(encoding="utf8")))
    if done.returncode != 0 or not (folder / CLEAN).is_file():
        raise _unreadable(path, f"the reading process ended with {done.returncode}")


def _unreadable(path: Path, got: str) -> CaptureError:
    return CaptureError(
        f"{path} cannot be read within the limits of time and memory",
        expected="a model that onnx reads",
        got=got,
        next_step="export it again; a model that crashes its reader is damaged or hostile",
    )


def _error(told: dict[str, str | None]) -> EdgepeError:
    """Return the error that the child raised, as this process would have."""
    what, rest = str(told["what"]), {key: told[key] for key in ("expected", "got", "next_step")}
    if told["kind"] == UnsupportedOpError.__name__:
        return UnsupportedOpError(what, op=str(told["op"]), node=str(told["node"]), **rest)
    kind = UsageError if told["kind"] == UsageError.__name__ else CaptureError
    return kind(what, **rest)
