"""A distribution over groups of weights, trained, pruned and rebuilt into a smaller network.

Rules kept here:
1. The package reads like the idea: :func:`make_variational`, :func:`kl` and :func:`elbo`, :func:`fit_gates`,
   :func:`rebuild`, :func:`finetune`, :func:`evaluate`; :func:`compress` is all of it in a row.
2. Importing the package imports nothing heavy; torch comes with the first name that is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgepe.compress.settings import Budget, CompressSettings, GateSettings, TrainSettings
from edgepe.extras import needs_extra

if TYPE_CHECKING:
    from edgepe.compress.evaluation import Evaluation, evaluate, predict
    from edgepe.compress.folder import Record
    from edgepe.compress.pipeline import Compressed, compress, finetune
    from edgepe.compress.removal import rebuild, recalibrate
    from edgepe.compress.train import Progress, fit, fit_gates, reproducible
    from edgepe.compress.training_data import Samples, TrainingData, samples
    from edgepe.compress.variational import Variational, elbo, kl, make_variational

__all__ = [
    "Budget",
    "CompressSettings",
    "Compressed",
    "Evaluation",
    "GateSettings",
    "Progress",
    "Record",
    "Samples",
    "TrainSettings",
    "TrainingData",
    "Variational",
    "compress",
    "elbo",
    "evaluate",
    "finetune",
    "fit",
    "fit_gates",
    "kl",
    "make_variational",
    "predict",
    "rebuild",
    "recalibrate",
    "reproducible",
    "samples",
]

_HOMES = {
    "evaluation": ("Evaluation", "evaluate", "predict"),
    "folder": ("Record",),
    "pipeline": ("Compressed", "compress", "finetune"),
    "removal": ("rebuild", "recalibrate"),
    "training_data": ("Samples", "TrainingData", "samples"),
    "train": ("Progress", "fit", "fit_gates", "reproducible"),
    "variational": ("Variational", "elbo", "kl", "make_variational"),
}


def __getattr__(name: str) -> object:
    """Return a public name from the module where it lives.

    Raises:
        MissingExtraError: torch is not installed.
    """
    for home, names in _HOMES.items():
        if name in names:
            with needs_extra("torch", wanted_by=f"edgepe.compress.{name}"):
                found: object = getattr(importlib.import_module(f"edgepe.compress.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
