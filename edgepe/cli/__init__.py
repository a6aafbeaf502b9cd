"""The command line: one module per command group, imported only when its command is called.

Rules kept here:
1. Starting ``edgepe`` imports click and nothing heavy: no torch, onnx or numpy.
2. Data goes to stdout, talk to stderr; exit 0 is ok, 1 failed, 2 wrong usage.
3. ``edgepe.toml`` in the working directory supplies any option that the command line leaves out.
"""

from __future__ import annotations

from edgepe.cli.main import cli, main

__all__ = ["cli", "main"]
