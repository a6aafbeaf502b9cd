"""One interface over every runtime that can run an artifact.

Rules kept here:
1. A caller sees names, dtypes (numpy's names) and shapes (``-1``: open), never a runtime's own types.
2. A runtime is imported only when a model is opened with it; what is installed is read from package metadata.
3. An input that does not fit is refused here, with expected and got, before the runtime sees it: a runtime that reads
   past a buffer would end the process.
4. Outputs are copies that the caller owns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from device_agent.errors import ModelError, RuntimeMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

__all__ = [
    "EXTRAS",
    "FORMAT_RUNTIMES",
    "Runtime",
    "TensorInfo",
    "check_feeds",
    "check_model_file",
    "installed_runtimes",
    "open_runtime",
    "runtime_for",
]

DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "litert": ("ai-edge-litert",),
    "tflite-runtime": ("tflite-runtime",),
}
"""Runtime kind → the distributions that provide it, the usual one first."""

EXTRAS = {"onnxruntime": "agent-ort", "litert": "agent-tflite", "tflite-runtime": "agent-tflite-legacy"}
"""Runtime kind → the extra of this distribution that installs it."""

FORMAT_RUNTIMES = {"onnx": ("onnxruntime",), "tflite": ("litert", "tflite-runtime")}
"""Artifact format → the runtime kinds that can run it, the preferred one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """What a runtime says about one input or output.

    Attributes:
        name: The name under which it is fed or fetched.
        dtype: numpy's name of the element type, for example ``float32``.
        shape: Dimensions, ``-1`` where the model leaves one open.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def accepts(self, shape: Sequence[int]) -> bool:
        """Tell whether a concrete shape fits this one."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )


@runtime_checkable
class Runtime(Protocol):
    """A loaded model that can be run."""

    @property
    def name(self) -> str:
        """The runtime's kind, for example ``onnxruntime``."""

    @property
    def version(self) -> str:
        """The runtime's own version."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The model's inputs, in its order."""

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The model's outputs, in its order."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: One array per input name, of that input's dtype and shape.

        Returns:
            One array per output name, owned by the caller.

        Raises:
            ModelError: The feeds do not fit the inputs, or the runtime fails.
        """

    def close(self) -> None:
        """Release the model; a second call does nothing."""


def installed_runtimes() -> tuple[tuple[str, str], ...]:
    """List (kind, version) of each installed runtime without importing any of them."""
    from importlib import metadata  # noqa: PLC0415 - pulls in the email package; a worker never needs it

    found = []
    for kind, distributions in DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                found.append((kind, metadata.version(distribution)))
            except metadata.PackageNotFoundError:
                continue
            break
    return tuple(found)


def runtime_for(model_format: str) -> str:
    """Choose the installed runtime kind for an artifact format.

    Args:
        model_format: ``onnx`` or ``tflite``.

    Raises:
        ModelError: The format is unknown.
        RuntimeMissingError: None of its runtimes is installed.
    """
    kinds = FORMAT_RUNTIMES.get(model_format)
    if kinds is None:
        raise ModelError("The model's format is unknown.", expected=" or ".join(FORMAT_RUNTIMES), got=model_format)
    installed = {kind for kind, _ in installed_runtimes()}
    for kind in kinds:
        if kind in installed:
            return kind
    raise missing(kinds[0])


def missing(kind: str) -> RuntimeMissingError:
    """Build the error that names the extra of an absent runtime."""
    return RuntimeMissingError(
        f"The runtime {kind} is not installed.",
        expected=DISTRIBUTIONS[kind][0],
        next_step=f"install it with: pip install 'edgepe[{EXTRAS[kind]}]'",
    )


def open_runtime(
    path: Path,
    *,
    kind: str,
    threads: int = 1,
    settings: Mapping[str, str] | None = None,
) -> Runtime:
    """Load a model file with one runtime.

    Args:
        path: The model file.
        kind: ``onnxruntime``, ``litert`` or ``tflite-runtime``.
        threads: Threads inside one run.
        settings: The runtime's own switches; for onnxruntime its session configuration entries, for example
            ``{"session.x64quantprecision": "1"}``; for LiteRT ``{"xnnpack": "0"}`` turns its delegate off.

    Raises:
        ModelError: The kind is unknown, or the file is no model that the runtime can load.
        RuntimeMissingError: The runtime is not installed; the message names the extra.
    """
    check_model_file(path)
    if kind == "onnxruntime":
        from device_agent.runtime.onnxruntime_ import open_onnx  # noqa: PLC0415 - rule 2

        return open_onnx(path, threads=threads, settings=settings or {})
    if kind in EXTRAS:
        from device_agent.runtime.tflite_ import open_tflite  # noqa: PLC0415 - rule 2

        return open_tflite(path, kind=kind, threads=threads, settings=settings or {})
    raise ModelError("The runtime is unknown.", expected=" or ".join(EXTRAS), got=kind)


def check_model_file(path: Path) -> None:
    """Refuse a path that is not a readable, non-empty file.

    Raises:
        ModelError: With the reason.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read.", got=error.strerror) from error
    if not path.is_file() or size == 0:
        raise ModelError(
            f"The model file {path} is no model.", expected="a non-empty file", got=f"{size} bytes or a folder"
        )


def check_feeds(inputs: Sequence[TensorInfo], feeds: Mapping[str, Array]) -> None:
    """Check that the feeds are exactly the inputs, in name, dtype and shape.

    Raises:
        ModelError: Naming the input, with expected and got.
    """
    names = [info.name for info in inputs]
    if set(names) != set(feeds):
        raise ModelError("The inputs do not have the model's names.", expected=sorted(names), got=sorted(feeds))
    for info in inputs:
        array = feeds[info.name]
        if array.dtype.name != info.dtype:
            raise ModelError(f"Input {info.name!r} has the wrong dtype.", expected=info.dtype, got=array.dtype.name)
        if not info.accepts(array.shape):
            raise ModelError(
                f"Input {info.name!r} has the wrong shape.", expected=list(info.shape), got=list(array.shape)
            )
