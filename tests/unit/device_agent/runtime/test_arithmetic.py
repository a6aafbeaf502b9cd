"""An int8 artifact for Arm keeps Arm's arithmetic on a PC."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from device_agent.runtime.arithmetic import session_settings
from device_agent.wire.messages import Hardware
from tests.tiny_models import write_slot

if TYPE_CHECKING:
    from pathlib import Path

EXACT = {"session.x64quantprecision": "1"}
X86_BOARD = (("board", '{"machine": "x86_64"}'),)
ARM_BOARD = (("board", '{"machine": "aarch64"}'),)
AS_ON_ARM = {"session.qdqisint8allowed": "1"}


@pytest.mark.parametrize(
    ("changes", "machine", "isa", "settings"),
    [
        pytest.param({}, "x86_64", ("avx2",), EXACT, id="saturating-x86"),
        pytest.param({}, "x86_64", ("avx2", "avx512_vnni"), AS_ON_ARM, id="vnni"),
        pytest.param({"precision": "mixed"}, "x86_64", (), EXACT, id="mixed"),
        pytest.param({"precision": "fp32"}, "x86_64", (), {}, id="float"),
        pytest.param({"target": "generic-x86-64"}, "x86_64", (), {}, id="made-for-x86"),
        pytest.param({"target": "my-nuc", "extra": X86_BOARD}, "x86_64", (), {}, id="an-own-board-of-x86"),
        pytest.param({"target": "x86ish-arm", "extra": ARM_BOARD}, "x86_64", (), EXACT, id="the-board-beats-the-name"),
        pytest.param({"extra": (("board", "[1]"),)}, "x86_64", (), EXACT, id="a-board-that-makes-no-sense"),
        pytest.param({}, "aarch64", ("asimddp",), {}, id="at-home"),
        pytest.param({"format": "tflite"}, "x86_64", (), {}, id="tflite"),
    ],
)
def test_switches_follow_artifact_and_machine(
    tmp_path: Path, changes: dict[str, Any], machine: str, isa: tuple[str, ...], settings: dict[str, str]
) -> None:
    manifest = replace(write_slot(tmp_path), target="raspberry-pi-5", precision="int8")
    hardware = Hardware(machine=machine, model="", cores=2, ram_bytes=1, isa=isa)
    assert session_settings(replace(manifest, **changes), hardware) == settings
