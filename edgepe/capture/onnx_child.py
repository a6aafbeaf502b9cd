"""The process that reads an ONNX file: ``python -m edgepe.capture.onnx_child FOLDER``.

Rules kept here:
1. Limits first, then the foreign bytes: memory, CPU time, bytes written, no core file.
2. It writes into its folder alone: the clean graph, which onnxruntime opens, or a report of what is wrong.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

__all__ = ["CLEAN", "REPORT", "REQUEST", "main"]

REQUEST, CLEAN, REPORT = "request.json", "clean.onnx", "error.json"

BASE_BYTES = 4 << 30
"""Address space for the libraries and for graphs of usual size."""
BYTES_PER_BYTE = 12
"""Copies of the model that parsing, converting, folding and writing hold at once, with room."""
ERRORS_ONLY = 3
LARGEST_WRITTEN = (1 << 31) + (1 << 20)


def main(folder: Path) -> int:
    """Do what the folder's request says and return the exit code."""
    wish = json.loads((folder / REQUEST).read_text(encoding="utf8"))
    path = Path(wish["path"])
    limit(_model_bytes(path), int(wish["seconds"]))
    from edgepe.errors import EdgepeError  # noqa: PLC0415 - behind the limits, like all that follows

    try:
        write_clean(folder, path, wish)
    except EdgepeError as error:
        _report(folder, type(error).__name__, error)
    except MemoryError:
        _report(folder, "CaptureError", EdgepeError(f"{path} takes more memory than its size explains"))
    except Exception as error:  # noqa: BLE001 - a process edge: hostile bytes may raise anything in any library
        told = EdgepeError(
            f"{path} cannot be read",
            expected="a valid ONNX model",
            got=f"{type(error).__name__}: {str(error)[:300]}",
            next_step="export it again",
        )
        _report(folder, "CaptureError", told)
    return 0


def write_clean(folder: Path, path: Path, wish: dict[str, object]) -> None:
    """Read the model and write its clean graph."""
    import onnx_ir as ir  # noqa: PLC0415 - behind the limits

    from edgepe.capture.onnx_intake import read_onnx  # noqa: PLC0415 - behind the limits

    shapes, outputs = wish["shapes"], wish["outputs"]
    if not isinstance(shapes, dict) or not isinstance(outputs, list):
        message = "a request has shapes and outputs"
        raise TypeError(message)
    clean = read_onnx(path, shapes={name: tuple(shape) for name, shape in shapes.items()}, outputs=tuple(outputs))
    data = ir.serde.serialize_model(clean).SerializeToString()
    open_once(data)
    (folder / CLEAN).write_bytes(data)


def open_once(data: bytes) -> None:
    """Open a graph in onnxruntime: what crashes it must do so here, and not where it is calibrated."""
    import onnxruntime  # noqa: PLC0415 - behind the limits

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def limit(model_bytes: int, seconds: int) -> None:
    """Limit this process's memory, CPU time and written bytes."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = max(BASE_BYTES, min(BASE_BYTES + BYTES_PER_BYTE * model_bytes, machine))
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, LARGEST_WRITTEN),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))


def _model_bytes(path: Path) -> int:
    """Return the size of what lies in the model's folder, as far as one model can use it."""
    beside = sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
    return min(beside, LARGEST_WRITTEN)


def _report(folder: Path, kind: str, error: Exception) -> None:
    keys = ("what", "expected", "got", "next_step", "op", "node")
    told = {key: None if getattr(error, key, None) is None else str(getattr(error, key)) for key in keys}
    (folder / REPORT).write_text(json.dumps({"kind": kind, **told}), encoding="utf8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
