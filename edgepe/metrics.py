"""Scores of a model on labelled data, and the paired interval of their loss.

Rules kept here:
1. A score is higher-is-better and lies in 0-1 where its definition says so; an error is lower-is-better.
2. A drop is positive when the artifact is worse: points (hundredths) of a score, percent of the
   float value of an error.
3. Both models are scored on the same samples, so the interval is of paired differences: normal approximation where the
   metric is a mean over samples, bootstrap (1,000 resamples, fixed seed) elsewhere; the result says which. No interval
   of rights and wrongs is a point: few samples that agree prove little.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepe.errors import DataError, UsageError

__all__ = ["AGREEMENT", "Comparison", "Kind", "Metric", "class_axis", "compare", "metric", "metric_names"]

AGREEMENT = "agreement"
RESAMPLES = 1_000
IMAGE_RANK = 4
NORMAL_95 = 1.959964  # two-sided 95 % quantile of the normal distribution

Array = NDArray[Any]
Outputs = Mapping[str, Array]
Whole = Callable[[Outputs, Array], float]
PerSample = Callable[[Outputs, Array], NDArray[np.float64]]


class Kind(StrEnum):
    """Which direction of a metric is better."""

    SCORE = "score"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One way to score outputs against labels.

    Attributes:
        name: Its name, as ``--metric`` takes it.
        kind: Whether higher or lower is better.
        score: ``(outputs, labels) -> float``; outputs by name, each ``[samples, …]``.
        per_sample: ``(outputs, labels) -> [samples]`` whose mean is the score, or None where there is no such thing.
        classifies: Whether labels are class indices of the first output, see :func:`class_axis`.
    """

    name: str
    kind: Kind
    score: Whole
    per_sample: PerSample | None
    classifies: bool

    def drop(self, float_score: float, score: float) -> float:
        """Return the loss against the float model: points of a score, percent of an error."""
        if self.kind is Kind.SCORE:
            return 100.0 * (float_score - score)
        if float_score == 0:
            return 0.0 if score == 0 else float("inf")
        return 100.0 * (score - float_score) / abs(float_score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An artifact's score beside its float model's, on the same samples.

    Attributes:
        metric: Name of the metric.
        float_score: Score of the float model.
        score: Score of the artifact.
        drop: Loss, in points of a score or percent of an error.
        low: Lower end of the 95 % interval of the drop.
        high: Upper end.
        samples: Number of samples.
        method: How the interval was made: ``normal`` or ``bootstrap``.
    """

    metric: str
    float_score: float
    score: float
    drop: float
    low: float
    high: float
    samples: int
    method: str


def metric_names() -> tuple[str, ...]:
    """Return the names of the metrics that come with edgepe."""
    return tuple(_METRICS)


def metric(name: str) -> Metric:
    """Return a metric by name, or the user's own as ``module:function``.

    A function is called as ``function(outputs, labels)`` and returns a float, higher is better; if it has an attribute
    ``lower_is_better = True``, its value is an error; if it has ``per_sample = True``, it returns one value per sample,
    whose mean is the score, and the interval needs no resampling. The working directory is importable.

    Raises:
        UsageError: There is no such metric or function.
    """
    if name in _METRICS:
        return _METRICS[name]
    if ":" in name:
        return _own(name)
    near = difflib.get_close_matches(name, _METRICS, n=1)
    raise UsageError(
        f"there is no metric '{name}'",
        expected=f"{', '.join(_METRICS)}, or module:function",
        got=name,
        next_step=f"did you mean '{near[0]}'?" if near else None,
    )


def compare(chosen: Metric, float_outputs: Outputs, outputs: Outputs, labels: Array | None) -> Comparison:
    """Return the artifact's score beside the float model's, with the paired 95 % interval of the drop.

    Without labels only ``agreement`` has a meaning: the float model's own classes stand in for them.

    Args:
        chosen: The metric.
        float_outputs: Outputs of the float model by name, each ``[samples, …]``.
        outputs: Outputs of the artifact for the same samples.
        labels: ``[samples, …]``, or None.

    Raises:
        DataError: The metric needs labels and there are none.
    """
    if chosen.name == AGREEMENT:
        labels = _classes(float_outputs)
    if labels is None:
        raise DataError(
            f"'{chosen.name}' needs labels",
            expected="an array 'y' in the evaluation data",
            got="none",
            next_step=f"add 'y', or use --metric {AGREEMENT}",
        )
    float_score, score = chosen.score(float_outputs, labels), chosen.score(outputs, labels)
    if chosen.per_sample is not None:
        low, high = _normal(chosen, float_outputs, outputs, labels)
    else:
        low, high = _bootstrap(chosen, float_outputs, outputs, labels)
    return Comparison(
        metric=chosen.name,
        float_score=float_score,
        score=score,
        drop=chosen.drop(float_score, score),
        low=low,
        high=high,
        samples=len(labels),
        method="normal" if chosen.per_sample is not None else "bootstrap",
    )


def _normal(chosen: Metric, float_outputs: Outputs, outputs: Outputs, labels: Array) -> tuple[float, float]:
    per_sample = chosen.per_sample
    if per_sample is None:
        message = "the normal interval is for means over samples"
        raise TypeError(message)
    before, after = per_sample(float_outputs, labels), per_sample(outputs, labels)
    loss = before - after if chosen.kind is Kind.SCORE else after - before
    scale = 100.0 if chosen.kind is Kind.SCORE else 100.0 / max(abs(float(before.mean())), np.finfo(float).tiny)
    centre, error = _right_or_wrong(loss) if _all_whole(before, after) else _mean_and_error(loss)
    return scale * (centre - NORMAL_95 * error), scale * (centre + NORMAL_95 * error)


def _all_whole(*values: Array) -> bool:
    return all(bool(np.isin(each, (0, 1)).all()) for each in values)


def _mean_and_error(loss: Array) -> tuple[float, float]:
    spread = float(loss.std(ddof=1)) if len(loss) > 1 else 0.0
    return float(loss.mean()), spread / float(np.sqrt(len(loss)))


def _right_or_wrong(loss: Array) -> tuple[float, float]:
    """Return centre and standard error of a difference of paired proportions, half a sample added to each cell.

    Without it the interval is a point where no sample flips, however few there are.
    Source: A. Agresti, Y. Min, "Simple improved confidence intervals for comparing matched proportions", 2005.
    """
    samples = len(loss) + 2.0
    lost, won = float((loss > 0).sum()) + 0.5, float((loss < 0).sum()) + 0.5
    difference = lost - won
    return difference / samples, float(np.sqrt(lost + won - difference**2 / samples)) / samples


def _bootstrap(chosen: Metric, float_outputs: Outputs, outputs: Outputs, labels: Array) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drops = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        picked = rng.integers(0, len(labels), len(labels))
        before = chosen.score(_pick(float_outputs, picked), labels[picked])
        after = chosen.score(_pick(outputs, picked), labels[picked])
        drops[index] = chosen.drop(before, after)
    low, high = np.quantile(drops, (0.025, 0.975))
    return float(low), float(high)


def _pick(outputs: Outputs, rows: NDArray[np.int64]) -> Outputs:
    return {name: array[rows] for name, array in outputs.items()}


def _own(name: str) -> Metric:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the metric '{name}' cannot be imported",
            expected="module:function, importable from the working directory",
            got=str(error),
        ) from error
    kind = Kind.ERROR if getattr(function, "lower_is_better", False) else Kind.SCORE

    def score(outputs: Outputs, labels: Array) -> float:
        return float(_called(name, function, outputs, labels).mean())

    def per_sample(outputs: Outputs, labels: Array) -> NDArray[np.float64]:
        values = _called(name, function, outputs, labels)
        if values.shape != (len(labels),):
            raise _unusable(name, f"one value per sample, shape ({len(labels)},)", f"shape {values.shape}")
        return values

    each = per_sample if getattr(function, "per_sample", False) else None
    return Metric(name=name, kind=kind, score=score, per_sample=each, classifies=False)


def _called(
    name: str, function: Callable[[dict[str, Array], Array], object], outputs: Outputs, labels: Array
) -> NDArray[np.float64]:
    """Return what the user's metric gives, as numbers."""
    try:
        values = np.asarray(function(dict(outputs), labels), np.float64)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in outputs.items())
        raise _unusable(
            name, f"a number for outputs {shapes} and labels {labels.shape}", f"{type(error).__name__}: {error}"
        ) from error
    if values.size == 0 or not np.isfinite(values).all():
        raise _unusable(name, "finite numbers", f"{values.ravel()[:3]}")
    return values


