"""An emulated Arm machine in a folder: Debian's qemu and Python for Arm, PyPI's wheels for Arm.

``python -m edgepe.verify.emulator`` makes it, ``folder.find_emulator`` finds it. Nothing heavy is imported here.
"""

from __future__ import annotations

__all__: list[str] = []
