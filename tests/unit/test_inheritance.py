from __future__ import annotations

from pathlib import Path

import pytest

from edgepe.errors import ProfileError, UnknownTargetError
from edgepe.scheme import Precision
from edgepe.target import load_target, parse_target


def written(folder: Path, name: str, text: str) -> Path:
    """Write a profile and return its path."""
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf8")
    return path


def test_a_profile_that_extends_says_only_what_differs(tmp_path: Path) -> None:
    text = 'extends = "raspberry-pi"\nname = "gate"\ncores = 2\n[rules]\nper_channel = false\n'
    mine, base = load_target(written(tmp_path, "gate", text)), load_target("raspberry-pi-5")
    assert (mine.name, mine.cores, mine.rules.per_channel) == ("gate", 2, False)
    assert (mine.runtime, mine.cost, mine.rules.float_ops) == (base.runtime, base.cost, base.rules.float_ops)


def test_aliases_are_not_inherited(tmp_path: Path) -> None:
    assert load_target(written(tmp_path, "a", 'extends = "raspberry-pi-5"')).aliases == ()


def test_one_row_of_a_cost_table_may_differ(tmp_path: Path) -> None:
    text = 'extends = "raspberry-pi-5"\n[cost.rows.int8]\nmacs_per_us = 7\n'
    cost = load_target(written(tmp_path, "a", text)).cost
    assert cost is not None
    row, other = cost.row(Precision.INT8), cost.row(Precision.FP32)
    assert row is not None
    assert other is not None
    assert (row.macs_per_us, row.elements_per_us, other.macs_per_us) == (7, 1200, 5800)


def test_a_base_may_be_a_file_beside_and_extend_another(tmp_path: Path) -> None:
    written(tmp_path, "board", 'extends = "jetson"\nname = "board"\ncores = 12\n')
    mine = load_target(written(tmp_path, "fitted", 'extends = "board.toml"\n[cost]\ncall_us = 99\n'))
    assert (mine.name, mine.cores, mine.rules.style) == ("board", 12, "tensorrt")
    assert mine.cost is not None
    assert mine.cost.call_us == 99


def test_the_digest_is_of_the_whole_and_not_of_the_way_it_is_written(tmp_path: Path) -> None:
    plain = load_target(written(tmp_path, "a", 'extends = "raspberry-pi-5"\naliases = ["raspberry-pi"]'))
    assert plain.digest == load_target("raspberry-pi-5").digest
    assert plain.digest != load_target(written(tmp_path, "b", 'extends = "raspberry-pi-5"\ncores = 3')).digest


@pytest.mark.parametrize("away", ["", "../{folder}/"], ids=["plainly", "by ever longer paths"])
def test_a_circle_is_told(tmp_path: Path, away: str) -> None:
    there = away.format(folder=tmp_path.name)
    written(tmp_path, "a", f'extends = "{there}b.toml"')
    path = written(tmp_path, "b", f'extends = "{there}a.toml"')
    with pytest.raises(ProfileError, match="circle"):
        load_target(path)


def test_an_unknown_base_asks_did_you_mean() -> None:
    with pytest.raises(UnknownTargetError, match="did you mean 'jetson-orin'"):
        parse_target('extends = "jetson-orn"', source="a.toml")


def test_an_inherited_profile_is_checked_like_any_other() -> None:
    with pytest.raises(ProfileError, match="did you mean 'round_to'"):
        parse_target('extends = "jetson"\nround_too = 8', source="a.toml")
    with pytest.raises(ProfileError, match="'extends' is wrong"):
        parse_target("extends = 5", source="a.toml")
