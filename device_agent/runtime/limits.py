"""What a child process of the agent may take from the box."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

__all__ = ["end_with_parent", "limit_cpu_seconds", "no_core_files"]

PR_SET_PDEATHSIG = 1


def no_core_files() -> None:
    """Forbid core files: a box's disk is small, and a runtime's image is not."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_cpu_seconds(seconds: int) -> None:
    """Have the kernel end this process with SIGXCPU after this much CPU time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if hard == resource.RLIM_INFINITY else min(seconds, hard), hard))


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the parent's thread that forked it ends; end now if it already has.

    Args:
        parent: The parent's pid, taken before the fork.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
