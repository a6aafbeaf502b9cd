from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgepe.errors import VerifyError
from edgepe.metrics import metric
from edgepe.scheme import Precision
from edgepe.target import load_target
from edgepe.verify.score import score_artifact
from edgepe.verify.standin import stand_in
from tests.tiny_models import BIAS, dense, write_onnx

if TYPE_CHECKING:
    from pathlib import Path

X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
LABELS = dense(X).argmax(axis=1)
JUDGE = stand_in(load_target("generic"), Precision.FP32)


def test_an_equal_artifact_drops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    name = "y"
    scored = score_artifact(
        path, JUDGE, {"x": X}, float_outputs={name: dense(X)}, labels=LABELS, chosen=metric("accuracy")
    )
    assert scored.comparison.score == scored.comparison.float_score == 1.0
    assert scored.comparison.drop == 0.0
    assert scored.scored_on == JUDGE.label


def test_a_worse_artifact_drops_within_its_interval(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path, bias=BIAS + np.array([0, 1, 0], np.float32))
    scored = score_artifact(
        path, JUDGE, {"x": X}, float_outputs={"y": dense(X)}, labels=LABELS, chosen=metric("accuracy"), timings=3
    )
    comparison = scored.comparison
    assert comparison.drop == pytest.approx(100 * (1 - comparison.score))
    assert 0 < comparison.low < comparison.drop < comparison.high
    assert len(scored.run.times_ns) == 3


def test_outputs_of_other_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    with pytest.raises(VerifyError, match="float model's names"):
        score_artifact(
            path, JUDGE, {"x": X}, float_outputs={"other": dense(X)}, labels=LABELS, chosen=metric("accuracy")
        )
