from __future__ import annotations

import pytest

from edgepe.target import parse_target, target_names
from edgepe.target_lints import lint

FP16_ROW = 'precisions = ["fp16", "fp32"]\n[cost.rows.fp16]\nmacs_per_us = 9000\nelements_per_us = 900'
CHANGES = [
    ("raspberry-pi-5", '[runtime]\nname = "litert"', "runtime-format", "error"),
    ("raspberry-pi-5", '[rules]\nstyle = "tflite"', "style-format", "error"),
    ("android-arm64", FP16_ROW, "fp16-tflite", "error"),
    ("raspberry-pi-5", 'precisions = ["int8", "int8", "fp32"]', "twice", "error"),
    ("raspberry-pi-5", 'precisions = ["int8"]', "no-fallback", "warning"),
    ("raspberry-pi-5", '[runtime]\nversion = "1.17.3"\n', "", ""),
    ("raspberry-pi-5", 'opset_max = 23\n[runtime]\nversion = "1.21.0"', "opset-runtime", "error"),
    ("raspberry-pi-5", '[runtime]\nversion = "1.2.0"', "old-runtime", "warning"),
    ("jetson-orin", '[rules]\nactivation = "asymmetric"', "tensorrt-symmetric", "error"),
    ("jetson-orin", '[rules]\nbias = "int32"', "tensorrt-bias", "error"),
    ("jetson-orin", "[rules]\nquantize_outputs = true", "tensorrt-outputs", "error"),
    ("raspberry-pi-5", "[rules]\nweight_bits = 7", "arm-weight-bits", "warning"),
    ("raspberry-pi-5", '[rules]\nactivation_dtype = "uint8"', "arm-s8u8", "warning"),
    ("raspberry-pi-5", '[rules]\nbias = "float32"', "bias-style", "error"),
    ("raspberry-pi-5", 'isa = ["avx2"]', "unknown-feature", "warning"),
    ("raspberry-pi-5", '[rules]\nfloat_ops = ["layer norm"]', "operator-name", "error"),
    ("raspberry-pi-5", 'precisions = ["fp16", "fp32"]', "no-cost-row", "warning"),
    ("raspberry-pi-5", "[cost.rows.int8]\nmacs_per_us = 230000", "cost-ratio", "warning"),
    ("raspberry-pi-5", "ram_bytes = 1000000", "memory-ram", "error"),
]


@pytest.mark.parametrize("name", target_names())
def test_nothing_is_wrong_with_the_profiles_that_ship(name: str) -> None:
    assert lint(parse_target(f'extends = "{name}"', source="a.toml")) == ()


@pytest.mark.parametrize(("base", "change", "code", "level"), CHANGES, ids=[row[2] or "fine" for row in CHANGES])
def test_a_contradiction_is_found(base: str, change: str, code: str, level: str) -> None:
    found = lint(parse_target(f'extends = "{base}"\n{change}', source="a.toml"))
    assert [(finding.code, finding.level) for finding in found] == ([(code, level)] if code else [])
