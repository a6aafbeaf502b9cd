"""What starting a program imports: the command line nothing heavy, the agent nothing of the host."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "numpy", "rich", "starlette", "ai_edge_litert", "paho"}
HOST_ONLY = {"torch", "onnx", "onnx_ir", "click", "pydantic", "requests", "rich", "edgepe"}


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after running some code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def help_of(module: str, function: str) -> str:
    """Return code that runs a program's ``--help`` and goes on."""
    return f"""
import sys
sys.argv = ["x", "--help"]
try:
    from {module} import {function}
    {function}()
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        pytest.param(help_of("edgepe.cli", "main"), HEAVY, id="edgepe-help"),
        pytest.param(help_of("device_agent.main", "main"), HOST_ONLY | {"numpy"}, id="agent-help"),
        pytest.param("import device_agent.supervisor", HOST_ONLY | {"numpy", "cryptography"}, id="supervisor"),
        pytest.param("import device_agent.runtime.worker", HOST_ONLY | {"paho", "cryptography"}, id="worker"),
    ],
)
def test_starting_a_program_imports_nothing_it_does_not_need(code: str, forbidden: set[str]) -> None:
    assert modules_after(code) & forbidden == set()
