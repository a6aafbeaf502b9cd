from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgepe.errors import DataError, UsageError
from edgepe.metrics import class_axis, compare, metric, metric_names

if TYPE_CHECKING:
    from pathlib import Path

LABELS = np.array([0, 0, 1, 1])
GUESSES = np.array([0, 1, 1, 1])


def _logits(classes: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": np.eye(2, dtype=np.float32)[classes]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 3 / 4),
        ("precision", (1 + 2 / 3) / 2),
        ("recall", (1 / 2 + 1) / 2),
        ("f1", (2 / 3 + 4 / 5) / 2),
        ("agreement", 3 / 4),
    ],
)
def test_classification_scores_follow_their_definitions(name: str, expected: float) -> None:
    assert metric(name).score(_logits(GUESSES), LABELS) == pytest.approx(expected)


def test_regression_errors_follow_their_definitions() -> None:
    outputs, wanted = {"y": np.array([[1.0], [3.0]], np.float32)}, np.array([2.0, 5.0])
    assert metric("mse").score(outputs, wanted) == pytest.approx(2.5)
    assert metric("mae").score(outputs, wanted) == pytest.approx(1.5)
    assert metric("r2").score(outputs, wanted) == pytest.approx(1 - 5 / 4.5)


def test_a_drop_of_a_score_is_in_points_and_of_an_error_in_percent() -> None:
    assert metric("accuracy").drop(0.90, 0.88) == pytest.approx(2.0)
    assert metric("mse").drop(2.0, 2.5) == pytest.approx(25.0)
    assert metric("mse").drop(0.0, 0.1) == float("inf")


def test_the_paired_interval_of_a_mean_is_normal_and_holds_the_drop() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    worse = np.where(rng.random(400) < 0.1, 1 - labels, labels)
    result = compare(metric("accuracy"), _logits(labels), _logits(worse), labels)
    assert result.method == "normal"
    assert result.samples == 400
    assert result.low < result.drop < result.high
    assert result.drop == pytest.approx(100 * float(np.mean(worse != labels)))


def test_other_metrics_take_the_bootstrap_and_give_the_same_interval_each_time() -> None:
    runs = [compare(metric("f1"), _logits(LABELS), _logits(GUESSES), LABELS) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0].method == "bootstrap"
    assert runs[0].low <= runs[0].drop <= runs[0].high


def test_equal_outputs_have_no_drop_but_an_interval_that_samples_narrow() -> None:
    few = compare(metric("accuracy"), _logits(GUESSES), _logits(GUESSES), LABELS)
    guesses, labels = np.tile(GUESSES, 100), np.tile(LABELS, 100)
    many = compare(metric("accuracy"), _logits(guesses), _logits(guesses), labels)
    assert few.drop == many.drop == 0
    assert few.low < many.low < 0 < many.high < few.high


def test_the_interval_covers_the_true_drop_where_hardly_a_sample_flips() -> None:
    rng = np.random.default_rng(1)
    labels, covered, rounds = np.zeros(300, np.int64), 0, 400
    for _ in range(rounds):
        flips = rng.choice([0, 1, 2], size=300, p=[0.988, 0.008, 0.004])
        before, after = np.where(flips == 2, 1, 0), np.where(flips == 1, 1, 0)
        result = compare(metric("accuracy"), _logits(before), _logits(after), labels)
        covered += result.low <= 0.4 <= result.high
    assert covered >= 0.95 * rounds


def test_agreement_needs_no_labels() -> None:
    result = compare(metric("agreement"), _logits(LABELS), _logits(GUESSES), None)
    assert (result.float_score, result.score) == (1.0, 0.75)


def test_other_metrics_without_labels_say_what_to_add() -> None:
    with pytest.raises(DataError, match="--metric agreement"):
        compare(metric("accuracy"), _logits(LABELS), _logits(LABELS), None)


def test_an_unknown_metric_asks_did_you_mean() -> None:
    with pytest.raises(UsageError, match="did you mean 'accuracy'"):
        metric("acuracy")


def test_accuracy_of_a_single_column_is_refused() -> None:
    with pytest.raises(DataError, match="one value per class"):
        metric("accuracy").score({"y": np.zeros((4, 1))}, LABELS)


@pytest.mark.parametrize(("rank", "axis"), [(1, 0), (2, 1), (3, 2), (4, 1)])
def test_classes_lie_last_save_in_images(rank: int, axis: int) -> None:
    assert class_axis(rank) == axis


def test_dense_prediction_is_scored_place_by_place() -> None:
    outputs = {"y": np.moveaxis(np.eye(2)[np.array([[[0, 1], [1, 1]]])], -1, 1)}
    assert metric("accuracy").score(outputs, np.array([[[0, 1], [1, 0]]])) == 0.75


def test_a_metric_of_ones_own_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metric.py").write_text("def worst(outputs, labels):\n    return 7\nworst.lower_is_better = True\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = metric("own_metric:worst")
    assert own.kind == "error"
    assert own.score({}, LABELS) == 7.0
    with pytest.raises(UsageError, match="cannot be imported"):
        metric("own_metric:absent")


def test_the_names_of_the_metrics_are_these() -> None:
    assert metric_names() == ("accuracy", "precision", "recall", "f1", "mse", "mae", "r2", "agreement")


def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> str:
    module = f"own_metric_{abs(hash(body))}"
    (tmp_path / f"{module}.py").write_text(body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{module}:score"


def test_an_own_metric_sees_every_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def score(outputs, labels):\n    return (outputs['a'] + outputs['b'] == labels).mean()\n"
    chosen = metric(_own(tmp_path, monkeypatch, body))
    outputs = {"a": np.arange(8), "b": np.ones(8)}
    found = compare(chosen, outputs, {**outputs, "b": np.zeros(8)}, np.arange(8) + 1)
    assert (found.float_score, found.score, found.method) == (1.0, 0.0, "bootstrap")


def test_an_own_metric_per_sample_gets_a_normal_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def score(outputs, labels):\n    return abs(outputs['a'] - labels)\n"
    body += "score.per_sample = score.lower_is_better = True\n"
    chosen = metric(_own(tmp_path, monkeypatch, body))
    found = compare(chosen, {"a": np.arange(8) + 1}, {"a": np.arange(8) + 2}, np.arange(8))
    assert (found.float_score, found.score, found.drop, found.method) == (1.0, 2.0, 100.0, "normal")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param("def score(outputs, labels):\n    return outputs['z']", "KeyError", id="a missing output"),
        pytest.param("def score(outputs, labels):\n    return float('nan')", "finite", id="not finite"),
        pytest.param("def score(outputs, labels):\n    return 'good'", "ValueError", id="a text"),
        pytest.param(
            "def score(outputs, labels):\n    return [1.0]\nscore.per_sample = True",
            r"shape \(8,\)",
            id="too few values",
        ),
    ],
)
def test_an_own_metric_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    chosen = metric(_own(tmp_path, monkeypatch, body))
    with pytest.raises(UsageError, match=f"metric 'own_metric[\\s\\S]*{said}"):
        compare(chosen, {"a": np.arange(8)}, {"a": np.arange(8)}, np.arange(8))
