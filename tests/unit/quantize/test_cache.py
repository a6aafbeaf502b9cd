from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgepe.quantize.cache import RangeCache, cache_folder, cache_key
from edgepe.quantize.calibrate import Tally
from edgepe.quantize.histogram import Histogram
from edgepe.quantize.methods import MeanSquare, MinMax, Percentile
from edgepe.quantize.ranges import Range
from tests.small_graphs import cnn

RANGES = {"x": Range(low=-0.1, high=1 / 3), "y": Range(low=0.0, high=1e-30, beyond=5.0)}


def tally() -> Tally:
    """Return a tally of two values."""
    seen = {"x": Histogram(), "y": Histogram()}
    seen["x"].update(np.arange(9, dtype=np.float32))
    seen["y"].update(-np.ones(3, np.float32))
    return Tally(MeanSquare(), seen, 9)


def test_what_was_kept_comes_back_bit_for_bit(tmp_path: Path) -> None:
    RangeCache(tmp_path).keep("k", RANGES)
    assert RangeCache(tmp_path).ranges("k") == RANGES
    assert RangeCache(tmp_path).ranges("other") is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"sha256": 1, "ranges": {}}', b"\xff\x00"])
def test_a_damaged_file_counts_as_absent_and_is_removed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "k.json").write_bytes(data)
    (tmp_path / "k.npz").write_bytes(data)
    cache = RangeCache(tmp_path)
    assert cache.ranges("k") is None
    assert cache.resume("k", MinMax()).samples == 0
    assert list(tmp_path.iterdir()) == []


def test_one_changed_digit_is_noticed(tmp_path: Path) -> None:
    RangeCache(tmp_path).keep("k", RANGES)
    path = tmp_path / "k.json"
    path.write_bytes(path.read_bytes().replace(b"-0.1", b"-0.2"))
    assert RangeCache(tmp_path).ranges("k") is None


def test_the_state_of_a_calibration_comes_back_whole(tmp_path: Path) -> None:
    RangeCache(tmp_path, every_s=0.0).put_aside("k", tally())
    again = RangeCache(tmp_path).resume("k", MeanSquare())
    assert again.samples == 9
    assert again.ranges() == tally().ranges()


def test_a_state_is_written_only_so_often(tmp_path: Path) -> None:
    now = [0.0]
    cache = RangeCache(tmp_path, every_s=2.0, clock=lambda: now[0])
    cache.put_aside("k", tally())
    assert not list(tmp_path.iterdir())
    now[0] = 2.5
    cache.put_aside("k", tally())
    assert [path.name for path in tmp_path.iterdir()] == ["k.npz"]


def test_a_calibration_that_is_done_leaves_no_state(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, every_s=0.0)
    cache.put_aside("k", tally())
    cache.keep("k", RANGES)
    assert [path.name for path in tmp_path.iterdir()] == ["k.json"]


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path)
    for age, key in enumerate(["newer", "oldest"], 1):
        cache.keep(key, RANGES)
        os.utime(tmp_path / f"{key}.json", (1000 - age, 1000 - age))
    size = (tmp_path / "newer.json").stat().st_size
    RangeCache(tmp_path, limit_bytes=2 * size).keep("newest", RANGES)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["newer", "newest"]
    RangeCache(tmp_path, limit_bytes=1).keep("last", RANGES)
    assert [path.stem for path in tmp_path.iterdir()] == ["last"]


def test_a_folder_that_cannot_be_written_is_told_and_costs_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    cache = RangeCache(blocked / "cache", every_s=0.0)
    cache.put_aside("k", tally())
    cache.keep("k", RANGES)
    assert "cannot be written" in cache.trouble
    assert cache.ranges("k") is None


def test_a_key_depends_on_graph_data_method_and_batch() -> None:
    keys = {
        cache_key(cnn(), data_digest="a", method=MinMax(), batch=1),
        cache_key(cnn(seed=1), data_digest="a", method=MinMax(), batch=1),
        cache_key(cnn(), data_digest="b", method=MinMax(), batch=1),
        cache_key(cnn(), data_digest="a", method=Percentile(), batch=1),
        cache_key(cnn(), data_digest="a", method=Percentile(percent=99.9), batch=1),
        cache_key(cnn(), data_digest="a", method=MinMax(), batch=2),
    }
    assert len(keys) == 6
    assert cache_key(cnn(), data_digest="a", method=MinMax(), batch=1) in keys


def test_the_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/edgepe/calibration")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "edgepe" / "calibration"
