"""The board's own figures, from real procfs and from copies of other boards'."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from device_agent.telemetry.device import (
    CpuClock,
    cpu_percent,
    isa_flags,
    read_cpu_clock,
    read_hardware,
    read_temperature_mc,
    rss_bytes,
    uss_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path

PI = (
    "processor\t: 0\nFeatures\t: fp asimd aes asimdhp asimddp\n\nprocessor\t: 1\nFeatures\t: fp asimd asimdhp asimddp\n"
)
X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: x\nflags\t\t: fpu avx avx2 avx512_vnni sse4_2\n"


def test_memory_is_that_of_the_process() -> None:
    assert rss_bytes() == pytest.approx(rss_bytes(os.getpid()), rel=0.2)
    assert 0 < uss_bytes() <= rss_bytes() * 1.2


def test_a_process_that_has_ended_has_no_memory() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert rss_bytes(ended.pid) == uss_bytes(ended.pid) == 0
    assert read_cpu_clock(ended.pid, wall_ns=5) == CpuClock(busy_ns=0, wall_ns=5)


def test_cpu_time_grows_with_work() -> None:
    before = read_cpu_clock(os.getpid(), wall_ns=time.monotonic_ns())
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    after = read_cpu_clock(os.getpid(), wall_ns=time.monotonic_ns())
    assert cpu_percent(before, after) > 0


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        pytest.param((0, 0), (500, 1000), 50.0, id="half"),
        pytest.param((0, 0), (2000, 1000), 200.0, id="two-cores"),
        pytest.param((9, 5), (9, 5), 0.0, id="no-time"),
        pytest.param((9, 0), (0, 5), 0.0, id="ended-between"),
    ],
)
def test_cpu_percent_is_of_one_core(before: tuple[int, int], after: tuple[int, int], percent: float) -> None:
    clocks = [CpuClock(busy_ns=busy, wall_ns=wall) for busy, wall in (before, after)]
    assert cpu_percent(*clocks) == percent


def test_a_program_with_spaces_and_parentheses_in_its_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a) b (c)) S 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20")
    ticks = os.sysconf("SC_CLK_TCK")
    assert read_cpu_clock(7, wall_ns=0, proc=tmp_path).busy_ns == 42 * 1_000_000_000 // ticks


def test_hardware_of_a_pi(tmp_path: Path) -> None:
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tmp_path / "cpuinfo").write_text(PI)
    (tmp_path / "meminfo").write_text("MemTotal:        8245000 kB\nMemFree: 1 kB\n")
    hardware = read_hardware(proc=tmp_path)
    assert hardware.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert hardware.ram_bytes == 8245000 * 1024
    assert hardware.isa == ("asimd", "asimddp", "asimdhp")
    assert hardware.cores >= 1


def test_hardware_of_a_pc_takes_the_cpus_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(X86)
    hardware = read_hardware(proc=tmp_path)
    assert hardware.model == "Some CPU @ 2 GHz: x"
    assert hardware.isa == ("avx", "avx2", "avx512_vnni", "sse4_2")
    assert hardware.ram_bytes == 0


def test_a_flag_counts_only_if_every_core_has_it() -> None:
    assert isa_flags("Features : asimd i8mm\nFeatures : asimd\n") == ("asimd",)
    assert isa_flags("") == ()


def zone(sys_folder: Path, number: int, kind: str, text: str) -> None:
    folder = sys_folder / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(kind)
    (folder / "temp").write_text(text)


def test_a_board_without_a_sensor_has_no_temperature(tmp_path: Path) -> None:
    assert read_temperature_mc(sys=tmp_path) is None
    zone(tmp_path, 0, "cpu-thermal\n", "")
    assert read_temperature_mc(sys=tmp_path) is None


def test_the_processors_sensor_wins_over_a_hotter_other_one(tmp_path: Path) -> None:
    zone(tmp_path, 0, "wifi\n", "90000\n")
    assert read_temperature_mc(sys=tmp_path) == 90000
    zone(tmp_path, 1, "cpu-thermal\n", "51121\n")
    zone(tmp_path, 2, "cpu-thermal\n", "-3000\n")
    assert read_temperature_mc(sys=tmp_path) == 51121


def test_asking_the_board_imports_no_numpy() -> None:
    code = "import sys; import device_agent.telemetry.device; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
