from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from edgepe.cli.build import build, read_shapes
from edgepe.errors import UsageError
from edgepe.quantize.methods import DEFAULT, METHODS

if TYPE_CHECKING:
    from pathlib import Path


def test_shapes_are_read_with_an_open_batch() -> None:
    assert read_shapes(["a=-1,3", "b=1"]) == {"a": (-1, 3), "b": (1,)}


def test_the_methods_that_can_be_asked_for_are_those_there_are() -> None:
    option = next(each for each in build.params if each.name == "method")
    assert isinstance(option.type, click.Choice)
    assert option.default == DEFAULT
    assert set(option.type.choices) == set(METHODS)


@pytest.mark.parametrize("text", ["a", "=1,2", "a=", "a=1,x", "a=1,-1", "a=0,3", "a=1,-2"])
def test_a_text_that_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no shape"):
        read_shapes([text])


@pytest.mark.parametrize(
    ("blocked", "model", "extra"),
    [("onnx_ir", "model.onnx", "compile"), ("rich", "model.onnx", "compile"), ("torch", "own_net:net", "torch")],
)
def test_a_missing_extra_is_named(tmp_path: Path, blocked: str, model: str, extra: str) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == '{blocked}':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import numpy; numpy.savez('d.npz', x=numpy.arange(8.).reshape(4, 2))\n"
        "from edgepe.cli import main\n"
        f"main(['build', '{model}', '--target', 'jetson', '--calibration', 'd.npz', '--out', 'o'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"pip install 'edgepe[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
