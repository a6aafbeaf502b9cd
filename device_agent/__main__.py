"""``python -m device_agent`` is ``edgepe-agent``."""

from __future__ import annotations

from device_agent.main import main

if __name__ == "__main__":
    raise SystemExit(main())
