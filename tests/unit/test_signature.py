from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from device_agent.wire.manifest import Preprocess
from edgepe.errors import ConfigFileError, MissingFileError
from edgepe.signature import Signature, load_signature, parse_signature, spec

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
labels = ["still", "walking"]
[inputs.x]
layout = "NWC"
scale = 0.5
mean = [1, 2]
std = 3
"""


def test_a_signature_declares_layout_scaling_and_labels() -> None:
    signature = parse_signature(TEXT, source="s.toml")
    assert signature.labels == ("still", "walking")
    assert signature.inputs["x"] == Preprocess(layout="NWC", scale=0.5, mean=(1.0, 2.0), std=(3.0,))


def test_x_stands_for_the_only_input_whatever_its_name() -> None:
    signature = parse_signature(TEXT, source="s.toml")
    assert signature.of("sensor", only=True) is not None
    assert signature.of("sensor", only=False) is None


def test_an_input_that_the_model_does_not_have_is_refused() -> None:
    signature = parse_signature(TEXT, source="s.toml")
    signature.check_names(("sensor",))
    with pytest.raises(ConfigFileError, match="does not have"):
        signature.check_names(("sensor", "other"))


def test_a_missing_signature_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        load_signature(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label = []", "did you mean 'labels'"),
        ("[inputs.x]\nlayuot = 'NC'", "did you mean 'layout'"),
        ("[inputs.x]\nlayout = 'WTF'", "cannot be read"),
        ("[inputs.x]\nstd = [0]", "cannot be read"),
        ("[inputs.x]\nmean = 'a'", "cannot be read"),
        ("labels = [1]", "no signature"),
        ("inputs = ", "not valid TOML"),
        ("inputs = {x = 1}", "is no table"),
    ],
)
def test_a_wrong_signature_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigFileError, match=said):
        parse_signature(text, source="s.toml")


def test_an_undeclared_input_of_the_right_type_passes_through_untouched() -> None:
    assert spec("x", "float32", (-1, 3, 8), None, layout="NCW", raw_dtype="float32").preprocess is None


def test_another_raw_type_is_converted_and_the_manifest_says_so() -> None:
    made = spec("x", "float32", (-1, 3, 8), None, layout="NCW", raw_dtype="float64")
    assert made.preprocess == Preprocess()


def test_an_artifact_with_channels_last_says_how_raw_values_get_there() -> None:
    made = spec("x", "float32", (1, 8, 3), None, layout="NWC", raw_dtype="float32")
    assert (made.layout, made.raw_layout, made.raw_shape) == ("NWC", "NCW", (1, 3, 8))


def test_a_layout_of_other_axes_is_refused() -> None:
    declared = Signature(inputs={"x": Preprocess(layout="NHWC")}).inputs["x"]
    with pytest.raises(ConfigFileError, match="letters of NCW"):
        spec("x", "float32", (-1, 3, 8), declared, layout="NCW", raw_dtype="float32")
