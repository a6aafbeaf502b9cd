"""The engine tells the caller's faults from the model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from device_agent.errors import ModelError
from device_agent.runtime.engine import Engine, winners
from device_agent.runtime.slot import open_slot
from device_agent.telemetry.recorder import Recorder
from tests.tiny_models import dense, write_slot

if TYPE_CHECKING:
    from pathlib import Path

X = np.array([[1, 2, 3, 4]], np.float32)


def engine_of(slot: Path, **options: Any) -> Engine:
    manifest = write_slot(slot, **options)
    return Engine(manifest, open_slot(slot, manifest, threads=1), Recorder())


def test_a_run_is_recorded_with_its_time_and_class(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    assert np.allclose(engine.run(engine.prepare({"x": X}))["y"], dense(X))
    recording = engine.recorder.take()
    assert (recording.inferences, recording.errors, recording.latency.count) == (1, 0, 1)
    assert recording.latency.min > 0
    assert recording.output_counts == ((int(dense(X).argmax()), 1),)


def test_a_misfit_input_is_not_counted_against_the_model(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    for raw in ({"x": X[:, :2]}, {"x": X.astype(np.float64)}, {"q": X}):
        with pytest.raises(ModelError):
            engine.prepare(raw)
    assert engine.recorder.take().errors == 0


def test_an_output_that_is_not_finite_is_an_error_of_the_model(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, bias=np.full(3, np.nan, np.float32))
    with pytest.raises(ModelError, match="'y' of the model is not finite"):
        engine.run(engine.prepare({"x": X}))
    recording = engine.recorder.take()
    assert (recording.inferences, recording.errors, recording.latency.count) == (0, 1, 0)


def test_warming_up_is_not_recorded(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    assert engine.warm_up() > 0
    assert engine.recorder.take().inferences == 0


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3, 2)])
def test_what_is_no_table_of_classes_has_no_winner(shape: tuple[int, ...]) -> None:
    assert winners({"y": np.zeros(shape)}) == ()
