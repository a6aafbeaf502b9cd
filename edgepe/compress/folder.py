"""The folder that a compression writes: weights, graph and how they came to be.

Rules kept here:
1. ``model.onnx`` is what ``edgepe build`` takes; ``model.safetensors`` holds the same weights by the network's own
   names; ``compression.json`` says what was kept, what was left whole and why, the settings, and the scores.
2. The folder appears whole or not at all. An older one that compress made is replaced; anything else is never touched.
3. No pickle: weights are safetensors.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from edgepe.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from edgepe.compress.evaluation import Evaluation
    from edgepe.compress.groups import Skipped
    from edgepe.compress.settings import CompressSettings

__all__ = ["DESCRIPTION", "GRAPH", "WEIGHTS", "Kept", "Record", "check_folder", "write_folder"]

DESCRIPTION = "compression.json"
GRAPH = "model.onnx"
WEIGHTS = "model.safetensors"
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One group: the layer that stands for it, its channels before, and which of them are kept."""

    name: str
    before: int
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What ``compression.json`` says.

    Attributes:
        name: Name of the model.
        factory: Where the network came from, ``module:function``, or empty.
        groups: What is left of each group.
        skipped: What was left whole, and why.
        settings: How the run was told to go.
        before: The dense twin, on validation data.
        after: The rebuilt and fine-tuned network, on the same data.
    """

    name: str
    factory: str
    groups: tuple[Kept, ...]
    skipped: tuple[Skipped, ...]
    settings: CompressSettings
    before: Evaluation
    after: Evaluation

    def encode(self) -> bytes:
        """Return the JSON, keys sorted, UTF-8."""
        table = {"schema": SCHEMA, "method": "gates", **asdict(self)}
        return (json.dumps(table, indent=1, sort_keys=True) + "\n").encode()


def check_folder(out: Path) -> None:
    """Refuse a folder that compress did not make.

    Raises:
        CompressError: Something else is in the way.
    """
    if out.exists() and not (out / DESCRIPTION).is_file():
        raise CompressError(
            f"{out} is in the way",
            expected="a new folder, or one that compress made",
            got="something else",
            next_step="choose another --out",
        )


def write_folder(out: Path, record: Record, model: nn.Module, write_graph: Callable[[Path], None]) -> Path:
    """Write the folder and return its path.

    Args:
        out: The folder.
        record: What is said about the run.
        model: The network whose weights are written.
        write_graph: Writes the ONNX file to the path it is given.

    Raises:
        CompressError: Something else than a compression's folder is in the way.
    """
    check_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, fresh / WEIGHTS)
        write_graph(fresh / GRAPH)
        (fresh / DESCRIPTION).write_bytes(record.encode())
        if out.exists():
            out.replace(Path(scratch) / "old")
        fresh.replace(out)
        shutil.rmtree(Path(scratch) / "old", ignore_errors=True)
    return out
