"""A whole compression: dense twin, distribution, removal, fine-tuning, folder.

Rules kept here:
1. The stages are the public functions of this package, in the order of :func:`compress`; nothing else is done.
2. Before and after are scored on the same validation data; test data never enters.
3. The same settings and data give the same weights, on one machine and number of threads.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgepe.capture.captured import Port
from edgepe.capture.torch_module import capture_module
from edgepe.compress.evaluation import Evaluation, evaluate
from edgepe.compress.folder import Kept, Record, check_folder, write_folder
from edgepe.compress.removal import rebuild, recalibrate
from edgepe.compress.train import Progress, fit, fit_gates, reproducible
from edgepe.compress.variational import Variational, make_variational

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from edgepe.compress.settings import CompressSettings
    from edgepe.compress.training_data import Samples, TrainingData

__all__ = ["INPUT", "Compressed", "compress", "finetune"]

INPUT = "x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """The result of a compression.

    Attributes:
        out: The folder that ``edgepe build`` takes.
        dense: The dense twin.
        model: The smaller network.
        record: What ``compression.json`` says: groups, settings, scores before and after.
    """

    out: Path
    dense: nn.Module
    model: nn.Module
    record: Record


def compress(
    make: Callable[[], nn.Module],
    data: TrainingData,
    settings: CompressSettings,
    *,
    out: Path,
    name: str,
    factory: str = "",
    report: Callable[[Progress], None] = lambda _: None,
) -> Compressed:
    """Train a distribution over a network's groups, rebuild the smaller network, and write its folder.

    Args:
        make: Gives the network: untrained if ``settings.dense`` says how to train it, else trained. It is called after
            the seed is set.
        data: Training and validation samples, as the network takes them.
        settings: Budget, training of each stage, seed, threads.
        out: The folder to write.
        name: The model's name.
        factory: Where ``make`` comes from, ``module:function``, for the record.
        report: Called at the end of each epoch.

    Raises:
        CompressError: Training diverged, the budget was not met, the network cannot be traced or rebuilt, or something
            else is in the folder's place.
        CaptureError: The smaller network cannot become a graph.
    """
    check_folder(out)
    with reproducible(settings.seed, settings.threads):
        start = time.monotonic()
        dense = make()
        if settings.dense is not None:
            fit(dense, data.train, settings.dense, stage="dense", seed=settings.seed, report=report)
        before = evaluate(dense, data.validation, train_seconds=time.monotonic() - start)
        variational = make_variational(dense, example=data.train.x[:2])
        fit_gates(variational, data.train, settings.gates, settings.budget, seed=settings.seed, report=report)
        smaller = rebuild(variational, round_to=settings.budget.round_to)
        finetune(smaller, data.train, settings, report=report)
        after = evaluate(smaller, data.validation, train_seconds=time.monotonic() - start)
    record = _record(variational, settings, name=name, factory=factory, before=before, after=after)
    write_folder(out, record, smaller, lambda path: _write_graph(smaller, data.train, name, path))
    return Compressed(out=out, dense=dense, model=smaller, record=record)


def finetune(
    model: nn.Module,
    data: Samples,
    settings: CompressSettings,
    *,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Take BatchNorm's statistics anew and train the smaller network on, in place.

    Raises:
        CompressError: Training diverged.
    """
    recalibrate(model, data)
    fit(model, data, settings.finetune, stage="finetune", seed=settings.seed + 1, report=report)


def _record(
    model: Variational,
    settings: CompressSettings,
    *,
    name: str,
    factory: str,
    before: Evaluation,
    after: Evaluation,
) -> Record:
    groups = zip(model.structure.groups, model.keep_lists, strict=True)
    return Record(
        name=name,
        factory=factory,
        groups=tuple(Kept(name=group.name, before=group.channels, kept=kept) for group, kept in groups),
        skipped=model.structure.skipped,
        settings=settings,
        before=before,
        after=after,
    )


def _write_graph(model: nn.Module, data: Samples, name: str, path: Path) -> None:
    port = Port(name=INPUT, dtype="float32", shape=(-1, *data.x.shape[1:]))
    captured = capture_module(copy.deepcopy(model), name=name, inputs=(port,))
    path.write_bytes(ir.to_proto(captured.model).SerializeToString(deterministic=True))
