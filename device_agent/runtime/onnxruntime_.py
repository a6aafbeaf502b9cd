"""Models in ONNX, run by onnxruntime on the CPU.

Rules kept here:
1. The session is made from the file's path: onnxruntime then maps it instead of holding a second copy.
2. Every error of onnxruntime leaves as ModelError, with its first line as the fact.
3. Threads are what the caller says: by default onnxruntime takes every core, which an edge box shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from device_agent.errors import ModelError
from device_agent.runtime.base import TensorInfo, check_feeds, missing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from device_agent.runtime.base import Array

__all__ = ["OnnxRuntime", "first_line", "foreign_errors", "open_onnx"]

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}

ERRORS_ONLY = 3  # onnxruntime's severity: warnings about unused initializers are no news to an operator


def open_onnx(path: Path, *, threads: int, settings: Mapping[str, str]) -> OnnxRuntime:
    """Load an ONNX file.

    Raises:
        ModelError: onnxruntime refuses the file or a setting.
        RuntimeMissingError: onnxruntime is not installed.
    """
    try:
        import onnxruntime as ort  # noqa: PLC0415 - rule 2 of base
    except ImportError as error:
        raise missing("onnxruntime") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    foreign = foreign_errors()
    try:
        for key, value in settings.items():
            options.add_session_config_entry(key, value)
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except foreign as error:
        raise ModelError(
            f"onnxruntime {ort.__version__} cannot load {path.name}.",
            got=first_line(error),
            next_step="build the model again for this runtime's version, or check the file's digest",
        ) from error
    return OnnxRuntime(session, version=ort.__version__, foreign=foreign)


def foreign_errors() -> tuple[type[Exception], ...]:
    """List the exception types that onnxruntime raises; it has no common root of its own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - rule 2 of base

    own = tuple(
        value
        for value in vars(state).values()
        if isinstance(value, type) and issubclass(value, Exception) and value is not Exception
    )
    return (*own, RuntimeError, ValueError, TypeError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class OnnxRuntime:
    """An onnxruntime session behind the Runtime interface."""

    name = "onnxruntime"

    def __init__(self, session: Any, *, version: str, foreign: tuple[type[Exception], ...]) -> None:  # noqa: ANN401 - onnxruntime ships no types
        self.version = version
        self.inputs = tuple(describe(node) for node in session.get_inputs())
        self.outputs = tuple(describe(node) for node in session.get_outputs())
        self._names = [info.name for info in self.outputs]
        self._session = session
        self._foreign = foreign

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see ``Runtime.run``."""
        check_feeds(self.inputs, feeds)
        if self._session is None:
            raise ModelError("The model is closed.")
        try:
            values = self._session.run(self._names, dict(feeds))
        except self._foreign as error:
            raise ModelError("onnxruntime failed while running the model.", got=first_line(error)) from error
        return dict(zip(self._names, values, strict=True))

    def close(self) -> None:
        """Release the session."""
        self._session = None


def describe(node: Any) -> TensorInfo:  # noqa: ANN401 - onnxruntime ships no types
    """Translate onnxruntime's description of a tensor.

    Raises:
        ModelError: The element type has no numpy counterpart.
    """
    dtype = DTYPES.get(node.type)
    if dtype is None:
        raise ModelError(f"Tensor {node.name!r} has a type this agent cannot feed.", expected=[*DTYPES], got=node.type)
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorInfo(name=node.name, dtype=dtype, shape=shape)