def _unusable(name: str, expected: str, got: str) -> UsageError:
    return UsageError(
        f"the metric '{name}' cannot be used",
        expected=expected,
        got=got,
        next_step="mend the function; it is called with a dict of outputs and the array y",
    )


def _first(outputs: Outputs) -> Array:
    return next(iter(outputs.values()))


def class_axis(rank: int) -> int:
    """Return which axis of an output holds the classes: [n, c], [n, time, c], [n, c, height, width]."""
    return 1 if rank >= IMAGE_RANK else rank - 1


def _classes(outputs: Outputs) -> Array:
    first = _first(outputs)
    axis = class_axis(first.ndim)
    if axis < 1 or first.shape[axis] < 2:  # noqa: PLR2004 - at least two classes
        raise DataError(
            "the first output does not hold one value per class",
            expected="shape (samples, classes), (samples, time, classes) or (samples, classes, height, width)",
            got=f"{first.shape}",
            next_step="use mse, mae or r2, or --metric module:function",
        )
    return np.asarray(first.argmax(axis=axis))


def _hits(outputs: Outputs, labels: Array) -> NDArray[np.float64]:
    hits = (_classes(outputs) == labels).astype(np.float64)
    return np.asarray(hits.reshape(len(hits), -1).mean(axis=1), dtype=np.float64)


