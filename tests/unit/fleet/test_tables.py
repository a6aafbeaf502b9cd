from __future__ import annotations

import io

from rich.console import Console

from edgepe.fleet.shapes import DeviceJson, RolloutDeviceJson, RolloutJson
from edgepe.fleet.tables import console, devices_table, rollout_table


def shown(table: object, *, width: int = 200) -> str:
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(table)
    return text.getvalue()


def device(name: str, *, p50_us: float | None = 250.4, online: bool = True) -> DeviceJson:
    return DeviceJson(
        device=name,
        site="lab",
        target="jetson-orin",
        online=online,
        model="har",
        version="2",
        state="DOWNLOADING",
        code="",
        percent=40,
        p50_us=p50_us,
        p95_us=p50_us,
        p99_us=None if p50_us is None else 12_345.0,
        rss_bytes=50 * 1024 * 1024,
        temperature_mc=None,
        inferences=1234,
        errors=0,
        last_seen_ms=1,
    )


def test_a_device_is_one_line_with_units() -> None:
    text = shown(devices_table([device("pi-1"), device("pi-2", p50_us=None, online=False)]))
    lines = {line.split()[0]: line for line in text.splitlines() if "har" in line}
    for part in ("250 µs", "12.35 ms", "50.0 MiB", "1,234", "DOWNLOADING 40 %"):
        assert part in lines["pi-1"]
    assert "(offline)" in lines["pi-2"]
    assert "µs" not in lines["pi-2"]


def test_a_rollout_says_why() -> None:
    rows = [
        RolloutDeviceJson(
            device="a", wave=0, state="REVERTED", percent=0, code="golden_mismatch", reason="[bold]no", previous="1"
        )
    ]
    rollout = RolloutJson(
        id="r",
        name="har",
        version="2",
        state="FAILED",
        reason="a: no",
        wave=0,
        waves=[1],
        committed=0,
        started_ms=1,
        ended_ms=2,
        devices=rows,
        skipped={"b": "offline"},
    )
    text = shown(rollout_table(rollout))
    assert "golden_mismatch: [bold]no" in text, "text of a device was taken for markup"
    for part in ("har 2", "FAILED", "1/1", "REVERTED", "left out", "offline"):
        assert part in text


def test_a_table_of_devices_fits_into_eighty_columns() -> None:
    text = shown(devices_table([device("raspberry-pi-17")]), width=80)
    for part in ("raspberry-pi-17", "har 2", "250 µs", "12.35 ms", "50.0 MiB", "1,234", "DOWNLOADING"):
        assert part in text
    assert "…" not in text


def test_nothing_is_cut_off_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    console(text).print(devices_table([device("raspberry-pi-17" * 4)]))
    assert "raspberry-pi-17" * 4 in text.getvalue()
