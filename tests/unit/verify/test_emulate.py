from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_agent.wire.manifest import Golden
from edgepe.errors import UsageError, VerifyError
from edgepe.target import load_target
from edgepe.verify.emulate import MOST_SAMPLES, compare_outputs, emulated_cpu, run_emulated
from edgepe.verify.emulator.folder import Content, Emulator

TERMS = Golden(file="golden.npz", count=4, atol=0.1, rtol=0.0, min_agree=0.75)
NOTHING = Emulator(folder=Path("nowhere"), content=Content())
EXPECTED = {"y": np.arange(8, dtype=np.float32).reshape(4, 2)}


@pytest.mark.parametrize(
    ("target", "cpu"),
    [
        pytest.param("raspberry-pi-4", "cortex-a72", id="neither-dot-products-nor-fp16"),
        pytest.param("raspberry-pi-5", "cortex-a76", id="dot-products"),
        pytest.param("jetson-orin", "cortex-a76", id="jetson"),
        pytest.param("android-arm64", "cortex-a76", id="android"),
    ],
)
def test_the_processor_has_the_targets_instructions_and_no_newer(target: str, cpu: str) -> None:
    assert emulated_cpu(load_target(target)) == cpu


def test_a_board_with_matrix_instructions_gets_them() -> None:
    board = replace(load_target("raspberry-pi-5"), isa=("asimd", "asimddp", "i8mm"))
    assert emulated_cpu(board) == "cortex-a710"


@pytest.mark.parametrize("target", ["generic-x86-64", "raspberry-pi-zero2"])
def test_a_target_of_another_kind_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="leave out --emulate"):
        emulated_cpu(load_target(target))


def test_equal_outputs_agree_to_the_bit() -> None:
    found = compare_outputs(EXPECTED, {name: array.copy() for name, array in EXPECTED.items()}, TERMS)
    assert (found.samples, found.agree, found.exact, found.max_error, found.mean_error) == (4, 1.0, 1.0, 0.0, 0.0)
    assert found.held


@pytest.mark.parametrize(("wrong", "held"), [(1, True), (2, False)])
def test_as_many_samples_have_to_agree_as_the_terms_say(wrong: int, *, held: bool) -> None:
    got = EXPECTED["y"].copy()
    got[:wrong, 0] += 0.5
    got[3, 1] += 0.05
    found = compare_outputs(EXPECTED, {"y": got}, TERMS)
    assert found.agree == 1 - wrong / 4
    assert found.exact == (3 - wrong) / 4
    assert found.max_error == 0.5
    assert found.held is held


def test_an_output_that_is_not_finite_does_not_agree() -> None:
    got = EXPECTED["y"].copy()
    got[2] = np.nan
    found = compare_outputs(EXPECTED, {"y": got}, TERMS)
    assert found.agree == 0.75
    assert found.max_error == np.inf


@pytest.mark.parametrize("got", [{}, {"y": EXPECTED["y"][:3]}], ids=["absent", "short"])
def test_missing_outputs_are_an_error(got: dict[str, np.ndarray]) -> None:
    with pytest.raises(VerifyError, match="other outputs"):
        compare_outputs(EXPECTED, got, TERMS)


def test_emulation_takes_no_more_samples_than_it_can_bear() -> None:
    many = {"x": np.zeros((MOST_SAMPLES + 1, 2), np.float32)}
    with pytest.raises(UsageError, match="at most 200"):
        run_emulated(NOTHING, Path("model.onnx"), "onnxruntime", many, cpu="cortex-a76")
