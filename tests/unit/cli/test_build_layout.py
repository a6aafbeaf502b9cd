from __future__ import annotations

import pytest

from edgepe.cli.build import with_layout
from edgepe.errors import UsageError
from edgepe.target import load_target


def test_a_tflite_target_takes_another_layout() -> None:
    android = load_target("android")
    assert with_layout(android, None) is android
    assert with_layout(android, "nhwc") is android
    assert with_layout(android, "nchw").io_layout == "nchw"


def test_an_onnx_target_keeps_the_models_axes_and_says_where_raw_ones_are_declared() -> None:
    with pytest.raises(UsageError, match=r"does not go with jetson-orin[\s\S]*--signature"):
        with_layout(load_target("jetson"), "nhwc")
