"""A recording is cut into windows and played at its own pace."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from device_agent.errors import ConfigError, ModelError
from device_agent.runtime.engine import Engine
from device_agent.runtime.slot import open_slot
from device_agent.serve.replay import Replay, ReplaySettings, next_due, paced, read_recording
from device_agent.telemetry.recorder import Recorder
from tests.tiny_models import write_slot

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    manifest = write_slot(tmp_path / "slot")
    return Engine(manifest, open_slot(tmp_path / "slot", manifest, threads=1), Recorder())


def test_an_array_x_feeds_the_only_input(tmp_path: Path, engine: Engine) -> None:
    np.savez(tmp_path / "r.npz", x=ROWS, y=np.zeros(3))
    windows = read_recording(tmp_path / "r.npz", engine)
    assert [window["x"].tolist() for window in windows] == [[row] for row in ROWS.tolist()]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path, engine: Engine) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    np.save(folder / "2.npy", ROWS[2])
    np.savez(folder / "1.npz", x=ROWS[:2])
    (folder / "notes.txt").write_text("not a recording")
    windows = read_recording(folder, engine)
    assert np.array_equal(np.concatenate([window["x"] for window in windows]), ROWS)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        pytest.param({"a": ROWS, "b": ROWS}, "lacks an input", id="names"),
        pytest.param({"x": np.zeros((2, 3, 4, 5))}, "wrong rank", id="rank"),
        pytest.param({"x": np.zeros((0, 4))}, "is empty", id="empty"),
        pytest.param({"x": np.array([{}])}, "cannot be read", id="pickle"),
    ],
)
def test_a_recording_of_something_else_is_refused(
    tmp_path: Path, engine: Engine, arrays: dict[str, np.ndarray], words: str
) -> None:
    np.savez(tmp_path / "r.npz", allow_pickle=True, **arrays)
    with pytest.raises(ModelError, match=words):
        read_recording(tmp_path / "r.npz", engine)


def test_a_missing_recording_is_refused(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        Replay(ReplaySettings(path=tmp_path / "absent.npz"), engine)


@pytest.mark.parametrize("loop", [True, False])
def test_a_loop_goes_on_and_a_single_pass_ends(tmp_path: Path, engine: Engine, *, loop: bool) -> None:
    np.savez(tmp_path / "r.npz", x=ROWS)
    replay = Replay(ReplaySettings(path=tmp_path / "r.npz", rate_hz=2000, loop=loop), engine)
    replay.start()
    if loop:
        seen = 0
        while seen < 10:
            time.sleep(0.005)
            seen += engine.recorder.take().inferences
    else:
        replay._thread.join(30)
        assert engine.recorder.take().inferences == 3
    replay.stop()
    engine.recorder.take()
    assert engine.recorder.take().inferences == 0


def test_windows_keep_their_pace_and_a_late_one_is_not_followed_by_a_burst() -> None:
    assert next_due(10.0, 10.01, 0.05) == pytest.approx(10.05)
    late = next_due(10.0, 12.0, 0.05)
    assert late == 12.0
    assert next_due(late, 12.01, 0.05) == pytest.approx(12.05)


def test_pacing_ends_when_it_is_stopped() -> None:
    stop = threading.Event()
    windows = paced(iter([{}, {}, {}]), 1e-6, stop)
    next(windows)
    stop.set()
    assert list(windows) == []


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"file": "a", "folder": "b"}',
        '{"file": 1}',
        '{"file": "a", "rate": 3}',
        '{"file": "a", "rate_hz": "3"}',
        '{"file": "a", "loop": 1}',
        '{"file": "a", "rate_hz": 0}',
    ],
)
def test_a_source_that_is_written_wrong_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        ReplaySettings.from_json(text)


def test_a_source_has_defaults() -> None:
    settings = ReplaySettings.from_json('{"folder": "f"}')
    assert (settings.rate_hz, settings.loop) == (20.0, True)
