"""Read each file of a folder as the capturing child does, each in a fork of its own, and print how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import onnxruntime  # noqa: F401 - once, before the forks

import edgepe.capture.onnx_intake  # noqa: F401 - likewise
from edgepe.capture import onnx_child

SECONDS = 20


def read(path: Path) -> str:
    """Return ``clean``, ``refused`` with the reason, or how the process died."""
    scratch = path.with_suffix(".out")
    scratch.mkdir()
    wish = {"path": str(path), "shapes": {}, "outputs": [], "seconds": SECONDS}
    (scratch / onnx_child.REQUEST).write_text(json.dumps(wish))
    pid = os.fork()
    if pid == 0:
        os.close(2)
        signal.alarm(2 * SECONDS)
        os._exit(onnx_child.main(scratch))
    _, status = os.waitpid(pid, 0)
    if (scratch / onnx_child.REPORT).is_file():
        return "refused " + str(json.loads((scratch / onnx_child.REPORT).read_text())["what"])
    return "clean" if status == 0 and (scratch / onnx_child.CLEAN).is_file() else f"died {status}"


if __name__ == "__main__":
    for file in sorted(Path(sys.argv[1]).glob("*.onnx")):
        print(file.name, read(file), flush=True)  # noqa: T201 - its output is read by the test
