from __future__ import annotations

import pytest

from edgepe.errors import MissingExtraError
from edgepe.scheme import Precision
from edgepe.target import load_target
from edgepe.verify import standin
from edgepe.verify.standin import Host, is_exact, read_host, stand_in

VNNI, PLAIN, ARM = (
    Host(machine="x86_64", exact_isa="avx512_vnni"),
    Host(machine="x86_64", exact_isa=""),
    Host(machine="aarch64", exact_isa=""),
)
INT8, FP32 = Precision.INT8, Precision.FP32


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        (VNNI, (("session.qdqisint8allowed", "1"),)),
        (PLAIN, (("session.x64quantprecision", "1"),)),
        (ARM, ()),
    ],
    ids=["vnni", "plain", "arm"],
)
def test_an_arm_int8_artifact_gets_arms_arithmetic(host: Host, settings: tuple[tuple[str, str], ...]) -> None:
    assert stand_in(load_target("raspberry-pi"), INT8, host=host).settings == settings


@pytest.mark.parametrize(("target", "precision"), [("raspberry-pi", FP32), ("generic", INT8), ("android", INT8)])
def test_nothing_is_switched_where_it_does_not_matter(target: str, precision: Precision) -> None:
    assert stand_in(load_target(target), precision, host=PLAIN).settings == ()


@pytest.mark.parametrize(
    ("target", "kind", "role"),
    [
        ("raspberry-pi", "onnxruntime", "stand-in for onnxruntime on aarch64"),
        ("jetson", "onnxruntime", "stand-in for TensorRT on aarch64"),
        ("android", "litert", "stand-in for litert on aarch64"),
        ("raspberry-pi-zero2", "litert", "stand-in for tflite-runtime on armv7l"),
        ("generic", "onnxruntime", "the target's own"),
    ],
)
def test_the_label_names_runtime_host_and_role(target: str, kind: str, role: str) -> None:
    judge = stand_in(load_target(target), INT8, host=VNNI)
    assert judge.kind == kind
    assert judge.label.startswith(f"{kind} ")
    assert "on x86-64 (avx512_vnni)" in judge.label
    assert judge.label.endswith(role)
    assert judge.is_target is (target == "generic")


def test_a_switch_is_part_of_the_label() -> None:
    assert ", x64quantprecision=1, " in stand_in(load_target("raspberry-pi"), INT8, host=PLAIN).label


def test_this_host_sums_int8_products_exactly_for_the_pi() -> None:
    assert is_exact(stand_in(load_target("raspberry-pi"), INT8))


def test_the_switch_for_plain_x86_is_exact_too() -> None:
    assert is_exact(stand_in(load_target("raspberry-pi"), INT8, host=PLAIN))


def test_this_host_can_be_described() -> None:
    host = read_host()
    assert host.machine
    assert "_" not in host.title.split(" ", maxsplit=1)[0]


def test_an_absent_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standin, "installed_runtimes", lambda: (("onnxruntime", "1.31.1"),))
    with pytest.raises(MissingExtraError, match="compile"):
        stand_in(load_target("android"), INT8)
