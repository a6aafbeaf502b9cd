"""What the board says about itself, read from ``/proc`` and ``/sys``.

Rules kept here:
1. What a board does not have is ``None`` or empty; never a made-up figure.
2. Reading never raises: a process may end, a sensor may vanish, between two reads.
3. Standard library only, so that the supervisor can ask too.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from device_agent.wire.messages import Hardware

__all__ = [
    "CpuClock",
    "cpu_percent",
    "read_cpu_clock",
    "read_hardware",
    "read_temperature_mc",
    "rss_bytes",
    "uss_bytes",
]

PROC = Path("/proc")
SYS = Path("/sys")
KIB = 1024

ISA_FLAGS = frozenset(
    {
        *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8"),
        *("neon", "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "vfpv4"),
    }
)
"""The CPU flags that decide how fast or how exact a model runs."""

CPU_ZONES = ("cpu", "soc", "x86_pkg_temp", "bcm2835_thermal")
"""Parts of the names of thermal zones that sit at the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuClock:
    """CPU time of a process at a moment, both in nanoseconds."""

    busy_ns: int
    wall_ns: int


def read_text(path: Path) -> str:
    """Read a small kernel file; empty where it is absent or refused."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def rss_bytes(pid: int | None = None, *, proc: Path = PROC) -> int:
    """Return the resident memory of a process in bytes; 0 where it has ended."""
    fields = read_text(proc / str(pid or "self") / "statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def uss_bytes(pid: int | None = None, *, proc: Path = PROC) -> int:
    """Return the memory that only this process holds, in bytes; 0 where it has ended or may not be read."""
    rows = read_text(proc / str(pid or "self") / "smaps_rollup").splitlines()
    return sum(int(row.split()[1]) * KIB for row in rows if row.startswith(("Private_Clean:", "Private_Dirty:")))


def read_cpu_clock(pid: int, *, wall_ns: int, proc: Path = PROC) -> CpuClock:
    """Read a process's CPU time (user and system, all threads).

    Args:
        pid: The process.
        wall_ns: The monotonic clock now.
        proc: Where procfs is.
    """
    # The second field is the program's name in parentheses and may hold spaces: count from its end.
    fields = read_text(proc / str(pid) / "stat").rpartition(")")[2].split()
    utime_stime = slice(11, 13)
    ticks = sum(int(field) for field in fields[utime_stime])
    return CpuClock(busy_ns=ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"), wall_ns=wall_ns)


def cpu_percent(before: CpuClock, after: CpuClock) -> float:
    """Return the CPU share between two readings in percent of one core."""
    wall = after.wall_ns - before.wall_ns
    return 100.0 * max(0, after.busy_ns - before.busy_ns) / wall if wall > 0 else 0.0


def read_temperature_mc(*, sys: Path = SYS) -> int | None:
    """Return the processor's temperature in thousandths of a degree Celsius; ``None`` where no sensor tells it.

    The hottest zone whose name points at the processor, else the hottest of all.
    """
    zones: dict[bool, list[int]] = {True: [], False: []}
    for zone in sorted((sys / "class" / "thermal").glob("thermal_zone*")):
        text = read_text(zone / "temp").strip()
        if text.lstrip("-").isdigit():
            kind = read_text(zone / "type").lower()
            zones[any(part in kind for part in CPU_ZONES)].append(int(text))
    return max(zones[True] or zones[False], default=None)


def read_hardware(*, proc: Path = PROC) -> Hardware:
    """Read what the board is."""
    cpuinfo = read_text(proc / "cpuinfo")
    return Hardware(
        machine=platform.machine(),
        model=read_model(cpuinfo, proc=proc),
        cores=len(os.sched_getaffinity(0)),
        ram_bytes=read_ram_bytes(proc=proc),
        isa=isa_flags(cpuinfo),
    )


def read_model(cpuinfo: str, *, proc: Path) -> str:
    """Return the board's name from the device tree, else the CPU's name, else nothing."""
    board = read_text(proc / "device-tree" / "model").strip("\0 \n")
    names = (value.strip() for key, _, value in map(split_row, cpuinfo.splitlines()) if key in {"Model", "model name"})
    return board or next(names, "")


def read_ram_bytes(*, proc: Path) -> int:
    """Return the installed memory in bytes; 0 where the kernel does not tell."""
    for row in read_text(proc / "meminfo").splitlines():
        if row.startswith("MemTotal:"):
            return int(row.split()[1]) * KIB
    return 0


def isa_flags(cpuinfo: str) -> tuple[str, ...]:
    """Return the deciding CPU flags from the text of ``/proc/cpuinfo``.

    A flag counts only if every core has it: a model may run on any of them.
    """
    rows = map(split_row, cpuinfo.splitlines())
    cores = [set(value.split()) for key, _, value in rows if key in {"flags", "Features"}]
    return tuple(sorted(ISA_FLAGS.intersection(*cores))) if cores else ()


def split_row(row: str) -> tuple[str, str, str]:
    """Split a ``key : value`` row of procfs."""
    key, colon, value = row.partition(":")
    return key.strip(), colon, value
