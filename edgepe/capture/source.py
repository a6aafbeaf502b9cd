"""Tell what kind of source the user gave, and capture it."""

from __future__ import annotations

import re
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from edgepe.errors import CaptureError, MissingFileError, UsageError
from edgepe.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgepe.capture.captured import Captured, Port

__all__ = ["capture", "source_name", "wants_shapes"]

COMPRESSED_MODEL = "model.onnx"
COMPRESSED_NOTE = "compression.json"

READ = "an .onnx file, a .pt2, TorchScript, a folder made by edgepe compress, or package.module:factory"
SCRIPT_SUFFIXES = frozenset({".jit", ".torchscript", ".ts"})
ARCHIVES = frozenset({".pt", ".pth"})

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


class Kind(StrEnum):
    """What a source is."""

    FACTORY = "factory"
    SCRIPT = "script"
    PROGRAM = "program"
    ONNX = "onnx"


def kind_of(source: str) -> Kind:
    """Return what a source is, by its form, its suffix, and where that does not tell, by what the archive holds."""
    if _FACTORY.fullmatch(source) is not None:
        return Kind.FACTORY
    path = Path(source)
    if path.suffix == ".pt2":
        return Kind.PROGRAM
    scripted = path.suffix in SCRIPT_SUFFIXES or (path.suffix in ARCHIVES and _holds_code(path))
    return Kind.SCRIPT if scripted else Kind.ONNX


def _holds_code(path: Path) -> bool:
    """Return whether a file of torch's is TorchScript rather than weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def wants_shapes(source: str) -> bool:
    """Return whether capturing this source needs the shapes of its inputs: a factory or a script does not know them."""
    return kind_of(source) in {Kind.FACTORY, Kind.SCRIPT}


def source_name(source: str) -> str:
    """Return the model's default name: the stem of a file, the name of a folder or a factory.

    >>> source_name("nets/wake word.onnx"), source_name("demo.network:watch_net")
    ('wake-word', 'watch_net')
    """
    bare = source.rpartition(":")[2] if kind_of(source) is Kind.FACTORY else Path(source).resolve().stem
    return _NOT_IN_NAMES.sub("-", bare).strip("-.") or "model"


def capture(
    source: str | Path,
    *,
    weights: Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    inputs: tuple[Port, ...] = (),
    outputs: tuple[str, ...] = (),
    talk: Callable[[str], None] | None = None,
) -> Captured:
    """Return the source as one deterministic float graph.

    Args:
        source: An ``.onnx`` file, a folder made by ``edgepe compress``, ``package.module:factory`` (the working
            directory is importable), a ``.pt2``, or TorchScript. The last three run the user's own code.
        weights: For a factory: safetensors, or a state dict that loads with ``weights_only``.
        shapes: Input name → shape for dimensions that the graph leaves open; -1 keeps the batch open.
        inputs: For a factory or a script: what it is called with, in order, as the data has it. An empty name takes
            that of the parameter of ``forward``.
        outputs: Values to cut the graph at; none keeps the model's own.
        talk: Told what is going on, for steps that take seconds.

    Raises:
        MissingFileError: The source or the weights are not there.
        UsageError: The source is of no known kind, or an argument does not go with it.
        WeightsError: The weights cannot be loaded safely or do not fit.
        CaptureError: The model cannot become one deterministic graph.
        MissingExtraError: A source of torch's needs the extra ``torch``.
    """
    text, sizes = str(source), shapes or {}
    kind, name = kind_of(text), source_name(text)
    if kind is Kind.FACTORY:
        with needs_extra("torch", wanted_by=f"capturing {text}"):
            from edgepe.capture.torch_module import capture_factory  # noqa: PLC0415 - torch is an extra
        return capture_factory(
            text, name=name, weights=weights, inputs=_shaped(inputs, sizes), outputs=outputs, talk=talk
        )
    if weights is not None:
        raise UsageError(
            f"--weights goes with package.module:factory, and {text} has its own",
            expected="package.module:factory",
            got=text,
            next_step="leave --weights out",
        )
    path = _existing(Path(text))
    if kind is Kind.ONNX:
        with needs_extra("compile", wanted_by=f"capturing {text}"):
            from edgepe.capture.onnx_source import capture_onnx  # noqa: PLC0415 - onnx is an extra
        return capture_onnx(_onnx_file(path), name=name, shapes=sizes, outputs=outputs)
    with needs_extra("torch", wanted_by=f"capturing {text}"):
        from edgepe.capture.torch_file import capture_program, capture_script  # noqa: PLC0415 - torch is an extra
    if talk is not None:
        talk(f"exporting {name}")
    if kind is Kind.PROGRAM:
        return capture_program(path, name=name, shapes=sizes, outputs=outputs)
    return capture_script(path, name=name, inputs=_shaped(inputs, sizes), outputs=outputs)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(f"there is no model {path}", expected=READ, got="no such file")
    return path


def _onnx_file(path: Path) -> Path:
    if path.is_dir():
        if not (path / COMPRESSED_NOTE).is_file() or not (path / COMPRESSED_MODEL).is_file():
            raise CaptureError(
                f"{path} was not made by edgepe compress",
                expected=f"{COMPRESSED_MODEL} and {COMPRESSED_NOTE} in it",
                got=", ".join(sorted(file.name for file in path.iterdir())[:10]) or "an empty folder",
            )
        return path / COMPRESSED_MODEL
    if path.suffix != ".onnx":
        raise UsageError(
            f"{path} is no model that edgepe reads",
            expected=READ,
            got=path.suffix or "no suffix",
            next_step="give a PyTorch model as package.module:factory with --weights FILE",
        )
    return path


def _shaped(inputs: tuple[Port, ...], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Port, ...]:
    """Return the inputs with the user's own shapes in place of the data's."""
    from edgepe.capture.captured import Port  # noqa: PLC0415 - beside its only use

    known = {port.name: port for port in inputs}
    for name, shape in shapes.items():
        if name not in known and len(inputs) != 1:
            raise UsageError(
                f"--shape names '{name}', which is no input", expected=", ".join(known) or "no shapes", got=name
            )
        old = known.get(name, inputs[0])
        known.pop(old.name, None)
        known[name] = Port(name=name, dtype=old.dtype, shape=shape)
    return tuple(known.values())
