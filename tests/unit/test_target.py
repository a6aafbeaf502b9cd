from __future__ import annotations

from pathlib import Path

import pytest

from edgepe.errors import MissingFileError, ProfileError, UnknownTargetError
from edgepe.scheme import Precision
from edgepe.target import load_target, parse_target, target_aliases, target_names

PROFILES = Path(__file__).parents[2] / "targets"


@pytest.mark.parametrize("name", target_names())
def test_every_profile_that_ships_loads_and_is_named_like_its_file(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.cost is not None
    assert "not measured" in target.cost.source
    assert all(target.cost.row(precision) is not None for precision in target.precisions)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("raspberry-pi", "raspberry-pi-5"),
        ("jetson", "jetson-orin"),
        ("android", "android-arm64"),
        ("generic", "generic-x86-64"),
    ],
)
def test_an_alias_names_its_profile(alias: str, name: str) -> None:
    assert load_target(alias) == load_target(name)
    assert target_aliases()[alias] == name


def test_an_unknown_target_asks_did_you_mean() -> None:
    with pytest.raises(UnknownTargetError, match="did you mean 'jetson-orin'"):
        load_target("jetson-orn")


def test_a_path_of_a_profile_is_a_target() -> None:
    assert load_target(PROFILES / "raspberry-pi-4.toml").precisions == (Precision.FP32, Precision.INT8)


def test_a_missing_profile_file_is_told() -> None:
    with pytest.raises(MissingFileError, match=r"my-board\.toml"):
        load_target("my-board.toml")


def _text(name: str = "raspberry-pi-5") -> str:
    return (PROFILES / f"{name}.toml").read_text(encoding="utf8")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param("round_to = 8", "round_to = 8\nround_two = 8", "did you mean 'round_to'", id="unknown key"),
        pytest.param('style = "ort"', 'style = "ort"\nstile = 1', "did you mean 'style'", id="unknown rule"),
        pytest.param("schema = 1", "schema = 2", "'schema' is wrong", id="newer schema"),
        pytest.param('format = "onnx"', 'format = "onnxx"', "onnx, tflite", id="unknown format"),
        pytest.param("cores = 4", "cores = 0", "positive", id="no cores"),
        pytest.param("cores = 4", "cores = true", "'cores' is wrong", id="a truth for a number"),
        pytest.param('["int8", "fp32"]', '["int9"]', "int8, mixed, fp16, fp32", id="unknown precision"),
        pytest.param('["int8", "fp32"]', "[]", "at least one", id="no precision"),
        pytest.param('["int8", "fp32"]', "[8]", "texts", id="a number for a text"),
        pytest.param("weight_bits = 8", "weight_bits = 4", "7 or 8", id="weight bits"),
        pytest.param("call_us = 15", "call_us = -1", "positive number", id="negative cost"),
        pytest.param('title = "', 'titel = "', "'title' is wrong", id="missing key"),
        pytest.param("schema = 1", "schema = ", "not valid TOML", id="no TOML"),
    ],
)
def test_a_profile_that_breaks_its_schema_is_refused(before: str, after: str, said: str) -> None:
    text = _text()
    assert before in text
    with pytest.raises(ProfileError, match=said):
        parse_target(text.replace(before, after, 1), source="board.toml")


def test_a_profile_without_cost_table_loads() -> None:
    assert parse_target(_text().partition("[cost]")[0], source="board.toml").cost is None


def test_the_digest_is_of_the_content_and_not_of_the_comments() -> None:
    plain, commented = parse_target(_text(), source="a"), parse_target("# hello\n" + _text(), source="b")
    changed = parse_target(_text().replace("cores = 4", "cores = 5"), source="c")
    assert plain.digest == commented.digest != changed.digest
