from __future__ import annotations

import subprocess
import sys

import pytest

import edgepe.compress
from edgepe.errors import MissingExtraError


def test_every_public_name_is_there_and_is_what_it_says() -> None:
    for name in edgepe.compress.__all__:
        assert getattr(edgepe.compress, name).__name__ == name


def test_a_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edgepe.compress.variational", raising=False)
    monkeypatch.delitem(vars(edgepe.compress), "kl", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="needs the extra 'torch'"):
        _ = edgepe.compress.kl


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, edgepe.compress; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'onnx_ir')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