def _counts(outputs: Outputs, labels: Array) -> tuple[Array, Array, Array]:
    """Return per class that occurs: true positives, predicted, actual."""
    guesses = _classes(outputs).ravel()
    actual = labels.ravel().astype(np.int64)
    size = int(max(guesses.max(), actual.max())) + 1
    hits = np.bincount(actual[guesses == actual], minlength=size)
    predicted, wanted = np.bincount(guesses, minlength=size), np.bincount(actual, minlength=size)
    present = (predicted + wanted) > 0
    return hits[present], predicted[present], wanted[present]


def _precision(outputs: Outputs, labels: Array) -> float:
    hits, predicted, _ = _counts(outputs, labels)
    return float(np.mean(hits / np.maximum(predicted, 1)))


def _recall(outputs: Outputs, labels: Array) -> float:
    hits, _, wanted = _counts(outputs, labels)
    return float(np.mean(hits / np.maximum(wanted, 1)))


def _f1(outputs: Outputs, labels: Array) -> float:
    hits, predicted, wanted = _counts(outputs, labels)
    return float(np.mean(2 * hits / (predicted + wanted)))


def _residual(outputs: Outputs, labels: Array) -> NDArray[np.float64]:
    first = _first(outputs).astype(np.float64)
    return (first.reshape(len(first), -1) - labels.astype(np.float64).reshape(len(labels), -1)).astype(np.float64)


def _squares(outputs: Outputs, labels: Array) -> NDArray[np.float64]:
    return np.asarray(np.square(_residual(outputs, labels)).mean(axis=1), dtype=np.float64)


def _sizes(outputs: Outputs, labels: Array) -> NDArray[np.float64]:
    return np.asarray(np.abs(_residual(outputs, labels)).mean(axis=1), dtype=np.float64)


def _r2(outputs: Outputs, labels: Array) -> float:
    wanted = labels.astype(np.float64).reshape(len(labels), -1)
    total = float(np.square(wanted - wanted.mean(axis=0)).sum())
    unexplained = float(np.square(_residual(outputs, labels)).sum())
    return 1.0 - unexplained / total if total else 0.0


def _mean(per_sample: PerSample) -> Whole:
    def score(outputs: Outputs, labels: Array) -> float:
        return float(per_sample(outputs, labels).mean())

    return score


def _built_in(name: str, kind: Kind, *, whole: Whole | None = None, per_sample: PerSample | None = None) -> Metric:
    score = whole if whole is not None else _mean(per_sample or _hits)
    return Metric(name=name, kind=kind, score=score, per_sample=per_sample, classifies=name in _CLASSIFIERS)


_CLASSIFIERS = frozenset({"accuracy", "precision", "recall", "f1"})
# Precision, recall and F1 are macro averages over the classes that occur.
_METRICS: dict[str, Metric] = {
    made.name: made
    for made in (
        _built_in("accuracy", Kind.SCORE, per_sample=_hits),
        _built_in("precision", Kind.SCORE, whole=_precision),
        _built_in("recall", Kind.SCORE, whole=_recall),
        _built_in("f1", Kind.SCORE, whole=_f1),
        _built_in("mse", Kind.ERROR, per_sample=_squares),
        _built_in("mae", Kind.ERROR, per_sample=_sizes),
        _built_in("r2", Kind.SCORE, whole=_r2),
        _built_in(AGREEMENT, Kind.SCORE, per_sample=_hits),
    )
}
