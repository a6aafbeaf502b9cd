"""``python -m edgepe`` is ``edgepe``."""

from __future__ import annotations

from edgepe.cli import main

if __name__ == "__main__":
    main()
