"""Models in TFLite, run by LiteRT (``ai-edge-litert``) or, on 32-bit boards, by its ancestor ``tflite-runtime``.

Rules kept here:
1. Where the file has exactly one signature its names are used, else the tensors' own names.
2. Outputs are copied out of the arena: a view that outlives the next run would show the next run's values.
3. An open dimension is resized to what is fed; a fixed one is never silently resized.
4. Threads are what the caller says.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from device_agent.errors import ModelError
from device_agent.runtime.base import TensorInfo, check_feeds, missing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from device_agent.runtime.base import Array

__all__ = ["TfliteRuntime", "open_tflite"]

MODULES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
"""Runtime kind → its interpreter's module and its distribution."""

FOREIGN = (RuntimeError, ValueError, TypeError)  # all that the interpreter's binding raises


def open_tflite(path: Path, *, kind: str, threads: int, settings: Mapping[str, str]) -> TfliteRuntime:
    """Load a TFLite file.

    Args:
        path: The model file.
        kind: ``litert`` or ``tflite-runtime``.
        threads: Threads inside one run.
        settings: ``{"xnnpack": "0"}`` keeps the default delegate off; no other key is known.

    Raises:
        ModelError: The interpreter refuses the file, or a setting is unknown.
        RuntimeMissingError: The runtime is not installed.
    """
    module = import_interpreter(kind)
    resolver = choose_resolver(module, settings)
    try:
        interpreter = module.Interpreter(
            model_path=str(path), num_threads=threads, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
        return TfliteRuntime(interpreter, name=kind, version=distribution_version(kind))
    except FOREIGN as error:
        raise ModelError(
            f"{kind} cannot load {path.name}.",
            got=str(error).strip(),
            next_step="build the model again for this runtime's version, or check the file's digest",
        ) from error


def import_interpreter(kind: str) -> Any:  # noqa: ANN401 - neither runtime ships types
    """Import the interpreter's module, or name the extra that installs it."""
    try:
        return import_module(MODULES[kind][0])
    except ImportError as error:
        raise missing(kind) from error


def choose_resolver(module: Any, settings: Mapping[str, str]) -> Any:  # noqa: ANN401 - neither runtime ships types
    """Translate the settings to the interpreter's op resolver.

    Raises:
        ModelError: A setting is unknown.
    """
    unknown = sorted(set(settings) - {"xnnpack"})
    if unknown or settings.get("xnnpack", "1") not in {"0", "1"}:
        raise ModelError("The runtime setting is unknown.", expected="xnnpack = 0 or 1", got=dict(settings))
    types = module.OpResolverType
    return types.BUILTIN_WITHOUT_DEFAULT_DELEGATES if settings.get("xnnpack") == "0" else types.AUTO


def distribution_version(kind: str) -> str:
    """Read the runtime's version from its package metadata."""
    from importlib import metadata  # noqa: PLC0415 - pulls in the email package; only needed once a model is opened

    return metadata.version(MODULES[kind][1])


def tensors(interpreter: Any) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:  # noqa: ANN401 - neither runtime ships types
    """Return the inputs' and outputs' details by name, by rule 1."""
    if len(interpreter.get_signature_list()) == 1:
        runner = interpreter.get_signature_runner()
        return runner.get_input_details(), runner.get_output_details()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {row["name"]: row for row in inputs}, {row["name"]: row for row in outputs}


def describe(name: str, row: Mapping[str, Any]) -> TensorInfo:
    """Translate the interpreter's description of a tensor."""
    signature = row["shape_signature"]
    shape = signature if len(signature) == len(row["shape"]) else row["shape"]
    return TensorInfo(name=name, dtype=row["dtype"].__name__.rstrip("_"), shape=tuple(int(size) for size in shape))


class TfliteRuntime:
    """A TFLite interpreter behind the Runtime interface."""

    def __init__(self, interpreter: Any, *, name: str, version: str) -> None:  # noqa: ANN401 - neither runtime ships types
        self.name = name
        self.version = version
        inputs, outputs = tensors(interpreter)
        self.inputs = tuple(describe(key, row) for key, row in inputs.items())
        self.outputs = tuple(describe(key, row) for key, row in outputs.items())
        self._input_index = {key: row["index"] for key, row in inputs.items()}
        self._output_index = {key: row["index"] for key, row in outputs.items()}
        self._fed = {key: tuple(int(size) for size in row["shape"]) for key, row in inputs.items()}
        self._interpreter = interpreter

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see ``Runtime.run``."""
        check_feeds(self.inputs, feeds)
        if self._interpreter is None:
            raise ModelError("The model is closed.")
        try:
            self._resize(feeds)
            for name, array in feeds.items():
                self._interpreter.set_tensor(self._input_index[name], array)
            self._interpreter.invoke()
            # get_tensor copies (rule 2); tensor() would be the dangling view.
            return {name: self._interpreter.get_tensor(index) for name, index in self._output_index.items()}
        except FOREIGN as error:
            raise ModelError(f"{self.name} failed while running the model.", got=str(error).strip()) from error

    def _resize(self, feeds: Mapping[str, Array]) -> None:
        """Give an open dimension the size that is fed (rule 3: ``check_feeds`` has refused the fixed ones)."""
        shapes = {name: array.shape for name, array in feeds.items()}
        if shapes == self._fed:
            return
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._input_index[name], shape)
        self._interpreter.allocate_tensors()
        self._fed = shapes

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None
